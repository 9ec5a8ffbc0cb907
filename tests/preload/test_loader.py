"""Records are read past the page cache, what is demanded before what is read ahead, and answer no sooner than the device would."""

from __future__ import annotations

import ctypes
import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from ctypes import byref, c_char_p, c_int64, c_uint64
from mmap import ACCESS_COPY, PAGESIZE, mmap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import xxhash
from hypothesis import given
from hypothesis import strategies as some

from engine.binding import bind
from engine.errors import EngineError
from engine.preload.device import NATIVE, Device
from engine.preload.loader import DAMAGED, FUNCTIONS, SHORT, Loader, Read, read_at
from engine.store import Store
from engine.store.format import experts_file
from tests.session.conftest import damage, store

__all__ = ["store"]


class Reader:
    """A loader driven by hand; keeps the reads and the memory they go to."""

    def __init__(self, store: Store, threads: int, device: Device = NATIVE) -> None:
        self.store, self.loader = store, Loader(store, threads, device)
        self.native: SimpleNamespace = bind(FUNCTIONS)
        self._kept: list[object] = []

    def take_in(self, count: int) -> list[Read]:
        return [self.wait() for _ in range(count)]

    def read(self, expert: int, ahead: bool = False, bits: int = 4, **other: int) -> Read:
        record = self.store.record(*divmod(expert, self.store.spec.experts), bits)
        memory = mmap(-1, record.nbytes)
        place = torch.frombuffer(memory, dtype=torch.uint8).data_ptr()
        told = {"offset": record.offset, "nbytes": record.nbytes, "checksum": record.checksum} | other
        read = Read(expert=expert, bits=bits, file=self.store.widths.index(bits), ahead=ahead, memory=place, **told)
        self._kept += [memory, read]
        return read

    def submit(self, read: Read) -> Read:
        self.native.loader_submit(self.loader.handle, byref(read))
        return read

    def cancel(self, read: Read) -> bool:
        return bool(self.native.loader_cancel(self.loader.handle, byref(read)))

    def join(self, read: Read) -> bool:
        return bool(self.native.loader_join(self.loader.handle, byref(read)))

    def wait(self) -> Read:
        return read_at(self.native.loader_wait(self.loader.handle))

    def poll(self) -> Read | None:
        address = self.native.loader_poll(self.loader.handle)
        return read_at(address) if address else None


SLOW = Device("slow", "One at a time, 20 ms each", 1e9, 0.02, 1)
WIDE = Device("wide", "Four at a time, 20 ms each", 1e9, 0.02, 4)


@pytest.fixture
def readers(store: Store) -> Iterator[list[Reader]]:
    made: list[Reader] = []
    yield made
    for reader in made:
        reader.loader.close()


@pytest.fixture
def slow(store: Store, readers: list[Reader]) -> Reader:
    readers.append(Reader(store, 4, SLOW))
    return readers[0]


def test_what_is_demanded_comes_before_what_is_read_ahead_and_joined_with_it(slow: Reader) -> None:
    slow.submit(slow.read(0))
    time.sleep(0.005)  # it has started
    ahead = [slow.submit(slow.read(expert, ahead=True)) for expert in (1, 2, 3)]
    slow.submit(slow.read(4))
    assert not slow.join(ahead[2]) and not slow.join(ahead[2]), "it had not started"
    assert [slow.wait().expert for _ in range(5)] == [0, 4, 3, 1, 2]


def test_what_has_not_started_can_be_taken_back(slow: Reader) -> None:
    first = slow.submit(slow.read(0, ahead=True))
    time.sleep(0.005)
    later = [slow.submit(slow.read(expert, ahead=expert > 2)) for expert in (1, 2, 3, 4)]
    assert slow.cancel(later[1]) and slow.cancel(later[3]) and not slow.cancel(first)
    assert slow.join(first), "it had started"
    assert [slow.wait().expert for _ in range(3)] == [0, 1, 3]
    assert slow.poll() is None


def test_reads_ahead_leave_a_lane_free(store: Store, readers: list[Reader]) -> None:
    reader = Reader(store, 2, WIDE)
    readers.append(reader)
    for expert in (0, 1):
        reader.submit(reader.read(expert, ahead=True))
    time.sleep(0.005)
    demanded = reader.submit(reader.read(2))
    done = [reader.wait() for _ in range(3)]
    assert demanded.started < min(read.finished for read in done), "it started while another was in flight"
    assert [read.expert for read in done][-1] == 1, "the second read ahead had to wait"


def test_what_was_joined_before_it_started_keeps_nothing_ahead_from_starting(store: Store, readers: list[Reader]) -> None:
    reader = Reader(store, 2, WIDE)
    readers.append(reader)
    for expert in (0, 1):
        reader.submit(reader.read(expert))
    time.sleep(0.005)
    joined, ahead = (reader.submit(reader.read(expert, ahead=True)) for expert in (2, 3))
    assert not reader.join(joined)
    reader.take_in(4)
    assert ahead.started < joined.finished, "both lanes were free, and only one of the reads was ahead"


@pytest.mark.parametrize("threads", [1, 3])
def test_no_read_is_lost(threads: int, store: Store, readers: list[Reader]) -> None:
    reader, dice = Reader(store, threads), random.Random(threads)
    readers.append(reader)
    count = store.spec.layers * store.spec.experts
    waiting: dict[int, Read] = {}
    done = taken_back = 0
    for _ in range(3000):
        expert, what = dice.randrange(count), dice.random()
        if expert not in waiting and what < 0.5:
            waiting[expert] = reader.submit(reader.read(expert, ahead=what < 0.25))
        elif expert in waiting and what < 0.6 and reader.cancel(waiting[expert]):
            del waiting[expert]
            taken_back += 1
        elif expert in waiting and what < 0.8:
            reader.join(waiting[expert])
        elif waiting and what > 0.85:
            read = reader.wait()
            assert (read.error, waiting.pop(read.expert).expert) == (0, read.expert)
            done += 1
    while waiting:
        read = reader.wait()
        assert read.finished >= read.started > 0 and 1 <= read.lane <= threads
        del waiting[read.expert]
        done += 1
    assert reader.poll() is None and done > 300 and taken_back > 0  # how many are still waiting is up to the storage
    assert reader.native.loader_busy(reader.loader.handle) > 0


def test_latencies_overlap_and_transfers_do_not(store: Store, readers: list[Reader]) -> None:
    nbytes = store.record_bytes(16)
    device = Device("d", "D", bandwidth=nbytes / 0.03, latency=0.05, queue_depth=4)
    reader = Reader(store, 4, device)
    readers.append(reader)
    for expert in range(3):
        reader.submit(reader.read(expert, bits=16))
    reads = sorted(reader.take_in(3), key=lambda read: read.started)
    took = [(read.finished - reads[0].started) / 1e9 for read in reads]
    assert all(real >= due - 1e-6 for real, due in zip(took, (0.08, 0.11, 0.14), strict=True))
    assert took[0] < 0.11, "the first waits for its own latency and transfer"


def test_a_device_of_latency_alone_lets_its_reads_overlap(store: Store, readers: list[Reader]) -> None:
    reader = Reader(store, 4, Device("far", "Far away", math.inf, 0.03, 4))
    readers.append(reader)
    for expert in range(4):
        reader.submit(reader.read(expert))
    reads = reader.take_in(4)
    assert all(read.finished - read.started >= 30_000_000 for read in reads)
    assert max(read.started for read in reads) < min(read.finished for read in reads)


@pytest.mark.skipif(sys.platform != "linux", reason="the page cache is looked at as on Linux")
@pytest.mark.parametrize("direct", [True, False])
def test_nothing_stays_in_the_page_cache(direct: bool, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "records"
    shutil.copy(store.path / experts_file(4), file)
    with file.open("rb") as copied:
        os.fsync(copied.fileno())
    assert cached_pages(file) > 0
    native = bind(FUNCTIONS)
    first = file if direct else Path("/proc/version")  # there are no direct reads of it: all files are read without then
    handle = native.loader_new((c_char_p * 2)(os.fsencode(first), os.fsencode(file)), 2)
    try:
        if direct and not native.loader_direct(handle):
            pytest.skip("this file system has no direct reads")
        assert bool(native.loader_direct(handle)) == direct
        assert cached_pages(file) == 0, "opening drops what was there"
        native.loader_configure(handle, 2, 0, 0, True)
        for expert in range(store.spec.experts):
            record = store.record(1, expert, 4)
            memory = mmap(-1, record.nbytes)
            place = torch.frombuffer(memory, dtype=torch.uint8).data_ptr()
            read = Read(expert=expert, file=1, offset=record.offset, nbytes=record.nbytes, checksum=record.checksum, memory=place)
            native.loader_submit(handle, byref(read))
            assert read_at(native.loader_wait(handle)).error == 0
        assert cached_pages(file) == 0
    finally:
        native.loader_free(handle)


def cached_pages(file: Path) -> int:
    size = file.stat().st_size
    with file.open("r+b") as opened, mmap(opened.fileno(), size, access=ACCESS_COPY) as mapped:
        resident = (ctypes.c_ubyte * -(-size // PAGESIZE))()
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), resident) == 0
    return sum(page & 1 for page in resident)


def test_a_read_that_fails_says_why_and_the_thread_goes_on(store: Store, tmp_path: Path, readers: list[Reader]) -> None:
    copy = Store.open(Path(shutil.copytree(store.path, tmp_path / "store")))
    record = copy.record(0, 2, 4)
    damage(record.file, record.offset + 50)
    reader = Reader(copy, 1)
    readers.append(reader)
    beyond = copy.spec.layers * copy.spec.experts * record.nbytes
    for read, error, words in (
        (reader.read(2), DAMAGED, "Expert 2 of layer 0 at 4 bits is damaged"),
        (reader.read(3, offset=beyond), SHORT, "ends too early"),
        (reader.read(3, offset=-4096), None, "cannot be read"),
    ):
        reader.submit(read)
        failed = reader.wait()
        assert failed.error == error if error is not None else failed.error > 0
        assert words in str(reader.loader.error(failed.expert, failed.bits, failed.error))
    reader.submit(reader.read(3))
    assert reader.wait().error == 0
    reader.loader.configure(1, NATIVE, verify=False)
    reader.submit(reader.read(2))
    assert reader.wait().error == 0, "unchecked, the damage goes unseen"


def test_a_file_that_ends_within_a_record_is_too_short(store: Store, tmp_path: Path, readers: list[Reader]) -> None:
    copy = Store.open(Path(shutil.copytree(store.path, tmp_path / "store")))
    record = copy.record(0, 2, 4)
    reader = Reader(copy, 1)
    readers.append(reader)
    for left in (4096, 700, 100, 0):
        os.truncate(record.file, record.offset + left)
        reader.submit(reader.read(2))
        assert reader.wait().error == SHORT


def test_a_store_that_went_away_is_one_line(store: Store, tmp_path: Path) -> None:
    copy = Store.open(Path(shutil.copytree(store.path, tmp_path / "store")))
    (copy.path / experts_file(8)).unlink()
    with pytest.raises(EngineError, match=r"experts\S*8\S* cannot be opened \(No such file or directory\); check its permissions"):
        Loader(copy, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted as Linux names them")
def test_threads_follow_the_device_and_end_at_close(store: Store) -> None:
    def threads() -> int:
        return sum(task.read_text() == "expert-io\n" for task in Path("/proc/self/task").glob("*/comm"))

    before = threads()
    loader = Loader(store, 4)
    assert threads() - before == loader.threads == 4
    loader.configure(4, Device("one", "One at a time", 1e9, 0.0, 1), verify=True)
    assert threads() - before == loader.threads == 1
    loader.close()
    assert threads() == before


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited as on Linux")
def test_a_thread_that_is_refused_is_one_line_and_leaves_all_as_it_was(store: Store) -> None:
    command = [sys.executable, "-m", "tests.preload.starved", str(store.path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = "{} threads cannot be started (Resource temporarily unavailable); set fewer, or close other programs"
    refusals = [line.format(of) for of in ("16 I/O", "8 compute", "16 I/O")]
    expected = {"refusals": refusals, "left": 2, "kept": [2, 1], "same": True, "again": 16, "closed": 0}
    assert json.loads(done.stdout) == expected


@given(some.binary(min_size=241, max_size=6000))
def test_checksums_are_those_of_the_store(data: bytes) -> None:
    native = bind(dict.fromkeys(("checksum", "checksum_portable"), (c_uint64, (c_char_p, c_int64))))
    for part in (data, data * 9):
        assert native.checksum(part, len(part)) == native.checksum_portable(part, len(part)) == xxhash.xxh3_64_intdigest(part)
