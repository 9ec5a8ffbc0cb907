"""The plan of least cost whose estimated loss is allowed: a knapsack in which every expert takes one of the widths.

N experts, W widths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Choice = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Packed:
    """``choice`` [N]: which width each expert has; what it costs and loses; and ``bound``, below which no plan that is allowed costs."""

    choice: Choice
    cost: float
    loss: float
    bound: float


def cheapest(costs: Floats, losses: Floats, allowed: float) -> Packed | None:
    """Of costs and losses [N, W] the plan of least cost that loses at most ``allowed``; None where none does.

    By Lagrange's multiplier (Everett 1963): at a price for loss every expert chooses by itself, so that it goes down its own convex hull of
    cost and loss, step by step, as the price rises. The steps of all experts in the order of their prices are therefore all the plans that
    some price makes; the first of them that is allowed is taken. Its dual value bounds every other plan. What is left of the allowance then
    buys single steps, those first that save most for what they lose.
    """
    if losses.min(1).sum() > allowed:
        return None
    rows = np.arange(len(costs))
    path, prices, gains = _hulls(costs, losses)
    order = np.argsort(prices, axis=None, kind="stable")  # rounds one after the other: no expert's later step is before its earlier
    prices, gains, who = prices.ravel()[order], gains.ravel()[order], (order % len(costs))
    reached = float(losses[rows, path[0]].sum()) - np.concatenate([[0.0], np.cumsum(gains)])
    steps = min(int(np.searchsorted(-reached, -allowed)), int(np.isfinite(prices).sum()))
    while True:
        choice = path[np.bincount(who[:steps], minlength=len(costs)), rows]
        if losses[rows, choice].sum() <= allowed or steps == len(prices) or not np.isfinite(prices[steps]):
            break
        steps += 1  # sums in another order differ in their last bits
    if losses[rows, choice].sum() > allowed:
        choice = losses.argmin(1)
    price = float(prices[steps - 1]) if steps else 0.0
    bound = float((costs + price * losses).min(1).sum() - price * allowed)
    choice = _spend(costs, losses, choice, allowed)
    return Packed(choice, float(costs[rows, choice].sum()), float(losses[rows, choice].sum()), bound)


def _hulls(costs: Floats, losses: Floats) -> tuple[Choice, Floats, Floats]:
    """What each expert chooses one after the other as the price for loss rises, [W, N], beginning with the least cost; and each step's
    price and what less it loses, [W - 1, N]: infinite and 0 behind the last."""
    rows, at = np.arange(len(costs)), costs.argmin(1)
    path, prices, gains = [at], [np.zeros(len(costs))], list[Floats]()
    for _ in range(costs.shape[1] - 1):
        gained = losses[rows, at][:, None] - losses
        with np.errstate(divide="ignore", invalid="ignore"):
            asked = np.where(gained > 0, (costs - costs[rows, at][:, None]) / gained, np.inf)
        to = asked.argmin(1)
        price = asked[rows, to]
        at = np.where(np.isfinite(price), to, at)
        gains.append(losses[rows, path[-1]] - losses[rows, at])
        prices.append(np.maximum(price, prices[-1]))
        path.append(at)
    return np.stack(path), np.array(prices[1:]).reshape(-1, len(costs)), np.array(gains).reshape(-1, len(costs))


def _spend(costs: Floats, losses: Floats, choice: Choice, allowed: float) -> Choice:
    """Take single steps that save and are allowed, until there is none left."""
    choice, rows = choice.copy(), np.arange(len(costs))
    room = allowed - float(losses[rows, choice].sum())
    saved, lost = costs[rows, choice][:, None] - costs, losses - losses[rows, choice][:, None]
    while True:
        some = ((saved > 0) & (lost <= room)).any(1)
        rows, saved, lost = rows[some], saved[some], lost[some]
        if not len(rows):
            return choice
        worth = np.where((saved > 0) & (lost <= room), saved / np.maximum(lost, 1e-12 * max(allowed, 1e-12)), -1.0)
        at, width = np.unravel_index(int(worth.argmax()), worth.shape)
        room -= float(lost[at, width])
        choice[rows[at]] = width
        saved[at] -= saved[at, width]
        lost[at] -= lost[at, width]
