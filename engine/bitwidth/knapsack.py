"""The plan of least cost whose estimated loss is allowed: a knapsack in which every expert takes one of the widths.

N experts, W widths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_HALVINGS = 100


@dataclass(frozen=True)
class Packed:
    """``choice`` [N]: which width each expert has; what it costs and loses; and ``bound``, below which no plan that is allowed costs."""

    choice: npt.NDArray[np.int64]
    cost: float
    loss: float
    bound: float


def cheapest(costs: Floats, losses: Floats, allowed: float) -> Packed | None:
    """Of costs and losses [N, W] the plan of least cost that loses at most ``allowed``; None where none does.

    By Lagrange's multiplier (Everett 1963): at a price for loss every expert chooses by itself, and the least price at which all together
    are allowed is found by halving. Its dual value bounds every other plan. What is left of the allowance then buys single steps, those
    first that save most for what they lose.
    """
    if losses.min(1).sum() > allowed:
        return None
    low, high = 0.0, 1.0
    while losses[_at(high, costs, losses)].sum() > allowed:
        low, high = high, high * 4
        if high > 1e30:  # a tie at the end of the scale: whatever loses least
            break
    for _ in range(_HALVINGS):
        price = (low + high) / 2
        low, high = (price, high) if losses[_at(price, costs, losses)].sum() > allowed else (low, price)
    rows = np.arange(len(costs))
    choice = _at(high, costs, losses)[1]
    if losses[rows, choice].sum() > allowed:
        choice = losses.argmin(1)
    bound = max(float((costs + price * losses).min(1).sum() - price * allowed) for price in (low, high))
    choice = _spend(costs, losses, choice, allowed)
    return Packed(choice, float(costs[rows, choice].sum()), float(losses[rows, choice].sum()), bound)


def _at(price: float, costs: Floats, losses: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows, and what each chooses where loss has this price."""
    return np.arange(len(costs)), (costs + price * losses).argmin(1)


def _spend(costs: Floats, losses: Floats, choice: npt.NDArray[np.int64], allowed: float) -> npt.NDArray[np.int64]:
    """Take single steps that save and are allowed, until there is none left."""
    choice, rows = choice.copy(), np.arange(len(costs))
    room = allowed - float(losses[rows, choice].sum())
    while True:
        saved = costs[rows, choice][:, None] - costs
        lost = losses - losses[rows, choice][:, None]
        fits = (saved > 0) & (lost <= room)
        if not fits.any():
            return choice
        worth = np.where(fits, saved / np.maximum(lost, 1e-12 * max(allowed, 1e-12)), -1.0)
        expert, width = np.unravel_index(int(worth.argmax()), worth.shape)
        room -= float(lost[expert, width])
        choice[expert] = width
