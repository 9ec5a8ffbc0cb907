"""Least frequently used."""

from __future__ import annotations

import numpy as np

from engine.residency.policy import Clock, FloatArray, IntArray


class Lfu:
    """Evicts the expert used least often since the model was loaded."""

    name = "lfu"

    def __init__(self, layers: int, experts: int) -> None:
        self._count = np.zeros(layers * experts)

    def used(self, expert: int, clock: Clock) -> None:
        self._count[expert] += 1

    def loaded(self, expert: int, clock: Clock) -> None:
        pass

    def scores(self, candidates: IntArray, clock: Clock) -> FloatArray:
        return -self._count[candidates]
