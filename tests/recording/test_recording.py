"""The recording in memory: tables, grid, and what messages leave behind."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from engine.events import SPAN, Batch, Budget, Ready, Residency, decode_notice, encode
from engine.recording.recording import Recording
from engine.recording.table import Table
from tests.factory import make_messages, make_model, make_recording


def test_factory_messages_are_valid_and_add_up() -> None:
    recording = Recording()
    for message in make_messages():
        recording.append(decode_notice(encode(message)))
    tokens = recording.tokens.rows()
    assert len(tokens) == len(recording.pieces) == 50
    parts = ("attention", "router", "compute", "stall", "head", "sampling", "framework")
    assert np.array_equal(sum(tokens[name] for name in parts), tokens["duration"])
    assert tokens["hits"].sum() == recording.grid.hits.sum() > 0
    assert tokens["capacity"].sum() > 0
    assert recording.grid.uses.sum() == len(recording.accesses)
    assert recording.duration >= tokens["start"][-1] + tokens["duration"][-1]
    assert [change.name for change in recording.changes] == ["bits"]
    assert recording.effective["bits"] == 8
    assert recording.settings["bits"] == 4
    assert recording.state == "idle"
    assert [request.first_token for request in recording.requests] == [0, 25]


def test_grid_equals_a_count_by_hand() -> None:
    recording = make_recording(layers=3, experts=5, top_k=2, tokens=20)
    last: dict[tuple[int, int], tuple[int, int]] = {}
    hits = np.zeros((3, 5), int)
    for row in recording.accesses.rows():
        last[row["layer"], row["expert"]] = (row["token"], row["outcome"])
        hits[row["layer"], row["expert"]] += row["outcome"] == 0
    for (layer, expert), (token, outcome) in last.items():
        assert (recording.grid.last_token[layer, expert], recording.grid.last_outcome[layer, expert]) == (token, outcome)
    assert np.array_equal(recording.grid.hits, hits)
    assert np.array_equal(recording.grid.hits + recording.grid.misses, recording.grid.uses)
    last.clear()
    for row in recording.residency.rows():
        last[row["layer"], row["expert"]] = (row["state"], row["bits"])
    for (layer, expert), (state, bits) in last.items():
        assert (recording.grid.state[layer, expert], recording.grid.bits[layer, expert]) == (state, bits)


def test_a_reload_empties_the_buffer_and_another_model_starts_the_grid_anew() -> None:
    recording = make_recording(tokens=10)
    used = recording.grid.uses.sum()
    settings = recording.settings
    recording.append(Ready(time=1, model=make_model(), settings=settings, effective=settings, budget=Budget(1, 1, 1)))
    assert (recording.grid.state == Residency.ABSENT).all()
    assert recording.grid.uses.sum() == used
    recording.append(Ready(time=2, model=make_model(layers=3), settings=settings, effective=settings, budget=Budget(1, 1, 1)))
    assert recording.grid.uses.shape == (3, 16)
    assert not recording.grid.uses.any()


@pytest.mark.parametrize(("t0", "t1"), [(0, 5), (5, 5), (14, 15), (16, 18), (30, 99), (100, 200)])
def test_between_finds_what_overlaps(t0: int, t1: int) -> None:
    table = Table("spans")
    rows = np.zeros(5, SPAN)
    rows["start"], rows["duration"] = [0, 10, 12, 15, 30], [5, 20, 2, 0, 1]
    table.append(rows[:2])
    table.append(rows[2:])
    expected = [row for row in rows if row["start"] <= t1 and row["start"] + row["duration"] >= t0]
    assert table.between(t0, t1).tolist() == [row.tolist() for row in expected]


def test_search_finds_the_first_row_not_below() -> None:
    table = Table("spans")
    rows = np.zeros(5, SPAN)
    rows["start"] = [3, 5, 5, 5, 9]
    table.append(rows)
    assert [table.search("start", value) for value in (0, 3, 4, 5, 6, 9, 10)] == [0, 0, 1, 1, 4, 4, 5]
    assert Table("spans").search("start", 1) == 0


def test_columns_handed_out_stay_as_they_were() -> None:
    table = Table("spans")
    table.append(np.ones(3, SPAN))
    column = table.column("start")
    table.append(np.zeros(5000, SPAN))
    assert column.tolist() == [1, 1, 1]
    assert table.column("start", -2).tolist() == [0, 0]
    assert table.rows(2, 4)["start"].tolist() == [1, 0]
    with pytest.raises(ValueError, match="read-only"):
        column[0] = 7


def test_revision_grows_with_every_message() -> None:
    recording = Recording()
    recording.append(Batch(tables={}, pieces=[], lost=3))
    assert (recording.revision, recording.lost) == (1, 3)


def test_a_model_told_before_it_was_said_what_decodes_it_is_read() -> None:
    """Fields at the end that older sessions lack take their defaults."""
    ready = next(message for message in make_messages() if isinstance(message, Ready))
    told = msgspec.msgpack.decode(encode(ready))
    told["model"]["kernel_note"] = "what was told then and is no longer"
    del told["model"]["decode"]
    old = decode_notice(msgspec.msgpack.encode(told))
    assert isinstance(old, Ready) and old.model.decode == "transformers"
