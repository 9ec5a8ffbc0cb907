"""A storage device to be slowed down to: what it can do, and when it would have answered."""

from __future__ import annotations

import threading
import time

import msgspec


class Device(msgspec.Struct, frozen=True):
    """``bandwidth`` in bytes/s of sequential reads, ``latency`` in s of one read, ``queue_depth`` reads served at once.

    ``source`` says where the figures come from.
    """

    name: str
    title: str
    bandwidth: float
    latency: float
    queue_depth: int
    source: str = ""


NATIVE = Device("native", "This machine", float("inf"), 0.0, 64)


class Throttle:
    """Tells when a read would have been complete on ``device``: latencies of reads in the queue overlap, transfers do not."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._bus_free = 0.0

    def reserve(self, nbytes: int) -> float:
        """Admit a read of ``nbytes`` now; returns the time (``perf_counter`` s) before which it must not be complete."""
        with self._lock:
            begin = max(self._bus_free, time.perf_counter() + self.device.latency)
            self._bus_free = begin + nbytes / self.device.bandwidth
            return self._bus_free

    def wait(self, until: float) -> None:
        """Sleep until the reserved time."""
        left = until - time.perf_counter()
        if left > 0:
            time.sleep(left)
