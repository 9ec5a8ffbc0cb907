"""Many replays of one routing: a row for every budget, policy and predictor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from threading import Lock

from engine.errors import Cancelled
from engine.events import Outcome
from engine.preload.learned import KINDS
from engine.preload.predictor import Learned
from engine.preload.transition import Transition
from engine.simulate.cost import Costs
from engine.simulate.replay import Cell, Records, Replay, Replayed
from engine.simulate.routing import Routing

ORACLE_PREDICTOR = "oracle"


@dataclass(frozen=True)
class Row:
    """One setting and what came of it, over decoded tokens (the command line's keys, design section 6)."""

    budget: str
    budget_bytes: int
    eviction: str
    predictor: str
    hit_rate: float
    misses_first_touch: int
    misses_capacity: int
    misses_mispredicted: int
    misses_late: int
    recall_at_k: float
    misses_covered: float
    useful_bytes: int
    wasted_bytes: int
    mb_per_token: float
    stall_ms_per_token: float
    tok_s: float

    def plain(self) -> dict[str, str | int | float]:
        return asdict(self)


class Sweep:
    """``heard`` is the routing of other requests, which policies and predictors may learn from before."""

    def __init__(
        self, routing: Routing, records: Records, costs: Costs, heard: Routing | None = None, depth: int = 4, width: int = 0
    ) -> None:
        self._replay = Replay(routing, records, costs)
        self._routing, self._heard, self._depth, self._width = routing, heard, depth, width
        self._trained: dict[str, Learned] = {}
        self._turn = Lock()  # a predictor hears one replay at a time

    def prepare(self, predictors: set[str], report: Callable[[float], object]) -> None:
        """Train those predictors that learn from other requests.

        Raises:
            Cancelled: ``stop`` was called meanwhile.
        """
        for name in sorted(predictors & set(KINDS)):
            if self._heard is not None:
                made = KINDS[name](*self._routing.shape, self._routing.top_k)
                if not made.train(self._heard.experts, self._heard.lengths, lambda share: bool((report(share), not self.stopped)[1])):
                    raise Cancelled
                self._trained[name] = made

    stopped = False

    def stop(self) -> None:
        """End what is running, from another thread."""
        self.stopped = True
        self._replay.stop()

    def row(self, budget: str, budget_bytes: int, eviction: str, predictor: str) -> Row:
        """Replay one setting.

        Raises:
            EngineError: a budget that one layer of one token does not fit.
            Cancelled: ``stop`` was called.
        """
        if predictor in self._trained:
            with self._turn:
                replayed = self._run(budget_bytes, eviction, predictor, self._trained[predictor])
        else:
            # Without other requests to learn from, it learns as it goes.
            learned = Transition(*self._routing.shape, self._routing.top_k, learning=True) if predictor == Transition.name else None
            replayed = self._run(budget_bytes, eviction, predictor, learned)
        if replayed is None:
            raise Cancelled
        return _row(budget, budget_bytes, eviction, predictor, replayed)

    def _run(self, budget: int, eviction: str, predictor: str, learned: Learned | None) -> Replayed | None:
        return self._replay.run(Cell(
            budget, eviction, learned, predictor == ORACLE_PREDICTOR, self._depth, self._width, heard=self._heard,
        ))  # fmt: skip


def _row(budget: str, budget_bytes: int, eviction: str, predictor: str, told: Replayed) -> Row:
    uses = told.uses
    return Row(
        budget, budget_bytes, eviction, predictor, told.hit_rate, uses[Outcome.FIRST_TOUCH], uses[Outcome.CAPACITY],
        uses[Outcome.MISPREDICTED], uses[Outcome.LATE], told.recall, told.misses_covered, told.useful_bytes, told.wasted_bytes,
        told.mb_per_token, told.stall_ms_per_token, told.tok_s,
    )  # fmt: skip
