"""What happened to one expert."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan
from typing import NamedTuple

import numpy as np

from engine.events import ACCESS, PREDICTION, RESIDENCY, SPAN, TIME_COLUMN, Outcome, Residency, SpanKind
from engine.recording.columns import Columns
from engine.recording.outcomes import OUTCOME_NAMES, STATE_NAMES
from engine.recording.recording import Recording
from engine.recording.table import Table

_STRIDE = 1 << 14  # rows looked at in one go
_LEFT = {Residency.LOADING: "dropped", Residency.STAGED: "let go"}  # what to become absent is called, by the state before


class Event(NamedTuple):
    """``time`` in ns, ``token`` row (-1: outside a pass), ``what``: used, loading, loaded, read ahead, evicted, let go unused after it was
    read ahead, dropped before it was loaded, or unloaded with the model.

    ``outcome`` is a name where used; ``duration`` the ns from asking to having where loaded or read ahead; ``score`` the one that lost
    where evicted, ``newcomer`` (layer, expert) whom it made room for; ``odds`` the probability for which it was asked for ahead.
    """

    time: int
    token: int
    what: str
    bits: int
    outcome: str = ""
    duration: int = 0
    score: float = nan
    odds: float = 0.0
    newcomer: tuple[int, int] | None = None


class Stretches(NamedTuple):
    """How long one expert was in which state, in order, [n] each: ``start`` and ``end`` ns, ``state`` (Residency), ``bits``, and the tokens
    at its start and end, ``since`` and ``until``. The last stretch goes on and ends with the recording.
    """

    start: np.ndarray
    end: np.ndarray
    state: np.ndarray
    bits: np.ndarray
    since: np.ndarray
    until: np.ndarray


@dataclass(frozen=True)
class Account:
    """One expert in numbers, over the whole session; nan where there was none.

    ``weight`` is the mean gate weight over the tokens routed to it. ``stay_ns`` and ``stay_tokens`` are the means of the stays in
    memory that have ended, of the one that goes on where none has. Of the ``loads``, ``ahead`` were read ahead, and ``unused`` of these let
    go without a use. ``read_ns`` is the mean of the reads.
    """

    uses: int
    outcomes: tuple[int, ...]  # uses by Outcome
    hit_rate: float  # 0..1
    weight: float
    last_token: int  # -1: never used
    loads: int
    evictions: int
    ahead: int
    unused: int
    stay_ns: float
    stay_tokens: float
    reads: int
    read_bytes: int
    read_ns: float


class ExpertHistory:
    """The uses, changes of state, reads and predictions of one expert of the model of now, oldest first.

    ``follow`` takes in what the recording has more of; asking about it costs as much as this one expert has rows.
    """

    def __init__(self, recording: Recording, layer: int, expert: int) -> None:
        self.recording, self.layer, self.expert = recording, layer, expert
        self.uses, self.changes, self.reads, self.guesses = Columns(ACCESS), Columns(RESIDENCY), Columns(SPAN), Columns(PREDICTION)
        self._looked = {"accesses": 0, "residency": 0, "spans": 0, "predictions": 0}
        self._reloads = 0  # that stand among the changes

    def follow(self, limit: int | None = None) -> float:
        """Look at up to ``limit`` more rows of each table (None: all there are); returns the share of them looked at so far, 0 to 1."""
        recording = self.recording
        for table, found in (
            (recording.accesses, self.uses), (recording.residency, self.changes), (recording.spans, self.reads),
            (recording.predictions, self.guesses),
        ):  # fmt: skip
            start = self._looked[table.name]
            stop = len(table) if limit is None else min(len(table), start + limit)
            for first in range(start, stop, _STRIDE):
                self._gather(table, first, min(first + _STRIDE, stop), found)
            self._looked[table.name] = stop
            if found is self.changes and stop == len(table):
                self._change(np.empty(0, RESIDENCY), recording.duration)
        total = sum(len(getattr(recording, name)) for name in self._looked)
        return sum(self._looked.values()) / total if total else 1.0

    def events(self, limit: int = 200) -> list[Event]:
        """The newest ``limit`` events, newest first. A load that is over is one event, not two."""
        events = [*self._changed(limit), *self._used(limit)]
        events.sort(key=lambda event: event.time)  # stable: what happened at the same ns stays in order
        events.reverse()
        return events[:limit]

    def stretches(self) -> Stretches:
        """Its states over time."""
        time, token = self.changes.column("time"), self.changes.column("token")
        end = np.append(time[1:], max(self.recording.duration, int(time[-1]))) if len(time) else time
        later = np.append(token[1:], len(self.recording.tokens)) if len(token) else token
        return Stretches(time, end, self.changes.column("state"), self.changes.column("bits"), token, later)

    def account(self) -> Account:
        """All of it in numbers."""
        uses, weights, routed = len(self.uses), self.uses.column("weight"), self.uses.column("tokens")
        outcomes = np.bincount(self.uses.column("outcome"), minlength=len(Outcome))
        states, times = self.changes.column("state"), self.stretches()
        held = (states == Residency.RESIDENT) | (states == Residency.STAGED)
        first, last = held & ~np.append(False, held[:-1]), held & ~np.append(held[1:], False)
        begun, over = np.flatnonzero(first), np.flatnonzero(last)  # first and last row of each stay
        ended = over < len(states) - 1
        counted = ended if ended.any() else np.ones(len(over), bool)
        gone = (states == Residency.ABSENT) & ~np.isnan(self.changes.column("score"))
        lost, staged = over[ended], states == Residency.STAGED
        took = self.reads.column("duration")
        return Account(
            uses=uses, outcomes=tuple(outcomes.tolist()),
            hit_rate=float(outcomes[[Outcome.HIT, Outcome.PRELOADED]].sum() / uses) if uses else nan,
            weight=float(np.average(weights, weights=routed)) if routed.sum() else nan,
            last_token=int(self.uses.column("token")[-1]) if uses else -1,
            loads=len(begun), evictions=int((gone[lost + 1] & ~staged[lost]).sum()),
            ahead=int(staged.sum()), unused=int((gone[lost + 1] & staged[lost]).sum()),
            stay_ns=float((times.end[over] - times.start[begun])[counted].mean()) if len(over) else nan,
            stay_tokens=float((times.until[over] - times.since[begun])[counted].mean()) if len(over) else nan,
            reads=len(took), read_bytes=int(self.reads.column("bytes").sum(dtype=np.int64)),
            read_ns=float(took.mean()) if len(took) else nan,
        )  # fmt: skip

    def _gather(self, table: Table, start: int, stop: int, found: Columns) -> None:
        mine = (table.column("expert", start, stop) == self.expert) & (table.column("layer", start, stop) == self.layer)
        if table.name == "spans":
            mine &= table.column("kind", start, stop) == SpanKind.READ
        index = np.flatnonzero(mine)
        if not len(index):
            return
        rows = table.rows(start + int(index[0]), start + int(index[-1]) + 1)[index - index[0]]
        rows = rows[rows[TIME_COLUMN[table.name]] >= self.recording.loaded]  # the others are of another model
        if found is self.changes and len(rows):
            self._change(rows, int(rows["time"][-1]))
        else:
            found.append(rows)

    def _change(self, rows: np.ndarray, until: int) -> None:
        """Take in changes up to ``until`` ns. A reload empties the buffer without a word; here it is a change like others."""
        for time in self.recording.reloads[self._reloads :]:
            if time > until:
                break
            self._reloads += 1
            earlier = rows["time"] < time
            self.changes.append(rows[earlier])
            rows = rows[~earlier]
            if len(self.changes) and self.changes.column("state")[-1] != Residency.ABSENT:
                token = int(np.searchsorted(self.recording.tokens.column("start"), time))
                self.changes.append(np.array([(time, token, self.layer, self.expert, Residency.ABSENT, 0, nan, 0, 0)], RESIDENCY))
        self.changes.append(rows)

    def _changed(self, limit: int) -> list[Event]:
        # Two rows a load, three where it was read ahead, and the one before that tells how long it took.
        first = max(0, len(self.changes) - 3 * limit - 1)
        columns, experts = ("time", "token", "state", "bits", "score", "newcomer"), self.recording.grid.shape[1]
        time, token, state, bits, score, newcomer = (self.changes.column(name, first).tolist() for name in columns)
        events = []
        for row, now in enumerate(state):
            before = state[row - 1] if row else None
            if now == Residency.LOADING and row < len(state) - 1:
                continue
            if now == Residency.RESIDENT and before == Residency.STAGED:
                continue  # its use tells it
            event = Event(time[row], token[row], _name(STATE_NAMES, now), bits[row])
            if now == Residency.LOADING:
                event = event._replace(odds=score[row])
            elif now != Residency.ABSENT and before == Residency.LOADING:
                event = event._replace(duration=time[row] - time[row - 1], odds=score[row - 1])
            elif now == Residency.ABSENT:
                what = "unloaded" if isnan(score[row]) else _LEFT.get(before, "evicted") if before is not None else "evicted"
                to = divmod(newcomer[row] - 1, experts) if newcomer[row] > 0 else None
                event = event._replace(what=what, score=score[row] if what == "evicted" else nan, newcomer=to)
            events.append(event)
        return events[-limit:] if limit > 0 else []

    def _used(self, limit: int) -> list[Event]:
        first = max(0, len(self.uses) - limit)
        rows = zip(*(self.uses.column(name, first).tolist() for name in ("time", "token", "bits", "outcome")), strict=True)
        return [Event(time, token, "used", bits, _name(OUTCOME_NAMES, outcome)) for time, token, bits, outcome in rows]


def _name(names: dict[Outcome, str] | dict[Residency, str], value: int) -> str:
    return {int(key): text for key, text in names.items()}.get(value, str(value))
