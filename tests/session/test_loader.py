"""Reads go out together, are used as they come, bypass the page cache, and answer no sooner than the device would."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError
from engine.preload import device, loader
from engine.preload.device import NATIVE, Device, Throttle
from engine.preload.loader import Loader, Read
from engine.store import Record, Store
from engine.store.format import experts_file

from .conftest import Open, generate


@pytest.fixture
def reader(store: Store) -> Iterator[Loader]:
    made = Loader([store.path / experts_file(4)], store.spec.experts, 2)
    yield made
    made.close()


def read_of(record: Record) -> Read:
    return Read(0, 4, record, memoryview(mmap(-1, record.nbytes)), 0)


def test_reads_of_a_layer_go_out_together_and_each_is_computed_as_it_comes(open_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    session = open_session(budget="100%", device="slow", max_tokens=2)

    def logged(name: str, action: Any) -> Any:
        def call(*args: Any) -> Any:
            result = action(*args)
            log.append(name)
            return result

        return call

    for name in ("submit", "next"):
        monkeypatch.setattr(session.loader, name, logged(name, getattr(session.loader, name)))
    monkeypatch.setattr(session.stream.kernels, "forward", logged("compute", session.stream.kernels.forward))
    session.stream.on_layer = lambda: log.append("layer")
    generate(session)
    layers = " ".join(log).split(" layer")
    first = layers[0].split()
    count = first.count("submit")
    assert count > 2
    assert first == ["submit"] * count + ["next", "compute"] * count
    assert all(layer.split().count("next") == layer.split().count("submit") for layer in layers)


def test_a_file_system_without_direct_reads_is_told_and_leaves_nothing_cached(open_session: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = open_session(budget="25%")
    assert usual.info().direct_io == bool(loader._DIRECT)
    forgotten: list[tuple[int, ...]] = []
    real = loader._forget

    def forget(*stretch: int) -> None:
        forgotten.append(stretch)
        real(*stretch)

    monkeypatch.setattr(loader, "_open_direct", _refuse)
    monkeypatch.setattr(loader, "_forget", forget)
    session = open_session(budget="25%")
    assert not session.info().direct_io
    assert generate(session) == generate(usual)
    reads = [stretch for stretch in forgotten if len(stretch) == 3]
    assert len(reads) > 10 and all(nbytes == session.store.record_bytes(4) for _, _, nbytes in reads)


def test_a_file_system_that_refuses_direct_reads_only_when_they_come_is_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader.os, "preadv", _refuse)
    made = Loader([store.path / experts_file(4)], store.spec.experts, 1)
    made.close()
    assert not made.direct


def _refuse(*_: Any) -> int:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def test_a_damaged_or_missing_record_is_an_error_of_the_read_and_the_thread_goes_on(reader: Loader, store: Store) -> None:
    good = store.record(1, 2, 4)
    beyond = Record(good.file, store.spec.layers * store.spec.experts * good.nbytes, good.nbytes, good.checksum)
    damaged = Record(good.file, good.offset, good.nbytes, good.checksum + 1)
    for record, words in ((beyond, "ends too early"), (damaged, "is damaged"), (good, "")):
        reader.submit(read_of(record))
        read = reader.next()
        assert isinstance(read.error, EngineError) == bool(words)
        assert words in str(read.error or "")
        assert read.finished >= read.started > 0
    reader.verify = False
    reader.submit(read_of(damaged))
    assert reader.next().error is None


def test_threads_follow_the_device_and_end_at_close(store: Store) -> None:
    def threads() -> int:
        return sum(thread.name.startswith("expert-io") for thread in threading.enumerate())

    before = threads()
    reader = Loader([store.path / experts_file(4)], store.spec.experts, 4)
    assert threads() - before == reader.threads == 4
    reader.configure(4, Device("one", "One at a time", 1e9, 0.0, 1))
    assert threads() - before == reader.threads == 1
    reader.close()
    assert threads() == before


def test_a_store_that_went_away_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be opened"):
        Loader([tmp_path / "experts-4.bin"], 8, 1)


def test_latencies_overlap_and_transfers_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.time, "perf_counter", lambda: 100.0)
    throttle = Throttle(Device("d", "D", bandwidth=1e6, latency=0.25, queue_depth=4))
    assert [throttle.reserve(500_000) for _ in range(3)] == pytest.approx([100.75, 101.25, 101.75])
    assert Throttle(NATIVE).reserve(1 << 30) == 100.0
