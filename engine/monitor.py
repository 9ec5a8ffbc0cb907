"""The engine process as the system sees it: memory, faults, bytes read; sampled ten times a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from engine.events import SAMPLE, Batch

_PERIOD = 0.1


def kernel_read_bytes() -> int:
    """Bytes the kernel fetched from storage for this process; 0 where it does not tell."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("read_bytes")), 0)


def major_faults() -> int:
    """Page faults of this process that waited for storage; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[9])
    except OSError:
        return 0


class Monitor:
    """Samples in its own thread from ``start`` to ``stop``. ``limit`` bytes of resident memory end the process via ``on_limit``."""

    def __init__(
        self, emit: Callable[[Batch], None], now: Callable[[], int], buffer_of: Callable[[], tuple[int, int, int, int]],
        limit: int = 0, on_limit: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        """``buffer_of`` gives budget, resident, peak resident and KV bytes at this moment."""
        self._emit, self._now, self._buffer_of = emit, now, buffer_of
        self._limit, self._on_limit = limit, on_limit
        self._process = psutil.Process()
        self._read0, self._faults0 = kernel_read_bytes(), major_faults()
        self._sampling = threading.Lock()  # samples are told in the order in which they were taken
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        self._process.cpu_percent()
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self.sample()

    def _run(self) -> None:
        while not self._ended.wait(_PERIOD):
            self.sample()

    def sample(self) -> None:
        """Tell how it is now."""
        with self._sampling:
            rss = self._process.memory_info().rss
            budget, resident, peak, kv = self._buffer_of()
            row = np.zeros(1, SAMPLE)
            row[0] = (
                self._now(), rss, budget, resident, peak, kv, kernel_read_bytes() - self._read0, major_faults() - self._faults0,
                psutil.virtual_memory().available, self._process.cpu_percent(),
            )  # fmt: skip
            self._emit(Batch({"samples": row.tobytes()}, []))
        if self._limit and rss > self._limit and self._on_limit:
            self._on_limit(rss)
