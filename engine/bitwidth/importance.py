"""The paper's procedure (EdgeMoE, §expert-wise bitwidth adaptation): importance by trial, and K experts at the lower of two widths.

N experts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

LOW, USUAL = 2, 4
"""Importance of an expert: the loss with it at 2 bits and all others at 4."""
Plan = tuple[int, ...]
Measure = Callable[[Plan], float]
"""The loss of a plan [N] on calibration text."""


def trials(count: int) -> list[Plan]:
    """The plans whose losses are the importances of N experts, in order."""
    return [tuple(LOW if other == expert else USUAL for other in range(count)) for expert in range(count)]


def bounds(count: int, widths: Sequence[int], tolerance: float, measure: Measure) -> tuple[int, int] | None:
    """The two neighbouring widths whose losses bracket the tolerance, lower and upper; the same twice where even the lowest is
    tolerated, None where even the highest is not."""
    upper = None
    for bits in sorted(widths, reverse=True):
        if measure((bits,) * count) > tolerance:
            return None if upper is None else (bits, upper)
        upper = bits
    return None if upper is None else (upper, upper)


def search(importance: Sequence[float], low: int, high: int, tolerance: float, measure: Measure) -> Plan:
    """Give the K least important experts the lower width, with K as large as is tolerated.

    The paper grows K while the loss stays under the tolerance and shrinks it above; halving the step each time finds the same place.
    """
    fits, fails = 0, len(importance) + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if measure(lowered(importance, middle, low, high)) <= tolerance:
            fits = middle
        else:
            fails = middle
    return lowered(importance, fits, low, high)


def lowered(importance: Sequence[float], count: int, low: int, high: int) -> Plan:
    """The ``count`` least important experts at the lower width, the others at the upper."""
    fewer = set(sorted(range(len(importance)), key=importance.__getitem__)[:count])
    return tuple(low if expert in fewer else high for expert in range(len(importance)))
