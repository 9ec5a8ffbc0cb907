"""Least recently used."""

from __future__ import annotations

import numpy as np

from engine.residency.policy import Clock, FloatArray, IntArray


class Lru:
    """Evicts the expert whose last use lies furthest back."""

    name = "lru"

    def __init__(self, layers: int, experts: int) -> None:
        self._last = np.zeros(layers * experts)
        self._tick = 0

    def used(self, expert: int, clock: Clock) -> None:
        self._tick += 1
        self._last[expert] = self._tick

    def loaded(self, expert: int, clock: Clock) -> None:
        pass

    def scores(self, candidates: IntArray, clock: Clock) -> FloatArray:
        return -self._last[candidates]
