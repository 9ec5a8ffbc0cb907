"""Codes of 2, 3, 4 or 8 bits, packed into bytes.

R rows, C columns (a multiple of ``ALIGN``), b bits a code.

A row is packed in planes: for b = 4, the first C/2 bytes hold columns 0..C/2 in their low nibbles and C/2..C in their
high ones. Unpacking is then one mask or shift over whole stretches, with no interleaving, in torch as in SIMD code.
A width that does not divide 8 is a sum of those that do (3 = 2 low bits + 1 high bit), each with its own planes.
"""

from __future__ import annotations

import torch
from torch import Tensor

ALIGN = 8
"""Columns are padded to a multiple of this, so that every plane of every width is whole bytes."""

_FIELDS: dict[int, tuple[int, ...]] = {2: (2,), 3: (2, 1), 4: (4,), 8: (8,)}
WIDTHS = tuple(_FIELDS)


def packed_columns(columns: int, bits: int) -> int:
    """Bytes of one packed row of ``columns`` codes."""
    return columns * bits // 8


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack uint8 codes [R, C], each below 2^b, into uint8 [R, C·b/8]."""
    rows, columns = codes.shape
    if bits not in _FIELDS or columns % ALIGN:
        raise ValueError(f"cannot pack {columns} columns at {bits} bits")
    packed = torch.zeros(rows, packed_columns(columns, bits), dtype=torch.uint8)
    start, low = 0, 0
    for field in _FIELDS[bits]:
        part = (codes >> low) & ((1 << field) - 1)
        stretch = columns * field // 8
        for plane in range(8 // field):
            packed[:, start : start + stretch] |= part[:, plane * stretch : (plane + 1) * stretch] << (plane * field)
        start, low = start + stretch, low + field
    return packed


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Undo ``pack``: uint8 [R, C·b/8] back to uint8 codes [R, C]. At 8 bits the very same tensor."""
    if bits == 8:
        return packed
    rows, width = packed.shape
    columns = width * 8 // bits
    fields = _FIELDS[bits]
    codes = torch.empty(rows, columns, dtype=torch.uint8)
    _unfold(packed[:, : columns * fields[0] // 8], fields[0], codes)
    if len(fields) > 1:
        high = torch.empty(rows, columns, dtype=torch.uint8)
        _unfold(packed[:, columns * fields[0] // 8 :], fields[1], high)
        codes |= high << fields[0]
    return codes


def _unfold(packed: Tensor, field: int, out: Tensor) -> None:
    stretch, planes, mask = packed.shape[1], 8 // field, (1 << field) - 1
    for plane in range(planes):
        target = out[:, plane * stretch : (plane + 1) * stretch]
        if plane == 0:
            torch.bitwise_and(packed, mask, out=target)
        else:
            torch.bitwise_right_shift(packed, plane * field, out=target)
            if plane < planes - 1:
                target &= mask
