"""The products' definition in float64: codes, scales and quantized activations as they are, summed without rounding to speak of.

T tokens, R rows, C columns, P columns padded to the weights' groups, G groups of 64 columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from engine.errors import EngineError
from engine.kernels.library import Native
from engine.quant import Matrix
from engine.quant.packing import unpack

GROUP = 64


def instruction_sets() -> list[str]:
    """The products that this processor runs."""
    found = []
    for name in ("AVX2", "portable C++"):
        try:
            Native(1, name).close()
        except EngineError:
            continue
        found.append(name)
    return found


class Quantized(NamedTuple):
    """Activations as the products take them: ``codes`` [T, G*64], ``scales`` and ``sums`` (scale times sum of codes) [T, G]."""

    codes: Tensor
    scales: Tensor
    sums: Tensor

    def values(self, columns: int) -> Tensor:
        """What they stand for: float64 [T, C]."""
        return (self.codes.double().unflatten(1, (-1, GROUP)) * self.scales.double().unsqueeze(-1)).flatten(1)[:, :columns]


def quantized(native: Native, x: Tensor, bits: int) -> Quantized:
    """x float32 [T, C] at ``bits`` (8 or 16), by the kernels' own function."""
    tokens, columns = x.shape
    groups = -(-columns // (2 * GROUP)) * 2
    codes = torch.full((tokens, groups * GROUP), 99, dtype=torch.int8 if bits == 8 else torch.int16)
    scales, sums = torch.full((tokens, groups), 99.0), torch.full((tokens, groups), 99.0)
    quantize = native.library.quantize8 if bits == 8 else native.library.quantize16
    for t in range(tokens):
        row = x[t].clone()
        quantize(native.handle, row.data_ptr(), columns, codes[t].data_ptr(), scales[t].data_ptr(), sums[t].data_ptr())
    return Quantized(codes, scales, sums)


def activations(native: Native, x: Tensor, bits: int) -> Tensor:
    """x [T, C] as weights of ``bits`` meet it, float64."""
    return x.double() if bits >= 16 else quantized(native, x, 16 if bits == 8 else 8).values(x.shape[1])


def dense(matrix: Matrix) -> Tensor:
    """The weights' values [R, C] in float64, but for what outliers add."""
    if matrix.scales is None:
        return matrix.codes.double()
    codes = unpack(matrix.codes, matrix.bits).double() - matrix.center
    return (codes.unflatten(1, (-1, matrix.group)) * _steps(matrix)).flatten(1)[:, : matrix.columns]


def apart(matrix: Matrix) -> Tensor:
    """What outliers add to the weights' values [R, C] in float64; they meet activations as they are."""
    added = torch.zeros(matrix.rows, matrix.columns)
    if matrix.outliers is not None:
        matrix.outliers.add_to(added, 1.0)
    return added.double() * matrix.unit


def size(matrix: Matrix) -> Tensor:
    """What rounding errors are to be held against [R, C]: code and center are multiplied apart, so that their sizes add up."""
    if matrix.scales is None:
        return matrix.codes.double().abs()
    codes = unpack(matrix.codes, matrix.bits).double() + matrix.center
    return (codes.unflatten(1, (-1, matrix.group)) * _steps(matrix)).flatten(1)[:, : matrix.columns]


def _steps(matrix: Matrix) -> Tensor:
    assert matrix.scales is not None
    return matrix.scales.double().unsqueeze(-1) * matrix.unit


def error(y: Tensor, wanted: Tensor) -> float:
    """Root of the squared error over all, as a share of the wanted's."""
    return float(np.sqrt(float((y.double() - wanted).square().sum()) / float(wanted.square().sum())))
