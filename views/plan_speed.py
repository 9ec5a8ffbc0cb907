"""How fast plans would run: replays of the session so far in a thread, under each plan and the budget as it is set; the newest wins."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PySide6.QtCore import QObject, Signal

from engine.errors import EngineError
from engine.settings import parse_budget
from engine.simulate.replay import Cell, Records, Replay
from views.background import Background, Work
from views.whatif_question import Question

LOOK = 50  # ms between two looks at what is done


@dataclass(frozen=True)
class Wish:
    """``plans`` of the same model, under a ``budget`` as it is written (25%: of all experts at the plan's widths) and a policy."""

    question: Question
    plans: tuple[bytes, ...]
    budget: str
    eviction: str


class PlanSpeed(Background):
    """``ask`` lets go of what is under way. ``speeds``: tokens/s by plan of the newest wish, as far as they are known; ``told`` when there
    are more."""

    told = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(LOOK, parent)
        self.speeds: dict[bytes, float] = {}
        self._basis: tuple[object, ...] = ()

    def ask(self, wish: Wish) -> None:
        """Replay under every plan that is not known yet for this session, budget and policy."""
        self.stop()
        basis = (wish.question.basis[0], wish.question.basis[2:], wish.budget, wish.eviction)
        if basis != self._basis:
            self._basis, self.speeds = basis, {}
        plans = [plan for plan in wish.plans if plan not in self.speeds]
        if plans:
            self.begin(_Work(wish, plans))

    def forget(self) -> None:
        self.stop()
        self.speeds, self._basis = {}, ()

    def look(self, work: _Work) -> None:
        found = work.found
        if not found.keys() <= self.speeds.keys():
            self.speeds.update(found)
            self.told.emit()


class _Work(Work):
    def __init__(self, wish: Wish, plans: list[bytes]) -> None:
        super().__init__(name="plan-speed", daemon=True)
        self._wish, self._plans = wish, plans
        self._replay: Replay | None = None
        self._stopped = False
        self.found: dict[bytes, float] = {}

    def stop(self) -> None:
        self._stopped = True
        if self._replay is not None:
            self._replay.stop()

    def run(self) -> None:
        for plan in self._plans:
            question = self._wish.question.sample()
            records = replace(question.records, bits=np.frombuffer(plan, np.uint8).astype(np.int64))
            question = replace(question, records=records)
            budget = self._budget(question.records, question.top_k)
            self._replay = Replay(question.routing, question.records, question.costs)
            if self._stopped:
                return
            told = self._replay.run(Cell(budget, self._wish.eviction, initial=question.resident(budget)))
            if told is None:
                return
            self.found = {**self.found, plan: told.tok_s}

    def _budget(self, records: Records, top_k: int) -> int:
        """The budget in bytes under these records; the least that works where it is less."""
        least = records.least(top_k)
        try:
            return max(least, parse_budget(self._wish.budget, records.full, least))
        except EngineError:
            return records.full
