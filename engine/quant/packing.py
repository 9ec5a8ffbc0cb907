"""Codes of 2, 3, 4 or 8 bits, packed into bytes.

R rows, C columns (a multiple of ``ALIGN``), b bits a code.

A row is packed in blocks of 32 bytes, one SIMD register each, and a block in planes: for b = 4, a block holds 64 columns,
the first 32 in its low nibbles and the other 32 in its high ones. Unpacking is one mask or shift of the register, with
nothing to interleave, and a block is finished before the next is read. The last block is as short as the columns left.
A width that does not divide 8 is a sum of those that do (3 = 2 low bits + 1 high bit), each with its own blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor

ALIGN = 8
"""Columns are padded to a multiple of this, so that every plane of every width is whole bytes."""
_BLOCK = 32  # bytes

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
    packed, low = [], 0
    for field in _FIELDS[bits]:
        part = (codes >> low) & ((1 << field) - 1)
        for stretch, width in _stretches(columns, field):
            planes = part[:, stretch].view(rows, -1, 8 // field, width)
            folded = planes[:, :, 0].clone()
            for plane in range(1, 8 // field):
                folded |= planes[:, :, plane] << (plane * field)
            packed.append(folded.flatten(1))
        low += field
    return torch.cat(packed, dim=1)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Undo ``pack``: uint8 [R, C·b/8] back to uint8 codes [R, C]. At 8 bits the very same tensor."""
    if bits == 8:
        return packed
    rows, width = packed.shape
    columns = width * 8 // bits
    codes = torch.zeros(rows, columns, dtype=torch.uint8)
    start = low = 0
    for field in _FIELDS[bits]:
        for stretch, plane_bytes in _stretches(columns, field):
            nbytes = (stretch.stop - stretch.start) * field // 8
            folded = packed[:, start : start + nbytes].view(rows, -1, plane_bytes)
            planes = codes[:, stretch].view(rows, -1, 8 // field, plane_bytes)
            for plane in range(8 // field):
                planes[:, :, plane] |= ((folded >> (plane * field)) & ((1 << field) - 1)) << low
            start += nbytes
        low += field
    return codes


def _stretches(columns: int, field: int) -> list[tuple[slice, int]]:
    """The columns that fill whole blocks and those of the last, short one, each with the bytes of its block."""
    planes = 8 // field
    whole = columns // (_BLOCK * planes) * _BLOCK * planes
    stretches = [(slice(0, whole), _BLOCK), (slice(whole, columns), (columns - whole) // planes)]
    return [(stretch, width) for stretch, width in stretches if stretch.stop > stretch.start]
