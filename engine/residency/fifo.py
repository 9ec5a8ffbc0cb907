"""First in, first out."""

from __future__ import annotations

import numpy as np

from engine.residency.policy import Clock, FloatArray, IntArray


class Fifo:
    """Evicts the expert that was loaded longest ago, however often it was used since."""

    name = "fifo"

    def __init__(self, layers: int, experts: int) -> None:
        self._loaded = np.zeros(layers * experts)
        self._tick = 0

    def used(self, expert: int, clock: Clock) -> None:
        pass

    def loaded(self, expert: int, clock: Clock) -> None:
        self._tick += 1
        self._loaded[expert] = self._tick

    def scores(self, candidates: IntArray, clock: Clock) -> FloatArray:
        return -self._loaded[candidates]
