"""The store on disk: which files, what the manifest says, how the sections of a record lie.

A store is one folder that needs nothing else::

    store.json             the manifest below, versioned; written last, so that a folder with one is a whole store
    experts-{bits}.bin     records of one width, expert after expert, layer after layer; all one size, a multiple of 4 KiB
    checksums.bin          uint64 [layers, experts, widths]: xxh3-64 of each record, padding included
    skeleton.safetensors   every tensor that is no expert's, under the model's own names
    config.json, …         configuration, generation settings and tokenizer as they came

R rows, P padded columns, G groups a row, b bits, n outliers of a part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from engine.models.spec import ExpertSpec, PartSpec
from engine.quant import Codec
from engine.quant.packing import packed_columns

FORMAT, VERSION = "edgemoe-store", 2
WIDTHS = (2, 3, 4, 8, 16)
BLOCK = 4096  # records begin and end on this, as direct I/O wants
_LINE = 64  # sections begin on this, as SIMD loads want

MANIFEST, CHECKSUMS, SKELETON = "store.json", "checksums.bin", "skeleton.safetensors"
VALUE_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def experts_file(bits: int) -> str:
    return f"experts-{bits}.bin"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``store.json`` says."""

    format: str = FORMAT
    version: int = VERSION
    name: str
    model_hash: str
    quantizer: str
    value_dtype: str  # of 16-bit records and biases
    widths: tuple[int, ...]
    record_bytes: tuple[int, ...]  # a record at each of ``widths``
    skeleton_bytes: int
    checksums: str  # xxh3-64 of checksums.bin, hexadecimal
    spec: ExpertSpec


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of a record: one tensor of ``dtype`` and ``shape`` at byte ``offset``."""

    offset: int
    nbytes: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class OutliersLayout(NamedTuple):
    """Where a part's outliers lie (engine.quant.outliers): ``counts`` [R], ``columns`` and ``values`` [n]."""

    counts: Section
    columns: Section
    values: Section


@dataclass(frozen=True, slots=True)
class PartLayout:
    """Where one part of an expert lies: ``codes`` are packed codes, or the values of a part kept at 16 bits."""

    spec: PartSpec
    codes: Section
    scales: Section | None = None
    group: int = 0
    center: float = 0.0
    outliers: OutliersLayout | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """One record at one width. ``units`` are the scales' powers of two, float32, one a part, at the record's start."""

    bits: int
    units: Section
    parts: tuple[PartLayout, ...]
    nbytes: int


def layout_of(spec: ExpertSpec, bits: int, codec: Codec, value_dtype: torch.dtype) -> Layout:
    """The layout of a record: a function of the spec, the width and the quantizer, so that none need be stored."""
    end = 0

    def section(dtype: torch.dtype, *shape: int) -> Section:
        nonlocal end
        start = -(-end // _LINE) * _LINE
        end = start + math.prod(shape) * dtype.itemsize
        return Section(start, end - start, dtype, shape)

    units = section(torch.float32, len(spec.parts))
    parts = []
    for part in spec.parts:
        if bits == 16 or not part.quantized:
            parts.append(PartLayout(part, section(value_dtype, *part.shape)))
            continue
        rows, columns = part.shape
        grid = codec.grid(columns, bits)
        codes = section(torch.uint8, rows, packed_columns(grid.columns, bits))
        scales = section(torch.float16, rows, grid.groups)
        count = codec.outliers(rows, columns, bits)
        apart = (section(torch.uint8, rows), section(torch.uint16, count), section(torch.float16, count)) if count else None
        parts.append(PartLayout(part, codes, scales, grid.group, grid.center, apart and OutliersLayout(*apart)))
    return Layout(bits, units, tuple(parts), -(-end // BLOCK) * BLOCK)


def is_store(path: Path) -> bool:
    """Whether ``path`` is a folder with a manifest; whether it is sound, opening it says."""
    return (path / MANIFEST).is_file()
