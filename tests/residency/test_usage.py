"""What is remembered of how often experts were used becomes an order and odds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from engine.events import ACCESS
from engine.residency.usage import MEMORY, Usage

COUNTS = some.lists(some.floats(0, 1e4), min_size=12, max_size=12)


def used(counts: list[float] | np.ndarray) -> Usage:
    """A model of 3 layers of 4 experts that were used so often."""
    usage = Usage(Path("nowhere"), "", 3, 4)
    usage.counts = np.array(counts, np.float64)
    return usage


@given(COUNTS)
def test_the_most_used_come_first_and_those_never_used_not_at_all(counts: list[float]) -> None:
    expected = [e for e in sorted(range(12), key=lambda e: (-counts[e], e)) if counts[e] > 0]
    assert used(counts).order() == expected


@given(COUNTS, some.integers(1, 4))
def test_odds_are_of_one_token_and_its_k_experts(counts: list[float], top_k: int) -> None:
    odds = used(counts).odds(top_k).reshape(3, 4)
    layers = np.reshape(counts, (3, 4))
    assert (odds >= 0).all() and (odds <= 1).all() and (odds[layers == 0] == 0).all()
    for layer, chances in zip(layers, odds, strict=True):
        if layer.sum() >= 1 and top_k * layer.max() <= layer.sum():
            assert chances.sum() == pytest.approx(top_k), "none is so sure that its odds were cut"
        assert (np.diff(chances[np.argsort(layer, kind="stable")]) >= 0).all(), "more uses are never less likely"


@given(some.lists(some.tuples(some.integers(0, 2), some.integers(0, 3), some.integers(1, 5000)), max_size=30))
def test_every_token_counts_until_memory_is_full(uses: list[tuple[int, int, int]]) -> None:
    usage, plain = used(np.zeros(12)), np.zeros((3, 4))
    for layer, expert, tokens in uses:
        rows = np.zeros(1, ACCESS)
        rows["layer"], rows["expert"], rows["tokens"] = layer, expert, tokens
        usage.add(rows)
        plain[layer, expert] += tokens
    assert usage.counts.sum() <= 3 * MEMORY * (1 + 1e-9)
    if plain.sum() <= 3 * MEMORY:
        assert np.array_equal(usage.counts, plain.ravel())
    else:
        assert usage.counts.sum() >= 3 * MEMORY * (1 - 1e-9)
