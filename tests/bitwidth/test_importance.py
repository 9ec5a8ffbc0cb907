"""The paper's procedure, step by step, on losses that are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bitwidth.importance import LOW, USUAL, Plan, bounds, search, trials

UNIFORM = {2: 0.06, 4: 0.013, 8: 0.001, 16: 0.0}


def test_each_expert_is_lowered_once() -> None:
    plans = trials(5)
    assert [plan.index(LOW) for plan in plans] == list(range(5))
    assert all(plan.count(LOW) == 1 and plan.count(USUAL) == 4 for plan in plans)


@pytest.mark.parametrize(("tolerance", "pair"), [(0.02, (2, 4)), (0.01, (4, 8)), (0.1, (2, 2)), (0.0005, (8, 16)), (-1.0, None)])
def test_bounds_bracket_the_tolerance(tolerance: float, pair: tuple[int, int] | None) -> None:
    assert bounds(3, list(UNIFORM), tolerance, lambda plan: UNIFORM[plan[0]]) == pair


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 20))
def test_as_many_of_the_least_important_as_are_tolerated(importance: list[float], tolerance: float) -> None:
    measured = list[Plan]()

    def loss(plan: Plan) -> float:
        measured.append(plan)
        return sum(value for value, bits in zip(importance, plan, strict=True) if bits == 2)

    plan = search(importance, 2, 4, tolerance, loss)
    lowered = sorted(value for value, bits in zip(importance, plan, strict=True) if bits == 2)
    kept = sorted(value for value, bits in zip(importance, plan, strict=True) if bits == 4)
    assert loss(plan) <= tolerance
    assert not kept or sum(lowered) + kept[0] > tolerance or not lowered or sum(lowered) + min(kept) > tolerance
    assert not lowered or not kept or lowered[-1] <= kept[0]
    assert len(measured) <= 2 + len(importance).bit_length() + 1
