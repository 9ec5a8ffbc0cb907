"""Weights kept apart at 16 bits: the few whose rounding costs most, each as what its code leaves off (SpQR, Dettmers et al. 2023).

R rows, C columns, n outliers of a matrix, the same number for every matrix of a shape, so that all records of a width are one size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_MOST_COLUMNS = 1 << 16  # as a column is told in 16 bits
_MOST_IN_ROW = 255  # as a row's number of them is told in 8
_LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True, slots=True)
class Outliers:
    """A sparse matrix [R, C] that is added to the quantized one, row after row; four bytes an outlier and one a row."""

    counts: Tensor  # uint8 [R]: how many a row has
    columns: Tensor  # uint16 [n]
    values: Tensor  # float16 [n], in the unit of the matrix's scales

    def add_to(self, dense: Tensor, unit: float) -> None:
        """Add them to a matrix float32 [R, C] in place. What lies outside of it is left out, as the kernels leave it out."""
        rows = torch.arange(len(dense)).repeat_interleave(self.counts.long())[: len(self.columns)]
        columns = self.columns[: len(rows)].long()
        inside = columns < dense.shape[1]
        dense.index_put_((rows[inside], columns[inside]), self.values[: len(rows)][inside].float() * unit, accumulate=True)


def number_of(share: float, rows: int, columns: int) -> int:
    """How many of a matrix [R, C] are kept apart for a ``share`` of its weights."""
    return min(round(share * rows * columns), _MOST_IN_ROW * rows) if columns <= _MOST_COLUMNS else 0


def costliest(costs: Tensor, number: int) -> Tensor:
    """The ``number`` weights that cost most, as bool [R, C], of costs [R, C] that are not negative."""
    rows, columns = costs.shape
    if columns > _MOST_IN_ROW:  # of a row only so many may be chosen
        best = costs.topk(_MOST_IN_ROW, 1)
        costs = torch.full_like(costs, -1.0).scatter_(1, best.indices, best.values)
    chosen = torch.zeros(rows * columns, dtype=torch.bool)
    chosen[costs.flatten().topk(number).indices] = True
    return chosen.view(rows, columns)


def gathered(left: Tensor, apart: Tensor, unit: float) -> Outliers:
    """The outliers where ``apart``, bool [R, C], says so, of what the codes leave off: ``left`` [R, C]."""
    values = (left[apart].double() / unit).clamp_(-_LARGEST, _LARGEST).to(torch.float16)
    return Outliers(apart.sum(1).to(torch.uint8), apart.nonzero()[:, 1].to(torch.uint16), values)
