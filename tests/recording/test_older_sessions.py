"""Sessions of another version: what they lack reads as nothing, what they have besides is left out, and all else is there."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import numpy as np
import pytest

from engine.events import TABLES, TOKEN, Batch
from engine.recording.exports import export
from engine.recording.recording import Recording
from engine.recording.statistics import summarize
from tests.factory import make_messages, make_recording
from tests.recording.test_session_file import assert_same


def test_columns_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.edgemoe"
    live = make_recording(path=path)
    spans, tokens = live.spans.rows(), live.tokens.rows()
    live.close()
    fewer = np.dtype([(name, live.spans.dtype[name]) for name in live.spans.dtype.names[:-1]] + [("new", "<f4")])
    monkeypatch.setitem(TABLES, "spans", fewer)
    monkeypatch.setitem(TABLES, "tokens", np.dtype([*((name, tokens.dtype[name]) for name in tokens.dtype.names[1:]), ("new", "<f4")]))
    again = Recording.open(path)
    assert np.array_equal(again.spans.column("expert"), spans["expert"])
    assert not again.spans.rows()["new"].any()
    assert np.array_equal(again.tokens.column("hits"), tokens["hits"])
    again.close()


def test_a_session_from_before_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded without their table and without the column of preloaded experts: they read as nothing, and all else is there."""
    path = tmp_path / "run.edgemoe"
    older = np.dtype([(name, TABLES["tokens"][name]) for name in TABLES["tokens"].names or () if name != "preloaded"])
    messages = list(make_messages())
    with monkeypatch.context() as before:
        before.setitem(TABLES, "tokens", older)
        before.setattr("engine.recording.session_file.TABLES", {name: dtype for name, dtype in TABLES.items() if name != "predictions"})
        live = Recording(path)
        for message in messages:
            if isinstance(message, Batch):
                rows = np.frombuffer(message.tables.get("tokens", b""), TOKEN)[list(older.names or ())].astype(older)
                kept = {name: data for name, data in message.tables.items() if name not in ("predictions", "tokens")}
                message = Batch(kept | ({"tokens": rows.tobytes()} if len(rows) else {}), message.pieces)
            live.append(message)
        tokens = live.tokens.rows()
        live.close()
    again = Recording.open(path)
    assert len(again.predictions) == 0
    assert not again.tokens.column("preloaded").any()
    assert all(np.array_equal(again.tokens.column(name), tokens[name]) for name in older.names or ())
    told = summarize(again)
    assert told.hits > 0 and isnan(told.recall) and isnan(told.misses_covered)
    assert export(again, tmp_path / "t.csv") == len(tokens)
    assert export(again, tmp_path / "t.json") > 0
    again.save_as(tmp_path / "copy.edgemoe")
    copy = Recording.open(tmp_path / "copy.edgemoe")
    assert_same(copy, again)
    again.close()
    copy.close()
