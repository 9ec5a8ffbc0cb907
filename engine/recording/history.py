"""What happened to one expert."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from engine.events import Outcome, Residency
from engine.recording.recording import Recording
from engine.recording.table import Table

OUTCOME_NAMES = {
    Outcome.HIT: "hit", Outcome.FIRST_TOUCH: "first touch", Outcome.CAPACITY: "capacity", Outcome.MISPREDICTED: "mispredicted",
    Outcome.LATE: "late",
}  # fmt: skip
STATE_NAMES = {Residency.ABSENT: "evicted", Residency.LOADING: "loading", Residency.RESIDENT: "loaded"}

_STRIDE = 1 << 16  # rows looked at in one go


class Event(NamedTuple):
    """``time`` in ns, ``token`` row (-1: outside a pass), ``what``: used, loading, loaded or evicted; ``outcome`` is a name where used."""

    time: int
    token: int
    what: str
    bits: int
    outcome: str


def expert_history(recording: Recording, layer: int, expert: int, limit: int = 200) -> list[Event]:
    """The newest ``limit`` uses and changes of state of one expert, newest first."""
    changes, uses = _newest(recording.residency, layer, expert, limit), _newest(recording.accesses, layer, expert, limit)
    events = [_event(row, _name(STATE_NAMES, int(row["state"])), "") for row in changes]
    events += [_event(row, "used", _name(OUTCOME_NAMES, int(row["outcome"]))) for row in uses]
    events.sort(key=lambda event: event.time)  # stable: what happened at the same ns stays in order
    events.reverse()
    return events[:limit]


def _event(row: np.void, what: str, outcome: str) -> Event:
    return Event(int(row["time"]), int(row["token"]), what, int(row["bits"]), outcome)


def _name(names: dict[Outcome, str] | dict[Residency, str], value: int) -> str:
    return {int(key): text for key, text in names.items()}.get(value, str(value))


def _newest(table: Table, layer: int, expert: int, limit: int) -> np.ndarray:
    """The last ``limit`` rows of one expert, oldest first, found from the end so that a long session costs no more than a short one."""
    found: list[np.ndarray] = []
    count, stop = 0, len(table)
    while stop > 0 and count < limit:
        start = max(0, stop - _STRIDE)
        mine = (table.column("expert", start, stop) == expert) & (table.column("layer", start, stop) == layer)
        if mine.any():
            found.append(table.rows(start, stop)[mine])
            count += len(found[-1])
        stop = start
    rows = np.concatenate(found[::-1]) if found else np.empty(0, table.dtype)
    return rows[-limit:] if limit > 0 else rows[:0]
