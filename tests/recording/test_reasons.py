"""Why an expert is in memory or is not, from the rows that say so."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from engine.events import RESIDENCY, TABLES, Applied, Batch, Budget, Outcome, Residency
from engine.recording.history import ExpertHistory
from engine.recording.reasons import Reason, policy_at, reason_of
from engine.recording.recording import Recording
from tests.factory import make_messages, make_recording

LOADING, RESIDENT, STAGED, ABSENT = Residency.LOADING, Residency.RESIDENT, Residency.STAGED, Residency.ABSENT
ROOM, NAN = 1_000_000_000_000, float("nan")  # ns: after all that the factory made


def after(rows: Sequence[tuple[object, ...]]) -> Recording:
    """A recording that ends with these changes: (token, layer, expert, state, score, newcomer, runner-up), a µs apart."""
    recording = make_recording()
    told = [(ROOM + 1000 * n, *row[:4], 4, *row[4:]) for n, row in enumerate(rows)]
    recording.append(Batch({"residency": np.array(told, RESIDENCY).tobytes()}, []))
    return recording


def reason(recording: Recording, layer: int = 2, expert: int = 3) -> Reason:
    history = ExpertHistory(recording, layer, expert)
    history.follow()
    told = reason_of(history)
    assert told is not None
    return told


def test_an_evicted_one_knows_who_came_and_who_was_next() -> None:
    recording = after([
        (60, 2, 3, LOADING, 0.0, 0, 0.0), (60, 2, 3, RESIDENT, 0.0, 0, 0.0),
        (70, 2, 3, ABSENT, -0.5, 5 * 16 + 7 + 1, -0.75), (70, 5, 7, LOADING, 0.0, 0, 0.0),
    ])  # fmt: skip
    told = reason(recording)
    assert told.state == ABSENT and told.evicted is not None and told.arrival is not None
    assert (told.arrival.why, told.arrival.token) == ("demand", 60)
    lost = told.evicted
    assert (lost.token, lost.newcomer, lost.score, lost.runner_up, lost.policy) == (70, (5, 7), -0.5, -0.75, "lru")


def test_a_smaller_budget_has_no_newcomer_and_an_old_session_tells_nothing() -> None:
    arrived = [(60, 2, 3, LOADING, 0.8, 0, 0.0), (60, 2, 3, STAGED, 0.0, 0, 0.0), (61, 2, 3, RESIDENT, 0.0, 0, 0.0)]
    cut = reason(after([*arrived, (70, 2, 3, ABSENT, -0.5, -1, -0.75)])).evicted
    old = reason(after([*arrived, (70, 2, 3, ABSENT, -0.5, 0, 0.0)])).evicted
    assert cut is not None and (cut.newcomer, cut.told, cut.runner_up) == (None, True, -0.75)
    assert old is not None and (old.newcomer, old.told) == (None, False) and isnan(old.runner_up)


@pytest.mark.parametrize(("rows", "left"), [
    ([(60, 2, 3, LOADING, 0.8, 0, 0.0), (60, 2, 3, STAGED, 0.0, 0, 0.0), (61, 2, 3, ABSENT, 0.0, 0, 0.0)], "let go"),
    ([(60, 2, 3, LOADING, 0.8, 0, 0.0), (61, 2, 3, ABSENT, 0.0, 0, 0.0)], "dropped"),
])  # fmt: skip
def test_what_no_policy_evicted(rows: list[tuple[object, ...]], left: str) -> None:
    told = reason(after(rows))
    assert (told.evicted, told.left, told.uses) == (None, left, 0)
    assert told.arrival is not None and told.arrival.why == "read ahead" and told.arrival.odds == pytest.approx(0.8)


def test_a_resident_one_was_spared_by_the_newest_eviction_that_could_have_been_its_own() -> None:
    stay = [(-1, 2, 3, LOADING, 0.0, 0, 0.0), (-1, 2, 3, RESIDENT, 0.0, 0, 0.0)]
    others = [(70, 4, 4, ABSENT, -0.5, 88, -0.75), (71, 4, 5, ABSENT, -0.4, 89, NAN), (72, 4, 6, ABSENT, -1, -1, -2)]
    told = reason(after([*stay, *others]))
    assert told.arrival is not None and told.arrival.why == "warm start"
    assert told.spared is not None and (told.spared.token, told.spared.loser, told.spared.runner_up) == (70, (4, 4), -0.75)
    assert reason(after([*others, *stay])).spared is None  # it came later


def test_one_in_use_could_not_have_left() -> None:
    recording = make_recording()
    uses = recording.accesses.rows()
    use = uses[uses["outcome"] == Outcome.HIT][-1]
    layer, expert, token = int(use["layer"]), int(use["expert"]), int(use["token"])
    rows = [(ROOM, token, layer, expert, RESIDENT, 4, 0.0, 0, 0.0), (ROOM + 1, token, 0, 0, ABSENT, 4, -0.5, layer * 16 + 9 + 1, -0.75)]
    recording.append(Batch({"residency": np.array(rows, RESIDENCY).tobytes()}, []))
    assert reason(recording, layer, expert).spared is None


def test_the_policy_is_that_of_the_moment() -> None:
    recording = make_recording()
    now = recording.duration
    recording.append(Applied(now + 10, 50, "eviction", "lru", "edgemoe", "edgemoe", Budget(1, 1, 1)))
    assert [policy_at(recording, now + more) for more in (0, 10)] == ["lru", "edgemoe"]


def test_a_session_without_the_columns_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they were written before who came instead was recorded."""
    old = np.dtype([(name, RESIDENCY[name]) for name in RESIDENCY.names if name not in ("newcomer", "runner_up")])
    messages = list(make_messages())
    with monkeypatch.context() as then:
        then.setitem(TABLES, "residency", old)
        recording = Recording(tmp_path / "old.edgemoe")
        for message in messages:
            if isinstance(message, Batch) and "residency" in message.tables:
                rows = np.frombuffer(message.tables["residency"], RESIDENCY)
                thin = np.empty(len(rows), old)
                for name in old.names:
                    thin[name] = rows[name]
                message = Batch({**message.tables, "residency": thin.tobytes()}, message.pieces)
            recording.append(message)
        recording.close()
    reopened = Recording.open(tmp_path / "old.edgemoe")
    rows = reopened.residency.rows()
    assert len(rows) and not rows["newcomer"].any() and not rows["runner_up"].any()
    gone = rows[(rows["state"] == ABSENT)][-1]
    told = reason(reopened, int(gone["layer"]), int(gone["expert"]))
    assert told.evicted is None or not told.evicted.told
    reopened.close()
