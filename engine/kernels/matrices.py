"""Matrices and records of experts as the native kernels take them: addresses and shapes, no byte copied.

R rows, C columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.kernels.library import ACTIVATIONS, BFLOAT16, FLOAT16, FLOAT32, ExpertLayout, NativeMatrix, Place
from engine.models.spec import ExpertSpec
from engine.quant.matrix import Matrix
from engine.store.format import Layout, PartLayout

_KINDS = {torch.bfloat16: BFLOAT16, torch.float16: FLOAT16, torch.float32: FLOAT32}


def plain(weight: Tensor, bias: Tensor | None = None) -> NativeMatrix:
    """A matrix of floats [R, C], contiguous; good as long as the tensors are."""
    assert weight.is_contiguous()
    rows, columns = weight.shape
    matrix = NativeMatrix(codes=weight.data_ptr(), kind=_KINDS[weight.dtype], rows=rows, columns=columns, padded=columns, unit=1.0)
    _set_bias(matrix, bias)
    return matrix


def quantized(matrix: Matrix, bias: Tensor | None = None) -> NativeMatrix:
    """A quantized matrix, or a plain one of 16 bits; good as long as its tensors are."""
    if matrix.scales is None:
        return plain(matrix.codes, bias)
    padded = matrix.codes.shape[1] * 8 // matrix.bits
    native = NativeMatrix(
        codes=matrix.codes.data_ptr(), scales=matrix.scales.data_ptr(), kind=matrix.bits, rows=matrix.rows, columns=matrix.columns,
        padded=padded, group=matrix.group, unit=matrix.unit, center=matrix.center,
    )  # fmt: skip
    if matrix.outliers is not None:
        native.outliers, native.outlier_counts = len(matrix.outliers.columns), matrix.outliers.counts.data_ptr()
        native.outlier_columns, native.outlier_values = matrix.outliers.columns.data_ptr(), matrix.outliers.values.data_ptr()
    _set_bias(native, bias)
    return native


def _set_bias(matrix: NativeMatrix, bias: Tensor | None) -> None:
    if bias is not None:
        matrix.bias, matrix.bias_kind = bias.data_ptr(), _KINDS[bias.dtype]


def expert_layout(spec: ExpertSpec, layout: Layout, activation: str) -> ExpertLayout:
    """Where a record of this width keeps its matrices, and what lies between up and down."""
    up, down, *biases = layout.parts
    places = [_place(part, layout, index) for index, part in enumerate((up, down))]
    for place, bias in zip(places, biases, strict=bool(biases)):
        place.bias, place.bias_kind = bias.codes.offset, _KINDS[bias.codes.dtype]
    return ExpertLayout(
        up=places[0], down=places[1], bits=layout.bits, gated=spec.gated, interleaved=not spec.concatenated,
        activation=ACTIVATIONS[activation],
    )  # fmt: skip


def _place(part: PartLayout, layout: Layout, index: int) -> Place:
    rows, columns = part.spec.shape
    place = Place(codes=part.codes.offset, scales=-1, unit=-1, bias=-1, rows=rows, columns=columns, padded=columns, center=part.center)
    if part.scales is None:
        place.kind = _KINDS[part.codes.dtype]
    else:
        place.kind, place.group, place.scales = layout.bits, part.group, part.scales.offset
        place.padded = part.codes.shape[1] * 8 // layout.bits
        place.unit = layout.units.offset + 4 * index
    if part.outliers is not None:
        (place.outliers,) = part.outliers.columns.shape
        place.outlier_counts, place.outlier_columns, place.outlier_values = (section.offset for section in part.outliers)
    return place
