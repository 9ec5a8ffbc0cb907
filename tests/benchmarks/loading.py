"""The loader by itself: how exactly a device's pace is kept, what a lone read waits for besides the storage, how fast records are checked.

    python tests/benchmarks/loading.py [--reads 1000]

Late: from when the imitated device would have been done to the end of the read, told of each device alone and with as many at once as there
are lanes; where a record takes this machine longer than the device, that is its own lateness: the share of such reads is told beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int64, c_uint64
from functools import partial
from mmap import mmap

import numpy as np
import torch
import xxhash
from _demo import demo_store

from engine.binding import bind
from engine.preload.device import NATIVE, Device
from engine.preload.loader import FUNCTIONS, Loader, Read, read_at
from engine.store import Store
from profiles.devices import load_devices

BITS, LANES = 4, 4


class Lanes:
    """Reads of the store's records in no order, so many at once."""

    def __init__(self, store: Store, device: Device, verify: bool = True) -> None:
        self.store, self.native, self.loader = store, bind(FUNCTIONS), Loader(store, LANES, device, verify)
        self.memory = [mmap(-1, store.record_bytes(BITS)) for _ in range(LANES)]
        self.places = [torch.frombuffer(memory, dtype=torch.uint8).data_ptr() for memory in self.memory]
        self.dice = np.random.default_rng(0)

    def read(self, at_once: int) -> list[Read]:
        count = self.store.spec.layers * self.store.spec.experts
        records = [self.store.record(*divmod(int(e), self.store.spec.experts), BITS) for e in self.dice.integers(0, count, at_once)]
        reads = [
            Read(file=self.store.widths.index(BITS), offset=r.offset, nbytes=r.nbytes, checksum=r.checksum, memory=place)
            for r, place in zip(records, self.places, strict=False)
        ]
        for read in reads:
            self.native.loader_submit(self.loader.handle, byref(read))
        done = [read_at(self.native.loader_wait(self.loader.handle)) for _ in reads]
        assert not any(read.error for read in done)
        return sorted(done, key=lambda read: read.started)


def lateness(lanes: Lanes, at_once: int, own: float, reads: int) -> None:
    device, late, slower = lanes.loader.device, [], 0
    for _ in range(reads // at_once):
        free = 0.0
        for read in lanes.read(at_once):
            free = max(free, read.started + device.latency * 1e9) + read.nbytes / device.bandwidth * 1e9
            late.append((read.finished - free) / 1e3)
            slower += free - read.started < own
    middle, mean, p99 = np.median(late), np.mean(late), np.percentile(late, 99)
    print(f"  {device.name:<9} {at_once} at once: late by {middle:6.1f} µs (median), {mean:6.1f} (mean), {p99:7.1f} (99%); "
          f"{slower / len(late):4.0%} due sooner than this machine's own median read")  # fmt: skip


def checked(checksum: Callable[[bytes, int], int], data: bytes) -> int:
    return checksum(data, len(data))


def gigabytes_per_second(check: Callable[[bytes], object], data: bytes) -> float:
    best, turns = float("inf"), max(1, (1 << 28) // len(data))
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(turns):
            check(data)
        best = min(best, (time.perf_counter() - began) / turns)
    return len(data) / best / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=1000)
    reads, store = parser.parse_args().reads, demo_store()
    own: dict[int, float] = {}  # ns, by reads at once
    print(f"Records of {store.record_bytes(BITS) / 1024:.0f} KiB, {LANES} lanes")
    for verify in (False, True):
        lanes = Lanes(store, NATIVE, verify)
        for at_once in (1, LANES):
            took = [[read.finished - read.started for read in lanes.read(at_once)] for _ in range(reads // at_once)]
            own[at_once] = float(np.median(took))
            print(f"  native    {at_once} at once: {own[at_once] / 1e3:.1f} µs a read (median), {'checked' if verify else 'unchecked'}")
        lanes.loader.close()
    for device in (device for name, device in load_devices().items() if name != NATIVE.name):
        lanes = Lanes(store, device)
        for at_once in (1, lanes.loader.threads):
            lateness(lanes, at_once, own[min(at_once, LANES)], reads if device.latency < 1e-3 else reads // 20)
            if lanes.loader.threads == 1:
                break
        lanes.loader.close()
    names = ("checksum", "checksum_portable")
    native = bind(dict.fromkeys(names, (c_uint64, (c_char_p, c_int64))))
    for size in (store.record_bytes(BITS), 1 << 20):
        data = np.random.default_rng(0).bytes(size)
        speeds = [gigabytes_per_second(partial(checked, getattr(native, name)), data) for name in names]
        other = gigabytes_per_second(xxhash.xxh3_64_intdigest, data)
        print(f"  checking {size / 1024:5.0f} KiB: {speeds[0]:.1f} GB/s, {speeds[1]:.1f} without AVX2; the xxhash module {other:.1f}")


if __name__ == "__main__":
    main()
