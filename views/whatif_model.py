"""What other budgets and policies would have made of the session so far, replayed in a thread; the newest question wins.

T decoded tokens, N experts.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from PySide6.QtCore import QObject, Signal

from engine.errors import EngineError
from engine.events import Residency
from engine.recording.recording import Recording
from engine.residency import DEFAULT
from engine.simulate.cost import Costs, calibrated
from engine.simulate.live import LiveRouting
from engine.simulate.replay import ORACLE, Cell, Records, Replay
from engine.simulate.routing import Routing, checked
from profiles.devices import load_devices

POLICIES = (DEFAULT, "lru", "edgemoe", ORACLE)
SHARES = (0.06, 0.09, 0.125, 0.18, 0.25, 0.35, 0.5, 0.7, 0.9, 1.0)
MOST = 6000  # tokens replayed at most: the newest


@dataclass(frozen=True)
class Question:
    """A routing, what its records weigh and cost, who was resident before, the budget in force, and those that were."""

    routing: Routing
    records: Records
    costs: Costs
    budget: int
    top_k: int
    initial: np.ndarray
    before: tuple[int, ...] = ()

    @property
    def cycle(self) -> int:
        return self.records.cycle(self.routing.shape, self.top_k)


@dataclass(frozen=True)
class Curve:
    """One policy over budgets: bytes, hit rate (0..1), tokens/s by the cost model; ``misses`` [T] of the budgets that were in force."""

    policy: str
    budgets: list[int] = field(default_factory=list)
    hit_rates: list[float] = field(default_factory=list)
    tok_s: list[float] = field(default_factory=list)
    misses: dict[int, np.ndarray] = field(default_factory=dict)


class WhatIf(QObject):
    """``ask`` starts a job and lets an older one go; ``answered`` brings the curves so far, ``done`` says that they are complete."""

    answered = Signal(int, object)  # job, list of curves
    done = Signal(int)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._job, self._replay = 0, None  # type: int, Replay | None
        self._thread: threading.Thread | None = None

    def ask(self, question: Question) -> int:
        """Replay in the background; returns the job's number."""
        self.stop()
        self._job += 1
        replay = self._replay = Replay(question.routing, question.records, question.costs)
        self._thread = threading.Thread(target=self._work, args=(self._job, question, replay), name="what-if", daemon=True)
        self._thread.start()
        return self._job

    def stop(self) -> None:
        """Let the job under way go, and wait until it has."""
        if self._replay is not None:
            self._replay.stop()
        if self._thread is not None:
            self._thread.join()
        self._replay = self._thread = None

    def _work(self, job: int, question: Question, replay: Replay) -> None:
        full, curves = question.records.full, {policy: Curve(policy) for policy in POLICIES}
        least = question.top_k * max(question.records.bytes_by_bits.values())
        known = {question.budget, *question.before}
        budgets = sorted({max(least, int(full * share)) for share in SHARES} | known)
        for policy, curve in curves.items():
            for budget in budgets:
                try:
                    told = replay.run(Cell(budget, policy, initial=_fitting(question, budget)))
                except EngineError:
                    continue
                if told is None:
                    return
                curve.budgets.append(budget)
                curve.hit_rates.append(told.hit_rate)
                curve.tok_s.append(told.tok_s)
                if budget in known:
                    curve.misses[budget] = told.misses
            self.answered.emit(job, [c for c in curves.values() if c.budgets])
        self.done.emit(job)


def _fitting(question: Question, budget: int) -> np.ndarray:
    """As many of those resident to begin with as fit."""
    sizes = np.array([question.records.bytes_by_bits[int(question.records.bits[e])] for e in question.initial], np.int64)
    return question.initial[np.cumsum(sizes) <= budget] if len(sizes) else question.initial


def _sound(routing: Routing) -> Routing:
    """The routing held to what native code may be given: a session file can say anything."""
    return checked("This session", routing.experts, routing.lengths, routing.expert_count, routing.prefill)


class Asker:
    """Makes questions of a recording as it grows."""

    def __init__(self, recording: Recording) -> None:
        self.recording, self._devices = recording, load_devices()
        self._live: LiveRouting | None = None

    def question(self) -> Question | None:
        """The session so far, since its model was loaded; None as long as there is nothing to replay."""
        recording, model, budget = self.recording, self.recording.model, self.recording.budget
        if model is None or budget is None or not len(recording.tokens):
            return None
        self._live = self._live or LiveRouting(recording)
        try:
            routing = _sound(self._live.follow())
        except EngineError:
            return None
        requests = routing.requests
        while requests > 1 and routing.tokens > MOST:
            requests -= 1
            routing = routing.take(np.arange(routing.requests - requests, routing.requests)) if routing.requests > requests else routing
        if not routing.tokens:
            return None
        bits = int(recording.effective.get("bits", model.widths[0]))
        bits = bits if bits in model.record_bytes else model.widths[0]
        records = Records({bits: model.record_bytes[bits]}, np.full(routing.shape.total, bits))
        device = self._devices.get(str(recording.effective.get("device", "native")), self._devices["native"])
        try:
            costs = calibrated(recording, device)
        except EngineError:
            return None
        before = self._resident_before(model.layers, model.experts)
        return Question(routing, records, costs, budget.granted, model.top_k, before, self._budgets())

    def _budgets(self) -> tuple[int, ...]:
        """The budgets that decoded tokens had, the four of most tokens."""
        sizes, counts = np.unique(self.recording.tokens.column("budget_bytes"), return_counts=True)
        return tuple(sizes[np.argsort(-counts)[:4]].tolist())

    def _resident_before(self, layers: int, experts: int) -> np.ndarray:
        """Who was in memory before the first pass, in the order of loading."""
        changes = self.recording.residency
        rows = changes.rows(changes.search("time", self.recording.loaded), None)[:20_000]
        known = (rows["layer"] >= 0) & (rows["layer"] < layers) & (rows["expert"] >= 0) & (rows["expert"] < experts)
        filled = rows[known & (rows["token"] < 0) & (rows["state"] == Residency.RESIDENT)]
        return (filled["layer"].astype(np.int32) * experts + filled["expert"]).astype(np.int32)
