"""The I/O threads (loader.h) of one store: they read expert records past the page cache, no faster than the device to be imitated."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_bool, c_char_p, c_double, c_int32, c_int64, c_uint64, c_void_p, sizeof
from math import isinf

from engine.binding import bind
from engine.errors import EngineError
from engine.preload.device import NATIVE, Device
from engine.store import Store
from engine.store.format import experts_file


class Read(Structure):
    """One record on its way into ``memory``, storage.h. Times are ns of ``perf_counter_ns``."""

    _fields_ = [
        ("expert", c_int32), ("bits", c_int32), ("file", c_int32), ("ahead", c_bool), ("offset", c_int64), ("nbytes", c_int64),
        ("checksum", c_uint64), ("memory", c_void_p), ("started", c_int64), ("finished", c_int64), ("lane", c_int32), ("error", c_int32),
    ]  # fmt: skip


SHORT, DAMAGED = -1, -2
"""Errors of a read beside the system's own."""
FUNCTIONS = {
    "loader_new": (c_void_p, (POINTER(c_char_p), c_int32)),
    "loader_free": (None, (c_void_p,)),
    "loader_failed": (c_int32, (c_void_p,)),
    "loader_reason": (c_int32, (c_void_p,)),
    "loader_direct": (c_int32, (c_void_p,)),
    "loader_configure": (c_int32, (c_void_p, c_int32, c_double, c_int64, c_int32)),
    "loader_submit": (None, (c_void_p, POINTER(Read))),
    "loader_cancel": (c_int32, (c_void_p, POINTER(Read))),
    "loader_join": (c_int32, (c_void_p, POINTER(Read))),
    "loader_wait": (c_void_p, (c_void_p,)),
    "loader_poll": (c_void_p, (c_void_p,)),
    "loader_busy": (c_int64, (c_void_p,)),
    "loader_read_size": (c_int64, ()),
}


class Loader:
    """``threads`` I/O threads, fewer where the device's queue is shorter. ``handle`` is the native loader, which a stream drives.

    Raises:
        EngineError: a file of the store cannot be opened, or a thread not started.
    """

    handle = None

    def __init__(self, store: Store, threads: int, device: Device = NATIVE, verify: bool = True) -> None:
        self._native = bind(FUNCTIONS)
        assert self._native.loader_read_size() == sizeof(Read), "a read differs from the library's"
        self._store = store
        files = [store.path / experts_file(bits) for bits in store.widths]
        self.handle = self._native.loader_new((c_char_p * len(files))(*map(os.fsencode, files)), len(files))
        failed = self._native.loader_failed(self.handle)
        if failed >= 0:
            reason = os.strerror(self._native.loader_reason(self.handle))
            raise EngineError(f"{files[failed]} cannot be opened ({reason}); check its permissions or convert the model again")
        self.direct = bool(self._native.loader_direct(self.handle))
        self.configure(threads, device, verify)

    def configure(self, threads: int, device: Device, verify: bool) -> None:
        """Take another number of threads or another device, check records or not; no read may be in flight.

        Raises:
            EngineError: the system refuses so many threads; all stays as it was.
        """
        count = min(threads, device.queue_depth)
        bandwidth = 0.0 if isinf(device.bandwidth) else device.bandwidth
        refused = self._native.loader_configure(self.handle, count, bandwidth, int(device.latency * 1e9), verify)
        if refused:
            raise EngineError(f"{count} I/O threads cannot be started ({os.strerror(refused)}); set fewer, or close other programs")
        self.device, self.threads = device, count

    def error(self, expert: int, bits: int, reason: int) -> EngineError:
        """What to tell of a read that failed for ``reason``."""
        layer, local = divmod(expert, self._store.spec.experts)
        file = self._store.record(layer, local, bits).file
        if reason == SHORT:
            return EngineError(f"{file} ends too early; delete the store and convert the model again")
        if reason == DAMAGED:
            return EngineError(
                f"Expert {local} of layer {layer} at {bits} bits is damaged in {file} (its checksum is wrong); "
                "delete the store and convert the model again"
            )
        return EngineError(f"{file} cannot be read ({os.strerror(reason)}); check the disk or convert the model again")

    def close(self) -> None:
        """End the threads and close the files; nothing may be in flight."""
        if self.handle:
            self._native.loader_free(self.handle)
            self.handle = None

    def __del__(self) -> None:
        self.close()


def read_at(address: int) -> Read:
    """The read that a native loader handed back."""
    return ctypes.cast(address, POINTER(Read)).contents
