"""Group-wise quantization with searched scales: what beats the paper's quantizer at the same bits.

R rows, G groups a row, b bits.

Two differences from ``channel``. Few columns share a scale, so an outlier spoils few neighbours. And the levels are
(k + ½)·scale, all 2^b of them symmetric about zero, where absmax leaves one unused: at 2 bits that is four levels, not three.
The scale is searched for least squared error, since clipping a rare extreme is cheaper than coarse steps for all the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.quant.codec import Codec, Grid, padded
from engine.quant.packing import ALIGN

# Smallest share of the absmax scale worth trying: the fewer the levels, the more clipping pays.
_LOWEST = {2: 0.45, 3: 0.6, 4: 0.7, 8: 0.97}
_TRIES = 10


class Group(Codec):
    """Scales per ``size`` columns, searched. ``name`` carries the size: "group32", "group64", "group128"."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.name = f"group{size}"

    def grid(self, columns: int, bits: int) -> Grid:
        size = min(self.size, padded(columns, ALIGN))
        return Grid(size, padded(columns, size), ((1 << bits) - 1) / 2)

    def _bounds(self, bits: int) -> tuple[int, int]:
        return 0, (1 << bits) - 1

    def _scales(self, values: Tensor, bits: int) -> Tensor:
        # A row at a time would do; a few hundred keep the temporaries inside the processor's cache.
        rows = max(1, (1 << 16) // max(1, values.shape[1] * values.shape[2]))
        return torch.cat([search(chunk, bits) for chunk in torch.split(values, rows)])


def search(values: Tensor, bits: int, weights: Tensor | None = None) -> Tensor:
    """Least-squares scale [R, G] of values [R, G, group]: a coarse search, then one refit to the codes it chose. ``weights``
    [1, G, group] say how much the error of each column counts."""
    center = ((1 << bits) - 1) / 2
    largest = values.abs().amax(-1) / center
    best = largest
    error = torch.full_like(largest, torch.inf)
    for share in torch.linspace(_LOWEST[bits], 1.0, _TRIES if bits < 8 else 3).tolist():
        scale = largest * share
        levels = _levels(values, scale, center)
        # The best scale for these very levels is the projection of the values on them.
        counted = levels if weights is None else levels * weights
        fitted = (counted * values).sum(-1) / (counted * levels).sum(-1)
        error_of = (levels * fitted.unsqueeze(-1)).sub_(values).square_()
        loss = (error_of if weights is None else error_of * weights).sum(-1)
        better = loss < error
        best, error = torch.where(better, fitted, best), torch.where(better, loss, error)
    return best


def _levels(values: Tensor, scale: Tensor, center: float) -> Tensor:
    steps = torch.where(scale > 0, 1.0 / scale, torch.zeros(())).unsqueeze(-1)
    return (values * steps).add_(center).round_().clamp_(0, 2 * center).sub_(center)
