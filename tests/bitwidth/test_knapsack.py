"""The packing is allowed, near the best there is, and its bound is one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bitwidth.knapsack import Floats, cheapest


@st.composite
def problems(draw: st.DrawFn) -> tuple[Floats, Floats, float]:
    experts, widths = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    costs = np.sort(generator.integers(1, 50, (experts, widths)), 1).astype(float)
    losses = np.sort(generator.gamma(0.5, size=(experts, widths)), 1)[:, ::-1].copy()
    return costs, losses, draw(st.floats(0, 4))


@settings(max_examples=300, deadline=None)
@given(problems())
def test_near_the_best_of_all(problem: tuple[Floats, Floats, float]) -> None:
    costs, losses, allowed = problem
    rows = np.arange(len(costs))
    plans = [np.array(plan) for plan in product(range(costs.shape[1]), repeat=len(costs))]
    within = [costs[rows, plan].sum() for plan in plans if losses[rows, plan].sum() <= allowed]
    packed = cheapest(costs, losses, allowed)
    if not within:
        assert packed is None
        return
    assert packed is not None
    assert losses[rows, packed.choice].sum() <= allowed and packed.cost == costs[rows, packed.choice].sum()
    best, widest = min(within), float((costs.max(1) - costs.min(1)).max())
    assert packed.bound <= best * (1 + 1e-9) and packed.cost - packed.bound <= widest + 1e-6


def test_thousands_of_experts_come_within_a_thousandth_of_the_bound() -> None:
    generator = np.random.default_rng(0)
    costs = np.tile([2.0, 3.0, 4.0, 8.0], (48 * 128, 1))
    losses = generator.gamma(0.5, size=(48 * 128, 1)) * np.array([60.0, 8.0, 1.5, 0.01])
    packed = cheapest(costs, losses, 0.1 * float(losses[:, 0].sum()))
    assert packed is not None and packed.cost == pytest.approx(packed.bound, rel=1e-3)
