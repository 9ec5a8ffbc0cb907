"""EdgeMoE's eviction exactly as the paper prints it, kept as a baseline (arXiv 2308.14352, expert buffer management)."""

from __future__ import annotations

import numpy as np

from engine.residency.policy import Clock, FloatArray, IntArray


class EdgeMoEPrinted:
    """Score −f / ((S − i + I) mod S): lifetime frequency f over the *backward* layer distance.

    This contradicts the paper's text, since the layer about to run comes out as the furthest away; where it is 0/0 (the
    current layer) we take the distance for S.
    """

    name = "edgemoe-printed"

    def __init__(self, layers: int, experts: int) -> None:
        self._layers = layers
        self._layer_of = np.repeat(np.arange(layers), experts)
        self._count = np.zeros(layers * experts)

    def used(self, expert: int, clock: Clock) -> None:
        self._count[expert] += 1

    def loaded(self, expert: int, clock: Clock) -> None:
        pass

    def scores(self, candidates: IntArray, clock: Clock) -> FloatArray:
        distance = (self._layers - self._layer_of[candidates] + clock.layer) % self._layers
        distance[distance == 0] = self._layers
        return -self._count[candidates] / distance
