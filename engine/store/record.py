"""One expert as the bytes of a record, and back. What ``decode`` gives are views: no byte is copied.

nbytes: the record's size at its width, a multiple of 4 KiB.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.quant import Codec, ExpertWeights, Inputs, Matrix
from engine.quant.outliers import Outliers
from engine.store.format import Layout, PartLayout, Section


def encode(parts: dict[str, Tensor], layout: Layout, codec: Codec, inputs: dict[str, Inputs] | None = None) -> bytearray:
    """The record of an expert whose ``parts`` are tensors by name; ``inputs`` are what went through each, where text was run.

    Raises:
        ValueError: a weight is not finite.
    """
    record = bytearray(layout.nbytes)
    buffer = torch.frombuffer(record, dtype=torch.uint8)
    for index, part in enumerate(layout.parts):
        tensor = parts[part.spec.name]
        if part.scales is None:
            view(buffer, part.codes).copy_(tensor)
            continue
        matrix = codec.quantize(tensor, layout.bits, (inputs or {}).get(part.spec.name))
        assert matrix.scales is not None
        view(buffer, part.codes).copy_(matrix.codes)
        view(buffer, part.scales).copy_(matrix.scales)
        view(buffer, layout.units)[index] = matrix.unit
        if part.outliers is not None:
            assert matrix.outliers is not None
            view(buffer, part.outliers.counts).copy_(matrix.outliers.counts)
            view(buffer, part.outliers.columns).copy_(matrix.outliers.columns)
            view(buffer, part.outliers.values).copy_(matrix.outliers.values)
    return record


def decode(buffer: Tensor, layout: Layout) -> ExpertWeights:
    """The weights in a record ``buffer``, uint8 [nbytes], as views of it: they live and change with the buffer."""
    units: list[float] = view(buffer, layout.units).tolist()
    matrices, biases = [], []
    for part, unit in zip(layout.parts, units, strict=True):
        if part.spec.quantized:
            matrices.append(_matrix(buffer, part, layout.bits, unit))
        else:
            biases.append(view(buffer, part.codes))
    up_bias, down_bias = biases or (None, None)
    return ExpertWeights(layout.bits, matrices[0], matrices[1], up_bias, down_bias)


def _matrix(buffer: Tensor, part: PartLayout, bits: int, unit: float) -> Matrix:
    rows, columns = part.spec.shape
    codes = view(buffer, part.codes)
    scales = None if part.scales is None else view(buffer, part.scales)
    outliers = None if part.outliers is None else Outliers(*(view(buffer, section) for section in part.outliers))
    return Matrix(bits, rows, columns, codes, scales, unit, part.center, part.group, outliers)


def view(buffer: Tensor, section: Section) -> Tensor:
    """A section of a record as the tensor it holds."""
    return buffer[section.offset : section.offset + section.nbytes].view(section.dtype).view(section.shape)
