"""Group-wise quantization with searched scales: what beats the paper's quantizer at the same bits.

R rows, C columns, P padded columns, G groups a row, b bits.

Two differences from ``channel``. Few columns share a scale, so an outlier spoils few neighbours. And the levels are
(k + ½)·scale, all 2^b of them symmetric about zero, where absmax leaves one unused: at 2 bits that is four levels, not three.
The scale is searched for least squared error, since clipping a rare extreme is cheaper than coarse steps for all the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.quant.codec import Codec, Grid, padded
from engine.quant.inputs import Inputs
from engine.quant.matrix import Matrix
from engine.quant.outliers import costliest, gathered, number_of
from engine.quant.packing import ALIGN, pack
from engine.quant.scales import from_half, to_half, unit_of

# Smallest share of the absmax scale worth trying: the fewer the levels, the more clipping pays.
_LOWEST = {2: 0.45, 3: 0.6, 4: 0.7, 8: 0.97}
_TRIES = 10
_MOST = 4  # bits: above, no weight's rounding is worth keeping it apart
_LOOKS = 2  # at which weights cost most: without those found first, scales are others


class Group(Codec):
    """Scales per ``size`` columns, searched. ``name`` carries the size: "group32", "group64", "group128"; and "+outliers" where a
    share of all weights, ``apart``, is kept apart up to 4 bits (engine.quant.outliers)."""

    def __init__(self, size: int, apart: float = 0.0) -> None:
        self.size, self.apart = size, apart
        self.name = f"group{size}" + "+outliers" * (apart > 0)

    def grid(self, columns: int, bits: int) -> Grid:
        size = min(self.size, padded(columns, ALIGN))
        return Grid(size, padded(columns, size), ((1 << bits) - 1) / 2)

    def outliers(self, rows: int, columns: int, bits: int) -> int:
        return number_of(self.apart, rows, columns) if bits <= _MOST else 0

    def quantize(self, weight: Tensor, bits: int, inputs: Inputs | None = None) -> Matrix:
        rows, columns = weight.shape
        if not self.outliers(rows, columns, bits):
            return super().quantize(weight, bits)
        fit = Fit(weight, bits, self, torch.ones(columns))
        codes = fit.nearest()
        return fit.matrix(codes, fit.values - fit.standing_for(codes))

    def _bounds(self, bits: int) -> tuple[int, int]:
        return 0, (1 << bits) - 1

    def _scales(self, values: Tensor, bits: int) -> Tensor:
        # A row at a time would do; a few hundred keep the temporaries inside the processor's cache.
        rows = max(1, (1 << 16) // max(1, values.shape[1] * values.shape[2]))
        return torch.cat([search(chunk, bits) for chunk in torch.split(values, rows)])


class Fit:
    """A matrix whose scales are searched as a whole: columns count by ``strengths`` [C], and what is kept ``apart``, bool [R, P], not.

    Raises:
        ValueError: a weight is not finite.
    """

    def __init__(self, weight: Tensor, bits: int, codec: Group, strengths: Tensor) -> None:
        if not bool(torch.isfinite(weight).all()):
            raise ValueError("weights that are not finite")
        self._rows, self._columns = weight.shape
        self._bits, self.grid = bits, codec.grid(self._columns, bits)
        more = 0, self.grid.columns - self._columns
        self.values = torch.nn.functional.pad(weight.float(), more)  # [R, P]
        self.apart = torch.zeros_like(self.values, dtype=torch.bool)
        self._strengths = torch.nn.functional.pad(strengths.float(), more)
        self._number = codec.outliers(self._rows, self._columns, bits)
        self._search()
        for _ in range(_LOOKS if self._number else 0):
            costs = (self.values - self.standing_for(self.nearest())).abs_() * self._strengths.sqrt()
            self.apart[:, : self._columns] = costliest(costs[:, : self._columns], self._number)
            self._search()

    def _search(self) -> None:
        counted = (self._strengths * ~self.apart).view(self._rows, -1, self.grid.group)
        scales = search(self.values.where(~self.apart, 0.0).view_as(counted), self._bits, counted)
        self._unit = unit_of(float(scales.max() if not self._number else torch.maximum(scales.max(), self.values.abs().max())))
        self._half = to_half(scales, self._unit)
        self.steps = from_half(self._half, self._unit).repeat_interleave(self.grid.group, 1)  # [R, P]

    def nearest(self) -> Tensor:
        """The nearest codes, float32 [R, P]."""
        return self.code_of(self.values, self.steps)

    def code_of(self, values: Tensor, steps: Tensor) -> Tensor:
        """The code nearest to each of ``values``, float32, where levels are ``steps`` apart."""
        return torch.where(steps > 0, values / steps, 0.0).add_(self.grid.center).round_().clamp_(0, 2 * self.grid.center)

    def standing_for(self, codes: Tensor) -> Tensor:
        """The values that codes [R, P] stand for."""
        return (codes - self.grid.center) * self.steps

    def matrix(self, codes: Tensor, left: Tensor) -> Matrix:
        """The matrix of codes [R, P] that leave off ``left`` [R, P] of the values that they were chosen for."""
        outliers = gathered(left, self.apart, self._unit) if self._number else None
        packed, grid = pack(codes.to(torch.uint8), self._bits), self.grid
        return Matrix(self._bits, self._rows, self._columns, packed, self._half, self._unit, grid.center, grid.group, outliers)


def search(values: Tensor, bits: int, weights: Tensor | None = None) -> Tensor:
    """Least-squares scale [R, G] of values [R, G, group]: a coarse search, then one refit to the codes it chose. ``weights``
    [R, G, group] say how much the error of each counts."""
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
