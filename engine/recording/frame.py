"""The layout of a session file: a head, then frames, all in multiples of 64 bytes.

Head: magic, version, padding. Frame: a header (sizes, time bounds, checksums), then the payload, padded. The payload of a
message frame is one notice as MessagePack; that of a table frame is its columns one after another, each starting at a multiple of
64 bytes, so that a column is read back without decoding. The first frame is the schema: the columns of every table as written.
Frames are written in groups; the last one of a group carries COMMIT, and a group without it never happened.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import msgspec
import numpy as np
import xxhash

MAGIC = b"EdgeMoE session\n"
VERSION = 1
SUFFIX = ".edgemoe"
ALIGN = 64
COMMIT = 1
MAX_ROWS = 1 << 14  # rows of one table frame, so that a look at a few tokens reads little

_HEAD = struct.Struct("<16sI44x")
_HEADER = struct.Struct("<4sBBBxII QqqQ")
_CHECK = struct.Struct("<Q8x")
_MARK = b"FRME"
HEADER_BYTES = _HEADER.size + _CHECK.size

Schema = dict[str, np.dtype]


class Kind(IntEnum):
    SCHEMA = 0
    MESSAGE = 1
    TABLE = 2


@dataclass(frozen=True)
class Frame:
    """One frame; ``first``/``last`` are the earliest start and latest end of its rows in ns, ``length`` the payload's bytes."""

    kind: Kind
    length: int
    checksum: int
    table: int = 0
    rows: int = 0
    first: int = 0
    last: int = 0
    commit: bool = False

    @property
    def padded(self) -> int:
        """Bytes that the payload takes in the file."""
        return aligned(self.length)


def aligned(length: int) -> int:
    """``length`` rounded up to the next multiple of 64."""
    return -(-length // ALIGN) * ALIGN


def head() -> bytes:
    """The first 64 bytes of a session file."""
    return _HEAD.pack(MAGIC, VERSION)


def read_head(data: bytes) -> int | None:
    """The version of the session file that begins so; None where it is no session file."""
    if len(data) < _HEAD.size:
        return None
    magic, version = _HEAD.unpack_from(data)
    return int(version) if magic == MAGIC else None


def pack_frame(frame: Frame, payload: bytes) -> bytes:
    """Header, payload and padding."""
    header = _HEADER.pack(
        _MARK, frame.kind, frame.table, COMMIT if frame.commit else 0, frame.rows, 0, frame.length, frame.first, frame.last, frame.checksum
    )
    return b"".join((header, _CHECK.pack(xxhash.xxh3_64_intdigest(header)), payload, bytes(frame.padded - frame.length)))


def read_header(data: bytes) -> Frame | None:
    """The frame whose header this is; None where it is none, or not whole."""
    if len(data) < HEADER_BYTES or data[:4] != _MARK:
        return None
    if _CHECK.unpack_from(data, _HEADER.size)[0] != xxhash.xxh3_64_intdigest(data[: _HEADER.size]):
        return None
    _, kind, table, flags, rows, _, length, first, last, checksum = _HEADER.unpack_from(data)
    if kind not in Kind.__members__.values():
        return None
    return Frame(Kind(kind), length, checksum, table, rows, first, last, bool(flags & COMMIT))


def checksum(payload: bytes) -> int:
    """The checksum of a payload without its padding."""
    return xxhash.xxh3_64_intdigest(payload)


def layout(dtype: np.dtype, rows: int) -> tuple[dict[str, int], int]:
    """Where in a payload of ``rows`` rows each column begins, and the bytes of all."""
    offsets: dict[str, int] = {}
    position = 0
    for name in dtype.names or ():
        offsets[name] = position
        position += aligned(rows * dtype[name].itemsize)
    return offsets, position


def columns_of(payload: np.ndarray, dtype: np.dtype, rows: int) -> dict[str, np.ndarray]:
    """The columns in a payload [bytes, u1], without copying."""
    offsets, _ = layout(dtype, rows)
    return {name: payload[start : start + rows * dtype[name].itemsize].view(dtype[name]) for name, start in offsets.items()}


def pack_schema(tables: Schema) -> bytes:
    """The columns of every table, in the order that numbers the tables."""
    return msgspec.msgpack.encode([(name, [(column, dtype[column].str) for column in dtype.names or ()]) for name, dtype in tables.items()])


def read_schema(payload: bytes) -> Schema:
    """Raises ``msgspec.MsgspecError`` or ``TypeError`` on anything else than a schema."""
    tables = msgspec.msgpack.decode(payload, type=list[tuple[str, list[tuple[str, str]]]])
    return {name: np.dtype(columns) for name, columns in tables}
