"""What became of reads ahead: by hand, against a count one by one, and the same in any number of steps."""

from __future__ import annotations

import numpy as np
import pytest

from engine.events import ACCESS, RESIDENCY, Outcome, Residency, SpanKind
from engine.recording import preloads as module
from engine.recording.preloads import PRELOAD, Fate, Preloads, settle
from engine.recording.recording import Recording
from engine.recording.statistics import summarize
from tests.factory import make_messages, make_recording


def asked(*rows: tuple[int, int, int]) -> np.ndarray:
    """Reads ahead of (time, layer, expert)."""
    out = np.zeros(len(rows), PRELOAD)
    out["duration"] = out["user"] = -1
    for name, values in zip(("asked", "layer", "expert"), zip(*rows, strict=True), strict=True):
        out[name] = values
    return out


def changes(*rows: tuple[int, int, int, Residency]) -> np.ndarray:
    return np.array([(time, 0, layer, expert, state, 4, 0.0, 0, 0.0) for time, layer, expert, state in rows], RESIDENCY)


def uses(*rows: tuple[int, int, int, int, Outcome]) -> np.ndarray:
    return np.array([(time, token, layer, expert, 4, outcome, 0, 1, 1, 0.5) for time, token, layer, expert, outcome in rows], ACCESS)


def test_the_first_that_happens_to_it_is_its_fate() -> None:
    told = settle(
        asked((10, 1, 3), (10, 1, 4), (10, 1, 5), (10, 1, 6), (40, 1, 3), (10, 2, 3), (50, 2, 7)),
        changes((30, 1, 3, Residency.ABSENT), (30, 1, 5, Residency.ABSENT), (60, 2, 7, Residency.LOADING), (12, 1, 6, Residency.STAGED)),
        uses((20, 7, 1, 3, Outcome.PRELOADED), (25, 8, 1, 4, Outcome.LATE), (45, 9, 1, 3, Outcome.HIT), (35, 9, 1, 5, Outcome.CAPACITY)),
    )
    assert told["fate"].tolist() == [
        Fate.USED, Fate.JOINED, Fate.WASTED, Fate.PENDING, Fate.PENDING, Fate.PENDING, Fate.WASTED,
    ]  # fmt: skip
    assert told["settled"].tolist() == [20, 25, 30, 0, 0, 0, 60]
    assert told["user"].tolist() == [7, 8, -1, -1, -1, -1, -1]


def test_nothing_to_say_leaves_all_pending() -> None:
    rows = asked((1, 0, 0))
    assert np.array_equal(settle(rows, changes()[:0], uses()[:0]), rows)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return make_recording(ahead=True, tokens=60)


def one_by_one(recording: Recording) -> list[tuple[int, int, int, int]]:
    """(asked, layer, expert, fate) by walking through everything that happened."""
    events = [(row["time"], 0, row["layer"], row["expert"], row["state"], row["score"]) for row in recording.residency.rows()]
    events += [(row["time"], 1, row["layer"], row["expert"], row["outcome"], 0) for row in recording.accesses.rows()]
    under_way: dict[tuple[int, int], int] = {}
    out = []
    for time, kind, layer, expert, what, score in sorted(events, key=lambda event: event[:2]):
        key = int(layer), int(expert)
        if kind == 0 and what == Residency.LOADING and score > 0:
            under_way[key] = len(out)
            out.append([int(time), *key, Fate.PENDING])
        elif key in under_way and (kind == 0 and what == Residency.ABSENT):
            out[under_way.pop(key)][3] = Fate.WASTED
        elif key in under_way and kind == 1:
            out[under_way.pop(key)][3] = {Outcome.PRELOADED: Fate.USED, Outcome.LATE: Fate.JOINED}[what]
    return [tuple(row) for row in out]


def test_all_of_a_session_as_counted_one_by_one(recording: Recording) -> None:
    preloads = Preloads()
    assert preloads.catch_up(recording)
    rows = preloads.rows
    assert [tuple(row) for row in rows[["asked", "layer", "expert", "fate"]].tolist()] == one_by_one(recording)
    assert set(rows["fate"].tolist()) == set(Fate)
    told, size = summarize(recording), 110_000
    first = rows["asked"] < recording.changes[0].time  # of one width
    assert (rows["fate"] == Fate.USED).sum() == told.preloaded
    assert (rows["fate"] == Fate.JOINED).sum() == told.late
    wasted = (rows["fate"] == Fate.WASTED) & first & (rows["settled"] < recording.changes[0].time)
    assert wasted.sum() * size == recording.tokens.column("preload_wasted_bytes", 0, recording.changes[0].token).sum()


def test_every_span_finds_its_own(recording: Recording) -> None:
    preloads, spans = Preloads(), recording.spans.rows()
    preloads.catch_up(recording)
    found = preloads.find(spans)
    ahead = (spans["kind"] == SpanKind.READ) & (spans["outcome"] == Outcome.PRELOADED)
    assert np.array_equal(found >= 0, ahead)
    for name in ("start", "duration", "layer", "expert", "lane", "token"):
        assert np.array_equal(preloads.rows[name][found[ahead]], spans[name][ahead]), name
    assert len(set(found[ahead].tolist())) == ahead.sum(), "no two spans are of the same read"
    assert (preloads.find(spans[:0])).tolist() == []
    settled = preloads.rows["fate"] != Fate.PENDING
    times = preloads.rows["duration"][settled & (preloads.rows["duration"] >= 0)].sum()
    assert preloads.time.sum() == pytest.approx(times)


@pytest.mark.parametrize("chunk", [7, 100])
def test_steps_come_to_the_same(recording: Recording, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stepped, growing = Preloads(), Preloads(), Preloads()
    whole.catch_up(recording)
    grown = Recording()
    for message in make_messages(ahead=True, tokens=60):
        grown.append(message)
        growing.catch_up(grown)
    monkeypatch.setattr(module, "CHUNK", chunk)
    while not stepped.catch_up(recording):
        pass
    for other in (stepped, growing):
        assert np.array_equal(other.rows, whole.rows)
        assert other.time.sum() == pytest.approx(whole.time.sum())


def test_one_dropped_before_its_read_began_takes_no_other_s_span() -> None:
    recording = Recording()
    rows = changes((10, 1, 3, Residency.LOADING), (12, 1, 3, Residency.ABSENT), (20, 1, 3, Residency.LOADING), (40, 1, 3, Residency.STAGED))
    rows["score"][[0, 2]] = 0.7
    recording._add("residency", rows)
    spans = np.zeros(1, recording.spans.dtype)
    for name, value in (("start", 21), ("duration", 15), ("layer", 1), ("expert", 3), ("kind", SpanKind.READ), ("lane", 1)):
        spans[name] = value
    spans["outcome"] = Outcome.PRELOADED
    recording._add("spans", spans)
    preloads = Preloads()
    preloads.catch_up(recording)
    assert preloads.rows["fate"].tolist() == [Fate.WASTED, Fate.PENDING]
    assert preloads.find(spans).tolist() == [1]


def test_sessions_without_any_cost_nothing() -> None:
    preloads = Preloads()
    assert preloads.catch_up(make_recording(tokens=10))
    assert len(preloads) == 0 and not preloads.time.any()
