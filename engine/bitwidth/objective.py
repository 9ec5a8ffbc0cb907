"""What a plan is to make least: anything that says what a choice of widths costs, and packs widths so that it costs little.

N experts, W widths.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from engine.bitwidth.knapsack import Choice, Floats, Packed, cheapest


class Objective(Protocol):
    """Widths are told by their place, 0 to W - 1."""

    def cost(self, choice: Choice) -> float:
        """What a choice [N] costs; infinite where it cannot be run."""
        ...

    def pack(self, losses: Floats, allowed: float) -> Packed | None:
        """A choice of little cost that by ``losses`` [N, W] loses at most ``allowed``; None where none does."""
        ...


class Sum:
    """Every expert costs something by itself: ``costs`` [N, W]."""

    def __init__(self, costs: Floats) -> None:
        self.costs = costs

    def cost(self, choice: Choice) -> float:
        return float(self.costs[np.arange(len(choice)), choice].sum())

    def pack(self, losses: Floats, allowed: float) -> Packed | None:
        return cheapest(self.costs, losses, allowed)
