"""EdgeMoE's eviction as its text means it: rarely used and far from its layer's next turn goes first (arXiv 2308.14352)."""

from __future__ import annotations

import numpy as np

from engine.residency.policy import Clock, FloatArray, IntArray

HALF_LIFE = 8.0
"""Tokens after which a use counts half. The paper counts over the whole lifetime, which loses to LRU on real routing."""
TRUST = 0.25
"""Of other text, against this one's uses. At 25% budget a first prefill misses 98 instead of 115 of the demo model's experts for a point of
the hit rate of the first ten tokens; trusted fully, 95 for two and a half."""


class EdgeMoE:
    """Score −f / D: f the decayed frequency, D = (i − I) mod S the forward distance from layer I to layer i, 0 taken for S."""

    name = "edgemoe"

    def __init__(self, layers: int, experts: int) -> None:
        self._layers = layers
        self._layer_of = np.repeat(np.arange(layers), experts)
        self._count = np.zeros(layers * experts)
        self._since = np.zeros(layers * experts)  # the token that ``_count`` was last brought up to

    def expect(self, odds: FloatArray) -> None:
        """Before the first use: how likely a token uses each expert, [S · E], from other text. It counts as a frequency that decays."""
        self._count[:] = TRUST * odds / (1 - 0.5 ** (1 / HALF_LIFE))

    def used(self, expert: int, clock: Clock) -> None:
        age = clock.token - self._since[expert]
        self._count[expert] = self._count[expert] * 0.5 ** (age / HALF_LIFE) + 1
        self._since[expert] = clock.token

    def loaded(self, expert: int, clock: Clock) -> None:
        pass

    def scores(self, candidates: IntArray, clock: Clock) -> FloatArray:
        frequency = self._count[candidates] * 0.5 ** ((clock.token - self._since[candidates]) / HALF_LIFE)
        distance = (self._layer_of[candidates] - clock.layer) % self._layers
        distance[distance == 0] = self._layers
        return -frequency / distance
