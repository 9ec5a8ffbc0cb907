"""Group-wise codes chosen one column after the other, each making good for what rounding the ones before did to the outputs.

R rows, C columns, P padded columns, G groups a row, b bits; H [C, C] = Σ x xᵀ over the inputs x that text sends through a matrix.

What counts is the error of the outputs, W x, not of the weights: to round a column is to make an error that columns whose inputs go
together with its can take back (GPTQ, Frantar et al. 2023). Columns with the strongest inputs come first, while there are many left to
help; scales are searched before, as ``group`` does, but with every weight counting as much as its inputs are strong.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.quant.group import Fit, Group
from engine.quant.inputs import Inputs
from engine.quant.matrix import Matrix

_MOST = 4  # bits: above, rounding to the nearest is as good
_TOGETHER = 64  # columns between two updates of all the others


class Feedback(Group):
    """As ``Group`` on disk. Without H, for an expert that no text reached, and above 4 bits it is ``Group``'s. A weight that is kept apart
    errs not at all, so no other need make good for it."""

    def __init__(self, size: int, apart: float = 0.0) -> None:
        super().__init__(size, apart)
        self.name = self.name.replace("group", "gptq")

    def quantize(self, weight: Tensor, bits: int, inputs: Inputs | None = None) -> Matrix:
        if not inputs or bits > _MOST:
            return super().quantize(weight, bits)
        fit = Fit(weight, bits, self, inputs.strengths)
        return fit.matrix(*_choose(fit, inputs))


def _choose(fit: Fit, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Codes, float32 [R, P], and what each leaves off of what its weight had become by then."""
    order, factor = inputs.order, inputs.factor
    columns = len(order)
    values, steps, apart = (part[:, :columns][:, order] for part in (fit.values, fit.steps, fit.apart))
    codes, lost = torch.zeros_like(values), torch.zeros_like(values)
    for first in range(0, columns, _TOGETHER):
        last = min(first + _TOGETHER, columns)
        errors = torch.zeros(len(values), last - first)
        for column in range(first, last):
            step = steps[:, column]
            code = fit.code_of(values[:, column], step)
            left = values[:, column] - (code - fit.grid.center) * step
            error = left.where(~apart[:, column], 0.0) / factor[column, column]
            values[:, column:last] -= error[:, None] * factor[column, column:last]
            codes[:, column], lost[:, column], errors[:, column - first] = code, left, error
        values[:, last:] -= errors @ factor[first:last, last:]
    out, off = torch.zeros_like(fit.values), torch.zeros_like(fit.values)
    out[:, order], off[:, order] = codes, lost
    return out, off

