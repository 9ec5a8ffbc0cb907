"""What is known of a whole trace without replaying it: the least that any policy must read, and what LRU would have made of it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.simulate.replay import LruHits, Replay

_LRU = "lru"
Experts = npt.NDArray[np.int32]


@dataclass(frozen=True)
class LruCounts:
    """LRU within a budget, over decoded tokens."""

    uses: int
    hit_rate: float
    first_touch: int
    capacity: int
    demand_bytes: int


class Exact:
    """Computed once, in the threads of ``pool``, of a trace that is ``replay``'s, by budget and who is resident to begin with. ``lru`` says
    whether LRU is asked for."""

    def __init__(self, pool: Executor, replay: Replay, budgets: Mapping[int, Experts], lru: bool) -> None:
        self.replay = replay
        self._least = {budget: pool.submit(replay.least_mb_per_token, budget, initial) for budget, initial in budgets.items()}
        self._lru: Future[LruHits] | None = pool.submit(replay.lru_hits) if lru else None

    def least_mb_per_token(self, budget: int) -> float:
        return self._least[budget].result()

    def lru(self, budget: int) -> LruCounts:
        """Where ``told_of_lru`` says that it can be."""
        assert self._lru is not None
        told, size = self._lru.result(), int(self.replay.records.sizes[0])
        hits = int(told.hits[min(budget // size, len(told.hits) - 1)])
        missed = told.uses - hits
        return LruCounts(told.uses, hits / max(1, told.uses), told.first, missed - told.first, missed * size)


def told_of_lru(replay: Replay, budget: int, eviction: str, predictor: str) -> bool:
    """Whether one pass tells a setting's hits as a replay would: LRU alone, records of one size, room for a pass's experts of a layer."""
    sizes = replay.records.sizes
    return eviction == _LRU and predictor == "none" and bool((sizes == sizes[0]).all()) and budget // int(sizes[0]) >= replay.routing.widest
