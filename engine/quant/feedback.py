"""Group-wise codes chosen one column after the other, each making good for what rounding the ones before did to the outputs.

R rows, C columns, P padded columns, G groups a row, b bits; H [C, C] = Σ x xᵀ over the inputs x that text sends through a matrix.

What counts is the error of the outputs, W x, not of the weights: to round a column is to make an error that columns whose inputs go
together with its can take back (GPTQ, Frantar et al. 2023). Columns with the strongest inputs come first, while there are many left to
help; scales are searched before, as ``group`` does, but with every weight counting as much as its inputs are strong.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.quant.codec import Grid
from engine.quant.group import Group, search
from engine.quant.matrix import Matrix
from engine.quant.packing import pack
from engine.quant.scales import from_half, to_half, unit_of

_MOST = 4  # bits: above, rounding to the nearest is as good
_DAMP = 0.01  # of the mean of H's diagonal, added to it: text is finite
_TOGETHER = 64  # columns between two updates of all the others


class Feedback(Group):
    """As ``Group`` on disk. Without H, for an expert that no text reached, and above 4 bits it is ``Group``'s."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.name = f"gptq{size}"

    def quantize(self, weight: Tensor, bits: int, inputs: Tensor | None = None) -> Matrix:
        if inputs is None or not bool(inputs.diagonal().any()) or bits > _MOST:
            return super().quantize(weight, bits)
        if not bool(torch.isfinite(weight).all()):
            raise ValueError("weights that are not finite")
        rows, columns = weight.shape
        grid = self.grid(columns, bits)
        values = torch.nn.functional.pad(weight.float(), (0, grid.columns - columns))
        strengths = torch.nn.functional.pad(inputs.diagonal().float(), (0, grid.columns - columns))
        parts = values.view(rows, grid.groups, grid.group)
        scales = search(parts, bits, strengths.view(1, grid.groups, grid.group))
        unit = unit_of(float(scales.max()))
        half = to_half(scales, unit)
        codes = _choose(values, from_half(half, unit), grid, self._bounds(bits), inputs)
        return Matrix(bits, rows, columns, pack(codes, bits), half, unit, grid.center, grid.group)


def _choose(values: Tensor, scales: Tensor, grid: Grid, bounds: tuple[int, int], hessian: Tensor) -> Tensor:
    """Codes, uint8 [R, P], of values [R, P]."""
    columns = len(hessian)
    order = hessian.diagonal().argsort(descending=True)
    left = values[:, :columns][:, order].clone()
    steps = scales.repeat_interleave(grid.group, 1)[:, :columns][:, order]
    factor = _factor(hessian[order][:, order].double()).float()
    codes = torch.zeros_like(left)
    for first in range(0, columns, _TOGETHER):
        last = min(first + _TOGETHER, columns)
        errors = torch.zeros(len(values), last - first)
        for column in range(first, last):
            step = steps[:, column]
            code = torch.where(step > 0, left[:, column] / step, 0.0).add_(grid.center).round_().clamp_(*bounds)
            error = (left[:, column] - (code - grid.center) * step) / factor[column, column]
            left[:, column:last] -= error[:, None] * factor[column, column:last]
            codes[:, column], errors[:, column - first] = code, error
        left[:, last:] -= errors @ factor[first:last, last:]
    out = torch.zeros(len(values), grid.columns, dtype=torch.uint8)
    out[:, order] = codes.to(torch.uint8)
    return out


def _factor(hessian: Tensor) -> Tensor:
    """The upper Cholesky factor of H's inverse, [C, C]."""
    damped = hessian + torch.eye(len(hessian), dtype=hessian.dtype) * (_DAMP * hessian.diagonal().mean())
    factor: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    return factor
