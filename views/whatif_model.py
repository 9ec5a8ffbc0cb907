"""What other budgets and policies would have made of the session so far, replayed in a thread; the newest question wins.

T decoded tokens.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from PySide6.QtCore import QObject, Signal

from engine.errors import Cancelled
from engine.residency import DEFAULT
from engine.simulate.replay import ORACLE, Cell, Replay, Replayed
from views.background import Background, Work
from views.whatif_question import Question

POLICIES = (DEFAULT, "lru", "edgemoe", ORACLE)
COARSE = (1.0, 0.5, 0.25, 0.06)
FINE = (0.125, 0.35, 0.18, 0.09, 0.7, 0.9)
LOOK = 200  # ms between two looks at what is done


@dataclass(frozen=True)
class Curve:
    """One policy over budgets: bytes, hit rate (0..1), tokens/s by the cost model; ``misses`` [T] of the budgets that were in force."""

    policy: str
    budgets: list[int] = field(default_factory=list)
    hit_rates: list[float] = field(default_factory=list)
    tok_s: list[float] = field(default_factory=list)
    misses: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What was replayed so far, of which question; ``coarse``: at a few budgets over the whole range at least.

    ``lru`` is LRU's hit rate (0..1) with room for 0 to N experts, from one pass, where that is exact: without a warm start,
    and where all records weigh the same.
    """

    question: Question
    curves: list[Curve]
    coarse: bool
    lru: np.ndarray | None = None


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` replays, ``share`` (0..1) of the next; those at hand are of ``tokens`` and of ``low`` to ``high`` bytes."""

    done: int
    total: int
    share: float
    low: int
    high: int
    tokens: int


class WhatIf(Background):
    """``ask`` starts replays and lets older ones go; ``answered`` tells what is new, ``progressed`` how far they are, five times a second
    at most; ``ended``: no more comes.

    What was replayed is kept as long as the questions are of the same session, so that another budget in force costs only itself.
    """

    answered = Signal(object)  # Answer
    progressed = Signal(object)  # Progress
    ended = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(LOOK, parent)
        self._kept = _Kept()
        self._told: Answer | None = None

    def ask(self, question: Question, hurried: bool) -> None:
        """Replay in the background; ``hurried``: a sample first, where all takes long."""
        self.stop()
        self._told = None
        self._kept.hold(question)
        self.begin(_Work(question, hurried, self._kept))

    def look(self, work: _Work) -> None:
        if work.answer is not None and work.answer is not self._told:
            self._told = work.answer
            self.answered.emit(work.answer)
        self.progressed.emit(work.progress())

    def over(self) -> None:
        self.ended.emit()


class _Kept:
    """Replays done, by what they are of, budget and policy."""

    def __init__(self) -> None:
        self._session: object = None
        self._told: dict[tuple[object, ...], dict[tuple[int, str], Replayed]] = {}

    def hold(self, question: Question) -> None:
        """Forget those of another session."""
        if question.basis[0] != self._session:
            self._session, self._told = question.basis[0], {}

    def all(self, question: Question) -> dict[tuple[int, str], Replayed]:
        return self._told.setdefault(question.basis, {})


class _Work(Work):
    """What matters comes first: the budget in force, then few over the whole range, then those between; each with all policies."""

    def __init__(self, question: Question, hurried: bool, kept: _Kept) -> None:
        super().__init__(name="what-if", daemon=True)
        sample = question.sample() if hurried else question
        self._parts = [(sample, _stages(sample)[:2])] if sample is not question else []
        self._parts.append((question, _stages(question)))
        self._total = len(POLICIES) * sum(len(stage) for _, stages in self._parts for stage in stages)
        self._done, self._question, self._stage = 0, self._parts[0][0], self._parts[0][1][0]
        self._kept, self._stopped = kept, False
        self._replay: Replay | None = None
        self._before = 0  # tokens of the replays that are done
        self._enough = 0
        self._lru: np.ndarray | None = None
        self.answer: Answer | None = None

    def stop(self) -> None:
        self._stopped = True
        if self._replay is not None:
            self._replay.stop()

    def progress(self) -> Progress:
        replay, tokens = self._replay, self._question.routing.tokens
        share = (replay.done - self._before) / tokens if replay is not None else 0.0
        return Progress(self._done, self._total, min(1.0, max(0.0, share)), min(self._stage), max(self._stage), tokens)

    def run(self) -> None:
        for question, stages in self._parts:
            self._begin(question)
            found = self._kept.all(question)
            for number, stage in enumerate(stages):
                self._stage = stage or self._stage
                for budget, policy in product(stage, POLICIES):
                    told = self._told(question, budget, policy)
                    if told is None:
                        return
                    self._done += 1
                    self.answer = Answer(question, _curves(question, found), number > 1, self._lru)
                if number == 1:
                    self.answer = Answer(question, _curves(question, found), True, self._lru)

    def _begin(self, question: Question) -> None:
        self._question, self._before = question, 0
        self._replay = Replay(question.routing, question.records, question.costs)
        if self._stopped:  # just now: the replay was not there to be told
            self._replay.stop()
        self._lru = None
        with suppress(Cancelled):
            alike = len(np.unique(question.records.sizes)) == 1
            self._lru = self._replay.lru_hits().rates if alike and not len(question.initial) else None
        self._enough = full = question.records.full
        free = self._told(question, full, "lru")
        if free is not None:
            self._enough = min(full, free.peak_bytes + int(question.records.sizes.max()))

    def _told(self, question: Question, budget: int, policy: str) -> Replayed | None:
        """Replayed now or before; None when stopped. Where nobody ever has to leave, neither budget nor policy makes a difference."""
        assert self._replay is not None
        found, asked = self._kept.all(question), (budget, policy)
        if budget >= self._enough:
            budget, policy = question.records.full, "lru"
        told = found.get((budget, policy))
        if told is None and not self._stopped:
            told = self._replay.run(Cell(budget, policy, initial=question.resident(budget)))
            self._before = self._replay.done
        if told is not None:
            found[asked] = found[budget, policy] = told
        return told


def _stages(question: Question) -> list[list[int]]:
    """Budgets in bytes, those that matter most first."""
    full, least = question.records.full, question.records.least(question.top_k)
    stages: list[list[int]] = [[max(least, question.budget)]]
    for shares, more in ((COARSE, ()), (FINE, question.before)):
        known = {budget for stage in stages for budget in stage}
        budgets = dict.fromkeys([*(max(least, int(full * share)) for share in shares), *(b for b in more if least <= b)])
        stages.append([budget for budget in budgets if budget not in known])
    return stages


def _curves(question: Question, found: dict[tuple[int, str], Replayed]) -> list[Curve]:
    known, curves = {question.budget, *question.before}, []
    for policy in POLICIES:
        told = {budget: found[budget, policy] for budget in sorted(b for b, p in found if p == policy)}
        curves.append(Curve(
            policy, list(told), [one.hit_rate for one in told.values()], [one.tok_s for one in told.values()],
            {budget: one.misses for budget, one in told.items() if budget in known},
        ))  # fmt: skip
    return [curve for curve in curves if curve.budgets]


def knee(curves: list[Curve]) -> int:
    """The budget from which on the default policy gains less than an even share of what is left: where its curve stands highest above the
    straight line between its ends. 0 where there is no telling."""
    curve = next((c for c in curves if c.policy == DEFAULT), None)
    if curve is None or len(curve.budgets) < 3:
        return 0
    x, y = np.array(curve.budgets, float), np.array(curve.hit_rates)
    line = y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
    return int(x[int(np.argmax(y - line))])
