"""Reads expert records on I/O threads, past the page cache, no faster than the device to be imitated."""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import xxhash

from engine.errors import EngineError
from engine.preload.device import NATIVE, Device, Throttle
from engine.store import Record
from engine.store.format import BLOCK

_DIRECT = getattr(os, "O_DIRECT", 0)


@dataclass(slots=True)
class Read:
    """One record on its way into ``memory``. Times are ``perf_counter_ns``; ``error`` is set when it failed."""

    expert: int
    bits: int
    record: Record
    memory: memoryview
    outcome: int
    lane: int = 0
    started: int = 0
    finished: int = 0
    error: EngineError | None = None


class Loader:
    """``threads`` I/O threads, fewer where the device's queue is shorter. ``submit`` reads, ``next`` the completed ones."""

    def __init__(self, files: list[Path], experts: int, threads: int, device: Device = NATIVE, verify: bool = True) -> None:
        self.verify = verify
        self._experts = experts
        self.direct = bool(_DIRECT)
        self._descriptors = {file: self._open(file) for file in files}
        self._done: queue.SimpleQueue[Read] = queue.SimpleQueue()
        self._wanted: queue.SimpleQueue[Read | None] = queue.SimpleQueue()
        self._workers: list[threading.Thread] = []
        self.configure(threads, device)

    def configure(self, threads: int, device: Device) -> None:
        """Take another number of threads or another device; no read may be in flight."""
        self._stop()
        self.device, self._throttle = device, Throttle(device)
        self.threads = min(threads, device.queue_depth)
        self._workers = [
            threading.Thread(target=self._work, args=(lane,), name=f"expert-io-{lane}", daemon=True) for lane in range(1, self.threads + 1)
        ]
        for worker in self._workers:
            worker.start()

    def submit(self, read: Read) -> None:
        self._wanted.put(read)

    def next(self) -> Read:
        """The next completed read; waits for it."""
        return self._done.get()

    def close(self) -> None:
        """End the threads and close the files."""
        self._stop()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _stop(self) -> None:
        for _ in self._workers:
            self._wanted.put(None)
        for worker in self._workers:
            worker.join()
        self._workers = []

    def _open(self, file: Path) -> int:
        try:
            descriptor = self._opened(file)
        except OSError as error:
            raise EngineError(f"{file} cannot be opened ({error.strerror}); check its permissions or convert the model again") from None
        _forget(descriptor)  # what converting left in the page cache
        return descriptor

    def _opened(self, file: Path) -> int:
        if self.direct:
            with contextlib.suppress(OSError):
                return _open_direct(file)
            self.direct = False  # this file system has no direct reads: drop what the cache keeps instead
        return os.open(file, os.O_RDONLY)

    def _work(self, lane: int) -> None:
        while (read := self._wanted.get()) is not None:
            read.lane, read.started = lane, time.perf_counter_ns()
            try:
                self._serve(read)
            except EngineError as error:
                read.error = error
            read.finished = time.perf_counter_ns()
            self._done.put(read)

    def _serve(self, read: Read) -> None:
        record = read.record
        ready = self._throttle.reserve(record.nbytes)
        descriptor = self._descriptors[record.file]
        try:
            got = os.preadv(descriptor, [read.memory], record.offset)
        except OSError as error:
            raise EngineError(f"{record.file} cannot be read ({error.strerror}); check the disk or convert the model again") from None
        if got != record.nbytes:
            raise EngineError(f"{record.file} ends too early; delete the store and convert the model again")
        if not self.direct:
            _forget(descriptor, record.offset, record.nbytes)
        if self.verify and xxhash.xxh3_64_intdigest(read.memory) != record.checksum:
            raise self._damaged(read)
        self._throttle.wait(ready)

    def _damaged(self, read: Read) -> EngineError:
        layer, expert = divmod(read.expert, self._experts)
        return EngineError(
            f"Expert {expert} of layer {layer} at {read.bits} bits is damaged in {read.record.file} (its checksum is wrong); "
            "delete the store and convert the model again"
        )


def _open_direct(file: Path) -> int:
    """Open past the page cache, and see that it works: some file systems refuse only the read."""
    descriptor = os.open(file, os.O_RDONLY | _DIRECT)
    try:
        with mmap.mmap(-1, BLOCK) as block:
            os.preadv(descriptor, [block], 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _forget(descriptor: int, offset: int = 0, nbytes: int = 0) -> None:
    """Drop a stretch of a file (0 bytes: all of it) from the page cache, where the system can."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, nbytes, os.POSIX_FADV_DONTNEED)
