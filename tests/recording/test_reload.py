"""A model loaded again, or another one, in the same session: what it does to grid, history and statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.events import RESIDENCY, SAMPLE, TABLES, TIME_COLUMN, Applied, Batch, Budget, Notice, Ready, Residency
from engine.recording import journal
from engine.recording.history import ExpertHistory
from engine.recording.recording import Recording
from engine.recording.statistics import peak_resident, summarize
from engine.settings import defaults
from tests.factory import make_messages, make_model

LATER = 10_000_000_000  # ns between the two parts


def moved(message: Batch, tokens: int, requests: int) -> Batch:
    """The batch as an engine tells it that goes on counting: later, and with numbers that follow."""
    tables = {}
    for name, data in message.tables.items():
        rows = np.frombuffer(data, TABLES[name]).copy()
        rows[TIME_COLUMN[name]] += LATER
        if "token" in (rows.dtype.names or ()):
            rows["token"] += tokens
        if name == "tokens":
            rows["request"] += requests
        tables[name] = rows.tobytes()
    return Batch(tables, message.pieces)


def session(experts: int = 16) -> list[Notice]:
    """20 tokens of an 8 × 16 model; then it, or one of as many ``experts``, is loaded and produces 20 more."""
    first = list(make_messages(tokens=20))
    second = [moved(m, 20, 2) for m in make_messages(experts=experts, tokens=20, seed=1) if isinstance(m, Batch)]
    ready = Ready(LATER, make_model(experts=experts), defaults(), defaults(), Budget(1, 1, 1))
    return [*first, ready, *second]


@pytest.fixture(params=["live", "reopened", "reopened, one flush"])
def record(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``record(messages)``: the recording of them, as it grew or as its file has it."""

    def make(messages: list[Notice]) -> Recording:
        if request.param == "reopened":
            monkeypatch.setattr(journal, "FLUSH_SECONDS", 0)
        recording = Recording(None if request.param == "live" else tmp_path / "run.edgemoe")
        for message in messages:
            recording.append(message)
        if request.param == "live":
            return recording
        recording.close()
        return Recording.open(tmp_path / "run.edgemoe")

    return make


def test_a_reload_empties_the_buffer_and_keeps_the_counts(record) -> None:
    recording = record(session())
    assert recording.reloads == [LATER]
    assert recording.grid.uses.sum() == len(recording.accesses)
    states = np.zeros((8, 16), np.uint8)
    for row in recording.residency.rows():
        if row["time"] >= LATER:
            states[row["layer"], row["expert"]] = row["state"]
    assert np.array_equal(recording.grid.state, states), "what was resident before the reload is not any more"
    tokens = recording.tokens.column("start")
    for table in (recording.accesses, recording.residency):
        rows = table.rows()
        assert (rows["time"] >= tokens[rows["token"]]).all(), "every row is of the token that it names"


def test_history_over_a_reload(record) -> None:
    recording = record(session())
    resident = np.zeros((8, 16), bool)
    for row in recording.residency.rows():
        if row["time"] < LATER:
            resident[row["layer"], row["expert"]] = row["state"] == Residency.RESIDENT
    for layer, expert in np.argwhere(resident).tolist():
        history = ExpertHistory(recording, layer, expert)
        while history.follow(limit=37) < 1:
            pass
        stays = history.stretches()
        stayed = stays.state == Residency.RESIDENT
        assert not (stayed & (stays.start < LATER) & (stays.end > LATER)).any(), "no stay goes on over a reload"
        dropped = [event for event in history.events(10_000) if event.what == "unloaded"]
        assert [(event.time, event.token) for event in dropped] == [(LATER, 20)]
        rows = recording.residency.rows()
        mine = rows[(rows["layer"] == layer) & (rows["expert"] == expert)]
        assert history.account().evictions == (mine["state"] == Residency.ABSENT).sum(), "to be unloaded is not to be evicted"


def test_history_is_told_of_a_reload_that_nothing_followed() -> None:
    recording = Recording()
    row = np.array([(5, 0, 1, 2, Residency.RESIDENT, 4, 0.0, 0, 0.0)], RESIDENCY)
    ready = Ready(0, make_model(), defaults(), defaults(), Budget(1, 1, 1))
    for message in (ready, Batch({"residency": row.tobytes()}, [])):
        recording.append(message)
    history = ExpertHistory(recording, 1, 2)
    history.follow()
    for time in (7, 9):
        recording.append(Ready(time, make_model(), defaults(), defaults(), Budget(1, 1, 1)))
    assert history.follow() == 1
    assert [(event.time, event.what) for event in history.events()] == [(7, "unloaded"), (5, "loaded")]


def test_another_model_begins_anew(record) -> None:
    recording = record(session(experts=8))
    accesses = recording.accesses.rows()
    late = accesses[accesses["time"] >= LATER]
    assert (recording.loaded, recording.reloads, recording.grid.shape) == (LATER, [], (8, 8))
    assert recording.grid.uses.sum() == len(late) < len(accesses)
    history = ExpertHistory(recording, 0, 0)
    history.follow()
    assert len(history.uses) == recording.grid.uses[0, 0] == ((late["layer"] == 0) & (late["expert"] == 0)).sum()
    assert all(event.time >= LATER for event in history.events(10_000))
    about, tokens = summarize(recording), recording.tokens.rows()
    assert (about.tokens, about.hits) == (40, tokens["hits"].sum())


def test_counters_of_the_process_go_on_over_a_reload() -> None:
    samples = np.zeros(5, SAMPLE)
    samples["time"] = [10, 20, 30, 40, 50]
    samples["read_bytes"] = [5, 9, 0, 3, 4]  # the third is of a model loaded anew
    recording = Recording()
    recording.append(Batch({"samples": samples.tobytes()}, []))
    assert summarize(recording).read_bytes == 9 + 4
    assert summarize(recording, 20, 45).read_bytes == 3
    assert summarize(recording, None, 25).read_bytes == 9


def test_the_peak_is_that_of_the_range() -> None:
    samples = np.zeros(5, SAMPLE)
    samples["time"] = [10, 20, 30, 40, 50]
    samples["resident_bytes"] = [1, 2, 2, 3, 1]
    samples["peak_resident_bytes"] = [1, 7, 7, 8, 2]  # the last is of a model loaded anew
    recording = Recording()
    recording.append(Batch({"samples": samples.tobytes()}, []))
    assert peak_resident(recording) == summarize(recording).peak_resident_bytes == 8
    for start, end, peak in ((10, 10, 1), (10, 20, 7), (30, 30, 2), (30, 40, 8), (50, 50, 1)):
        assert peak_resident(recording, start, end) == summarize(recording, start, end).peak_resident_bytes == peak
    assert np.isnan(peak_resident(recording, 11, 12))


def test_it_knows_at_which_bits_every_expert_is_wanted(record) -> None:
    budget, plan = Budget(1, 1, 1), bytes([2, 8] * 64)
    mixed = record([
        Ready(0, make_model(), defaults(), {**defaults(), "bits": 4}, budget, plan),
        Applied(1, 0, "bits", 4, 8, 8, budget),  # the plan goes before
    ])  # fmt: skip
    assert mixed.wanted().tolist() == list(plan)
    mixed.append(Applied(2, 0, "plan", "a", "", "", budget))
    assert mixed.wanted().tolist() == [8] * 128
    mixed.append(Applied(3, 0, "plan", "", "a", "a", budget, plan))
    assert mixed.wanted().tolist() == list(plan) and not len(Recording().wanted())
