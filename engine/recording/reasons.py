"""Why one expert is in memory, or is not: how it came, what it was worth to the policy, who took its place."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

import numpy as np

from engine.events import RESIDENCY, Residency
from engine.recording.history import ExpertHistory
from engine.recording.recording import Recording
from engine.residency import policy_name

_NEWEST = 1 << 13  # changes of all experts that are looked at for an eviction which this one was spared


@dataclass(frozen=True)
class Arrival:
    """How it came into memory: ``why`` is demand, read ahead (for the probability ``odds``) or warm start; ``token`` -1 outside a pass."""

    time: int
    token: int
    why: str
    odds: float = 0.0


@dataclass(frozen=True)
class Eviction:
    """``loser`` (layer, expert) had the highest ``score`` by ``policy`` and left; ``runner_up`` is the score of who was next.

    ``newcomer`` is whom it made room for; None where less was to be in memory, or where the session does not tell, ``told`` False.
    ``runner_up`` is nan where nobody else could leave, or it was not told.
    """

    time: int
    token: int
    loser: tuple[int, int]
    policy: str
    score: float
    told: bool
    newcomer: tuple[int, int] | None
    runner_up: float


@dataclass(frozen=True)
class Reason:
    """``state`` now, and of the stay that goes on, else the last: its ``arrival``, how many ``uses`` it had, ``last_use`` (token, or -1).

    ``evicted`` is how that stay ended, where a policy ended it; ``left`` how else: let go, dropped or unloaded. ``spared`` is the newest
    eviction that could have been this one's: its score was at most the runner-up's then.
    """

    state: Residency
    arrival: Arrival | None
    uses: int
    last_use: int
    evicted: Eviction | None = None
    left: str = ""
    spared: Eviction | None = None


def reason_of(history: ExpertHistory) -> Reason | None:
    """The reason for an expert's state now; None where it never was in memory. The history has to be read to its end."""
    changes = history.changes
    states, scores = changes.column("state"), changes.column("score")
    asked = np.flatnonzero(states == Residency.LOADING)
    if not len(asked):
        return None
    now, first = Residency(int(states[-1])), int(asked[-1])
    arrival = _arrival(history, first)
    used = _used_since(history, arrival)
    told = (now, arrival, len(used), int(used[-1]) if len(used) else -1)
    if now != Residency.ABSENT:
        return Reason(*told, spared=_spared(history, arrival) if now == Residency.RESIDENT else None)
    before = Residency(int(states[-2]))
    if isnan(scores[-1]):
        return Reason(*told, left="unloaded")
    if before != Residency.RESIDENT:
        return Reason(*told, left="let go" if before == Residency.STAGED else "dropped")
    row = np.empty(1, RESIDENCY)
    changes.fill(row, 0, slice(len(changes) - 1, None))
    return Reason(*told, evicted=_eviction(history.recording, row[0]))


def policy_at(recording: Recording, time: int) -> str:
    """The policy in force at ``time`` ns, of the model of now."""
    name = str(recording.effective.get("eviction", "default"))
    for change in reversed(recording.changes):
        if change.name == "eviction" and change.time > time:
            name = str(change.old)
    return policy_name(name)


def _arrival(history: ExpertHistory, row: int) -> Arrival:
    time, token, odds = (history.changes.column(name)[row] for name in ("time", "token", "score"))
    why = "warm start" if token < 0 else "read ahead" if odds > 0 else "demand"
    return Arrival(int(time), int(token), why, float(odds))


def _used_since(history: ExpertHistory, arrival: Arrival) -> np.ndarray:
    """The tokens that used it in a stay. A demand is told as a use just before it is told as a load."""
    time, token = history.uses.column("time"), history.uses.column("token")
    return token[token >= arrival.token] if arrival.why == "demand" else token[time >= arrival.time]


def _eviction(recording: Recording, row: np.void) -> Eviction:
    told, experts = int(row["newcomer"]), recording.grid.shape[1]
    newcomer = divmod(told - 1, experts) if told > 0 else None
    return Eviction(
        int(row["time"]), int(row["token"]), (int(row["layer"]), int(row["expert"])), policy_at(recording, int(row["time"])),
        float(row["score"]), told != 0, newcomer, float(row["runner_up"]) if told else float("nan"),
    )  # fmt: skip


def _spared(history: ExpertHistory, arrival: Arrival) -> Eviction | None:
    """The newest eviction for a newcomer at which this expert was in memory and not in use, so that it could have left as well."""
    table = history.recording.residency
    rows = table.rows(max(0, len(table) - _NEWEST))
    since = int(history.changes.column("time")[-1])
    rows = rows[(rows["state"] == Residency.ABSENT) & (rows["newcomer"] > 0) & ~np.isnan(rows["runner_up"]) & (rows["time"] > since)]
    layers = (rows["newcomer"] - 1) // max(1, history.recording.grid.shape[1])
    busy = (layers == history.layer) & np.isin(rows["token"], history.uses.column("token"))
    free = np.flatnonzero(~busy)
    return _eviction(history.recording, rows[free[-1]]) if len(free) else None
