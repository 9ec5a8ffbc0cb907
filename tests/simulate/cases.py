"""Routing for tests: random, with some experts likelier than others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.simulate.routing import NONE, Routing, no_uses


def make_routing(
    lengths: Sequence[int] = (10, 7), layers: int = 3, experts: int = 8, top_k: int = 2, seed: int = 0, prefill: bool = False,
    gaps: bool = False, weights: bool = False, softmax: bool = False,
) -> Routing:  # fmt: skip
    """A routing with an expert or none (``gaps``) in every place."""
    random, tokens = np.random.default_rng(seed), sum(lengths)
    likely = random.gumbel(size=(layers, experts))
    chosen = np.argsort(-likely - random.gumbel(size=(tokens, layers, experts)))[..., :top_k].astype(np.int16)
    if gaps:
        chosen[random.random(chosen.shape) < 0.2] = NONE
    uses = [
        (request, layer, expert, 1 + random.integers(9))
        for request in range(len(lengths)) for layer in range(layers)
        for expert in random.permutation(experts)[: random.integers(1, experts + 1)]
    ]  # fmt: skip
    return Routing(
        chosen, np.array(lengths, np.int64), experts, np.array(uses, np.int32) if prefill else no_uses(),
        random.random(chosen.shape, np.float32) if weights else None,
        random.random((tokens, layers, experts), np.float32) if softmax else None,
    )  # fmt: skip
