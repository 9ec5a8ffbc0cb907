"""A conversion under way: a folder beside the store to be, taken up again after any interruption.

W widths. Records are appended width by width, then one journal line of W checksums: what the journal does not vouch for was
not written. The journal of a finished conversion is the store's checksum table.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import xxhash

try:
    import fcntl
except ImportError:  # a platform without it
    fcntl = None  # type: ignore[assignment]

from engine.errors import EngineError
from engine.store.format import CHECKSUMS, experts_file

_IDENTITY = "conversion.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def disk_errors(target: Path) -> Iterator[None]:
    """Turn a failing disk into the line that says so.

    Raises:
        EngineError: the disk is full, or cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise EngineError(
                f"No space left for {target}; free some (or give another folder) and convert again: it continues where it stopped"
            ) from error
        raise EngineError(f"{target} cannot be written: {error.strerror or error}; choose another folder") from error


class Partial:
    """The growing files. ``done`` experts are safely there; ``append`` adds the next."""

    def __init__(self, target: Path, record_bytes: dict[int, int], identity: dict[str, object]) -> None:
        self.path = target.with_name(target.name + ".partial")
        self.done = 0
        self._record_bytes = record_bytes
        self._files: dict[int, BinaryIO] = {}
        self._begin(identity)
        self._lock = self._claim()
        try:
            self._files = {bits: self._open(experts_file(bits)) for bits in record_bytes}
            self._journal = self._open(CHECKSUMS)
        except BaseException:
            self.close()
            raise

    def _begin(self, identity: dict[str, object]) -> None:
        file = self.path / _IDENTITY
        with contextlib.suppress(OSError, ValueError):
            if json.loads(file.read_bytes()) == identity:
                return
        if self.path.exists() and not file.is_file() and any(self.path.iterdir()):
            raise EngineError(f"{self.path} is in the way and is no interrupted conversion; move it or choose another folder")
        # Another model or other widths: nothing in there can be used.
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        file.write_text(json.dumps(identity))

    def _claim(self) -> BinaryIO:
        busy = EngineError(f"{self.path} is being converted by another process; wait for it, or stop it")
        try:
            lock = (self.path / _IDENTITY).open("r+b")
        except FileNotFoundError:  # finished in this very moment
            raise busy from None
        if fcntl is not None:  # without flock, two conversions at once are the user's to avoid
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                raise busy from None
        return lock

    def _open(self, name: str) -> BinaryIO:
        file = self.path / name
        # Unbuffered: what write() returned from is the kernel's, also if this process is killed.
        return open(file, "r+b" if file.exists() else "w+b", buffering=0)

    def recover(self, step: Callable[[int], None]) -> None:
        """Find how many experts are whole, by reading them again, and cut off what comes after them.

        ``step`` is told the bytes of each checked expert, and may raise to stop.
        """
        self._journal.seek(0)
        journal = self._journal.read()
        row = 8 * len(self._files)
        for start in range(0, len(journal) - row + 1, row):
            sums = [int.from_bytes(journal[start + 8 * i : start + 8 * i + 8], "little") for i in range(len(self._files))]
            if not self._whole(sums):
                break
            self.done += 1
            step(sum(self._record_bytes.values()))
        for bits, file in self._files.items():
            _cut(file, self.done * self._record_bytes[bits])
        _cut(self._journal, self.done * row)

    def _whole(self, sums: list[int]) -> bool:
        for (bits, file), expected in zip(self._files.items(), sums, strict=True):
            file.seek(self.done * self._record_bytes[bits])
            if xxhash.xxh3_64_intdigest(file.read(self._record_bytes[bits])) != expected:
                return False
        return True

    def append(self, records: dict[int, bytearray]) -> None:
        """Write the next expert's records, then vouch for them."""
        sums = b""
        for bits, file in self._files.items():
            write_all(file, records[bits])
            sums += xxhash.xxh3_64_intdigest(records[bits]).to_bytes(8, "little")
        write_all(self._journal, sums)
        self.done += 1

    def read(self, bits: int, index: int) -> bytes:
        """The record just as it came to lie on disk."""
        file = self._files[bits]
        file.seek(index * self._record_bytes[bits])
        return file.read(self._record_bytes[bits])

    def checksums(self) -> bytes:
        self._journal.seek(0)
        return self._journal.read()

    def publish(self, target: Path) -> None:
        """Make the folder the store, at once: flushed to disk, then renamed."""
        for file in (*self._files.values(), self._journal):
            os.fsync(file.fileno())
        if fcntl is None:
            self.close()  # where there is no flock, files that are open are not renamed
        self.path.replace(target)
        (target / _IDENTITY).unlink()
        self.close()  # only now is the lock given up: nobody takes up a conversion that is finished

    def discard(self) -> None:
        """Give up what is there."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        for file in (*self._files.values(), *(getattr(self, name) for name in ("_journal", "_lock") if hasattr(self, name))):
            file.close()

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def write_all(file: BinaryIO, data: bytes | bytearray) -> None:
    """Write every byte: an unbuffered file may take fewer, as it does when the disk fills up."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _cut(file: BinaryIO, size: int) -> None:
    file.truncate(size)
    file.seek(size)
