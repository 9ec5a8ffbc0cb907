"""A session file that is open: frames are appended to it, columns are read back from it."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import msgspec
import numpy as np

from engine.errors import EngineError
from engine.events import TABLES
from engine.recording import frame as frames
from engine.recording.frame import HEADER_BYTES, Frame, Kind

CACHE_BYTES = 32 << 20
_COPY_BYTES = 1 << 22


class SessionFile:
    """Frames in a file, and the payloads used last in memory. Reading and appending may happen in different threads."""

    def __init__(self, file: BinaryIO, writable: bool) -> None:
        self.writable = writable
        self.schema: frames.Schema = dict(TABLES)
        self.end = 0  # bytes up to the last group that is whole
        self._file = file
        self._lock = Lock()
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cached = 0
        self._closing = weakref.finalize(self, file.close)

    @classmethod
    def create(cls, path: Path | None) -> SessionFile:
        """A new file at ``path``, in the place of an older session; None: a nameless one that ends with the process.

        Raises:
            EngineError: the file cannot be made, or it would replace something that is no session.
            OSError: there is no room for a temporary file.
        """
        session = cls(_temporary() if path is None else _fresh(path), writable=True)
        session.begin()
        return session

    @classmethod
    def open(cls, path: Path) -> SessionFile:
        """An existing session, to be read with ``groups``.

        Raises:
            EngineError: there is no such file, or it is no session.
        """
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by close, or with the object)
        except OSError as error:
            raise EngineError(f"{path} cannot be opened: {error.strerror}") from None
        session = cls(file, writable=False)
        version = frames.read_head(session._read(0, len(frames.head())))
        if version != frames.VERSION:
            session.close()
            if version is None:
                raise EngineError(f"{path} is no session of EdgeMoE Studio; open a file written by Save session or run --session")
            raise EngineError(f"{path} was recorded by another version, in format {version}; this one reads format {frames.VERSION}")
        session.end = len(frames.head())
        return session

    def begin(self) -> None:
        """Write the head and the schema into an empty file."""
        self.append_raw(frames.head())
        payload = frames.pack_schema(self.schema)
        self.append([(Frame(Kind.SCHEMA, len(payload), frames.checksum(payload)), payload)])

    @property
    def size(self) -> int:
        """Bytes of the file, a torn end included."""
        return os.fstat(self._file.fileno()).st_size

    def groups(self) -> Iterator[list[tuple[Frame, int, bytes]]]:
        """Every whole group in order, as (frame, offset of its payload, payload); ends before the first that is not whole."""
        position, size, group = self.end, self.size, list[tuple[Frame, int, bytes]]()
        while position + HEADER_BYTES <= size:
            frame = frames.read_header(self._read(position, HEADER_BYTES))
            offset = position + HEADER_BYTES
            if frame is None or offset + frame.padded > size:
                return
            payload = self._read(offset, frame.length)
            if frames.checksum(payload) != frame.checksum or not self._fits(frame, payload):
                return
            group.append((frame, offset, payload))
            position = offset + frame.padded
            if frame.commit:
                self.end = position
                yield group
                group = []

    def append(self, group: Sequence[tuple[Frame, bytes]]) -> list[int]:
        """Write a group; returns the offset of each payload.

        Raises:
            OSError: the disk is full or gone. The file is as it was before.
        """
        parts, offsets, position = [], [], self.end
        for number, (frame, payload) in enumerate(group, 1):
            parts.append(frames.pack_frame(replace(frame, commit=number == len(group)), payload))
            offsets.append(position + HEADER_BYTES)
            position += len(parts[-1])
        self.append_raw(b"".join(parts))
        for (frame, payload), offset in zip(group, offsets, strict=True):
            if frame.kind == Kind.TABLE:
                self._keep(offset, np.frombuffer(payload, np.uint8))
        return offsets

    def append_raw(self, data: bytes) -> None:
        """Write bytes at the end, all or none."""
        with self._lock:
            try:
                self._file.seek(self.end)
                rest = memoryview(data)
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                self._file.truncate(self.end)
                raise
            self.end += len(data)

    def payload(self, offset: int, length: int) -> np.ndarray:
        """A payload [bytes, u1], read-only, from memory where it was used lately."""
        with self._lock:
            if offset in self._cache:
                self._cache.move_to_end(offset)
                return self._cache[offset]
        data = np.frombuffer(self._read(offset, length), np.uint8)
        if len(data) < length:
            raise EngineError("The session file was cut off while it was open; open it again")
        self._keep(offset, data)
        return data

    def read_into(self, out: np.ndarray, offset: int) -> None:
        """Fill a contiguous array from the file, past the cache: for long columns that would only push everything out of it."""
        with self._lock:
            self._check()
            self._file.seek(offset)
            count = self._file.readinto(out.view(np.uint8).data)  # type: ignore[attr-defined]
        if count != out.nbytes:
            raise EngineError("The session file was cut off while it was open; open it again")

    def copy_from(self, other: SessionFile) -> None:
        """Become a copy of another session file up to its last whole group; this one is empty."""
        while self.end < other.end:
            data = other._read(self.end, min(_COPY_BYTES, other.end - self.end))
            if not data:
                raise EngineError("The session file was cut off while it was open; open it again")
            self.append_raw(data)
        self.schema = other.schema

    def close(self) -> None:
        """Close the file; nothing can be read back afterwards."""
        self._cache.clear()
        self._closing()

    def _check(self) -> None:
        if self._file.closed:
            raise EngineError("The session is closed")

    def _read(self, offset: int, length: int) -> bytes:
        with self._lock:
            self._check()
            self._file.seek(offset)
            return self._file.read(length)

    def _keep(self, offset: int, payload: np.ndarray) -> None:
        with self._lock:
            self._cache[offset] = payload
            self._cached += payload.nbytes
            while self._cached > CACHE_BYTES and len(self._cache) > 1:
                self._cached -= self._cache.popitem(last=False)[1].nbytes

    def _fits(self, frame: Frame, payload: bytes) -> bool:
        """Whether the payload is what its header says; takes over the schema."""
        if frame.kind == Kind.TABLE:
            if frame.table >= len(self.schema):
                return False
            return frames.layout(list(self.schema.values())[frame.table], frame.rows)[1] == frame.length
        if frame.kind == Kind.SCHEMA:
            try:
                self.schema = frames.read_schema(payload)
            except (msgspec.MsgspecError, TypeError, ValueError):
                return False
        return True


def _fresh(path: Path) -> BinaryIO:
    """A new file; an older session there is unlinked, not emptied, since it may be open somewhere."""
    try:
        if path.exists():
            if not path.is_file():
                raise EngineError(f"{path} is no file; choose another name for the session")
            with path.open("rb") as old:
                start = old.read(len(frames.head()))
            if start and frames.read_head(start) is None:
                raise EngineError(f"{path} exists and is no session; choose another name")
            path.unlink()
        return open(path, "x+b", buffering=0)
    except OSError as error:
        raise EngineError(f"{path} cannot be written: {error.strerror}") from None


def _temporary() -> BinaryIO:
    # /tmp is memory on many systems, and records are spilled to save memory.
    roomy = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None
    return tempfile.TemporaryFile(prefix="edgemoe-", suffix=frames.SUFFIX, dir=roomy, buffering=0)
