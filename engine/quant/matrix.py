"""A weight matrix as it lies in memory: packed codes and scales, or 16-bit values. And the matrices of one expert.

R rows (outputs), C columns (inputs), P padded columns, G = P / group groups a row, b bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.quant.outliers import Outliers
from engine.quant.packing import unpack
from engine.quant.scales import from_half


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix [R, C]. At 16 bits ``codes`` are the values themselves; below, value = (code − center) · scale."""

    bits: int
    rows: int
    columns: int
    codes: Tensor  # uint8 [R, P·b/8], or bfloat16/float16/float32 [R, C] at 16 bits
    scales: Tensor | None = None  # float16 [R, G]
    unit: float = 1.0
    center: float = 0.0
    group: int = 0
    outliers: Outliers | None = None  # what is added to the values of codes

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The values [R, C] in ``dtype``, newly made below 16 bits."""
        if self.scales is None:
            return self.codes.to(dtype)
        scales = from_half(self.scales, self.unit)
        codes = unpack(self.codes, self.bits)
        values = codes.float()
        if self.center:
            values.sub_(self.center)
        if scales.shape[1] == 1:
            values.mul_(scales)
        else:
            values.view(self.rows, -1, self.group).mul_(scales.unsqueeze(-1))
        values = values[:, : self.columns]
        if self.outliers is not None:
            self.outliers.add_to(values, self.unit)
        return values.to(dtype)


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """One expert: ``up`` is the gate and up projection together where the family has a gate, [2·ff, d], else [ff, d]."""

    bits: int
    up: Matrix
    down: Matrix  # [d, ff]
    up_bias: Tensor | None = None  # [2·ff] or [ff]
    down_bias: Tensor | None = None  # [d]
