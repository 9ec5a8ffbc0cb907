"""Quantizers by name: how a matrix becomes codes and scales. Offline only; reading them back is ``Matrix.dense``.

R rows (output channels), C columns (inputs), P = C padded to whole groups, G groups a row, b bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.quant.inputs import Inputs
from engine.quant.matrix import Matrix
from engine.quant.packing import ALIGN, pack
from engine.quant.scales import from_half, to_half, unit_of

_AT_ONCE = 1 << 21  # weights


@dataclass(frozen=True, slots=True)
class Grid:
    """Where one width's codes lie: value = (code − center) · scale, scales shared by ``group`` columns of P."""

    group: int
    columns: int  # P
    center: float

    @property
    def groups(self) -> int:
        return self.columns // self.group


class Codec(ABC):
    """One way to quantize. Frozen into a store under ``name``, so a changed algorithm needs a new name."""

    name: str

    @abstractmethod
    def grid(self, columns: int, bits: int) -> Grid:
        """The grid for a matrix of C ``columns`` at ``bits``; shapes only, so that a store's layout follows from it."""

    def outliers(self, rows: int, columns: int, bits: int) -> int:
        """How many weights of a matrix [R, C] are kept apart at ``bits``; shapes only, as ``grid``."""
        return 0

    @abstractmethod
    def _scales(self, values: Tensor, bits: int) -> Tensor:
        """The scale of each group: float32 [R, G] for float32 values [R, G, group]."""

    @abstractmethod
    def _bounds(self, bits: int) -> tuple[int, int]:
        """The lowest and the highest code in use."""

    def quantize(self, weight: Tensor, bits: int, inputs: Inputs | None = None) -> Matrix:
        """Quantize a matrix [R, C] of any float type to ``bits``; ``inputs``, what text sends through it, is for codecs
        that listen to text.

        Raises:
            ValueError: a weight is not finite, which no scale can mend.
        """
        rows, columns = weight.shape
        grid = self.grid(columns, bits)
        # A few rows at a time: a whole head in float32, several times over, is more memory than all the rest of a small machine.
        parts = torch.split(weight, max(1, _AT_ONCE // grid.columns))

        def values(part: Tensor) -> Tensor:
            return F.pad(part.float(), (0, grid.columns - columns)).view(len(part), grid.groups, grid.group)

        if not all(bool(torch.isfinite(part).all()) for part in parts):
            raise ValueError("weights that are not finite")
        scales = torch.cat([self._scales(values(part), bits) for part in parts])
        unit = unit_of(float(scales.max()))
        half = to_half(scales, unit)
        # Codes are chosen against the rounded scale, since that is what they will be multiplied with.
        steps = torch.split(from_half(half, unit), len(parts[0]))
        codes = (_codes(values(part), step, grid.center, self._bounds(bits)) for part, step in zip(parts, steps, strict=True))
        packed = torch.cat([pack(code.view(-1, grid.columns), bits) for code in codes])
        return Matrix(bits, rows, columns, packed, half, unit, grid.center, grid.group)


def _codes(values: Tensor, scales: Tensor, center: float, bounds: tuple[int, int]) -> Tensor:
    """Nearest codes, uint8 [R, G, group]; a scale of zero means an all-zero group and any code serves."""
    steps = torch.where(scales > 0, 1.0 / scales, torch.zeros(())).unsqueeze(-1)
    return (values * steps).add_(center).round_().clamp_(*bounds).to(torch.uint8)


def padded(columns: int, multiple: int) -> int:
    return -(-columns // multiple) * multiple


class Channel(Codec):
    """Channel-wise symmetric absmax, the paper's (EdgeMoE, §bitwidth adaptation): one FP16 scale a row, codes ±(2^(b−1) − 1)."""

    name = "channel"

    def grid(self, columns: int, bits: int) -> Grid:
        width = padded(columns, ALIGN)
        return Grid(width, width, float(1 << (bits - 1)))

    def _scales(self, values: Tensor, bits: int) -> Tensor:
        return values.abs().amax(-1) / ((1 << (bits - 1)) - 1)

    def _bounds(self, bits: int) -> tuple[int, int]:
        return 1, (1 << bits) - 1
