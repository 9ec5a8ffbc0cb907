"""The engine process over its real connection."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import events
from engine.preload.device import Device
from engine.store import Store, convert
from engine.worker import OVER_LIMIT
from tests.session.conftest import damage

MODEL = Path(__file__).parents[2] / "assets" / "demo" / "model"
ROOT = Path(__file__).parents[2]


class Engine:
    """A worker process and the window's end of its connection."""

    module = "engine.worker"
    decode: Callable[[bytes], Any] = staticmethod(events.decode_notice)

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "edgemoe-studio"
        key = secrets.token_bytes(16)
        self.notices: list[Any] = []
        with Listener(str(folder / "engine"), "AF_UNIX", authkey=key) as listener:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "--address", str(listener.address)],
                stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env={**os.environ, "XDG_CACHE_HOME": str(folder)},
            )  # fmt: skip
            assert self.process.stdin is not None
            self.process.stdin.write(key.hex().encode() + b"\n")
            self.process.stdin.flush()
            self.connection: Connection[bytes, bytes] = listener.accept()

    def send(self, *commands: Any) -> None:
        for command in commands:
            self.connection.send_bytes(events.encode(command))

    def until(self, found: Callable[[Any], bool], seconds: float = 60) -> Any:
        deadline = time.monotonic() + seconds
        while self.connection.poll(max(0, deadline - time.monotonic())):
            notice = self.decode(self.connection.recv_bytes())
            self.notices.append(notice)
            if found(notice):
                return notice
        raise AssertionError(f"not seen in {seconds} s; last came {self.notices[-3:]}")

    def state(self, name: str) -> events.Notice:
        return self.until(lambda n: isinstance(n, events.State) and n.state == name)

    def tokens(self) -> int:
        rows = [n.tables["tokens"] for n in self.notices if isinstance(n, events.Batch) and "tokens" in n.tables]
        return len(np.frombuffer(b"".join(rows), events.TOKEN))

    def forget(self) -> None:
        """Let go of the model, of what was converted and of what was said."""
        self.send(events.Stop(), events.Load("/nowhere", {}))
        self.until(lambda n: isinstance(n, events.Failed) and "/nowhere" in n.text)
        self.state("idle")
        self.notices.clear()
        shutil.rmtree(self.cache, ignore_errors=True)

    def close(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Engine]:
    """A process of the test's own."""
    engine = Engine(tmp_path)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def former() -> Iterator[list[Engine]]:
    """The engine of the test before, if there was one."""
    engines: list[Engine] = []
    yield engines
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(former: list[Engine], tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """One without a model and with an empty cache: that of the test before, where it still serves, for it takes seconds to import torch."""
    if former and former[0].process.poll() is None:
        former[0].forget()
    else:
        for ended in former:
            ended.close()
        former[:] = [Engine(tmp_path_factory.mktemp("engine"))]
    return former[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The demo model at 4 bits; not to be changed."""
    return convert(MODEL, tmp_path_factory.mktemp("stores") / "store", (4,))


def load(engine: Engine, model: Path = MODEL, **settings: events.Value) -> events.Ready:
    engine.send(events.Load(str(model), settings))
    ready = engine.until(lambda n: isinstance(n, events.Ready | events.Failed))
    assert isinstance(ready, events.Ready), ready
    return ready


def test_a_request_from_load_to_its_end(fresh: Engine) -> None:
    ready = load(fresh, max_tokens=30, ignore_eos=True)
    assert (ready.model.layers, ready.model.experts) == (8, 16)
    assert any(isinstance(n, events.Progress) and 0 < n.done < n.total for n in fresh.notices), "conversion shows progress"
    fresh.send(events.Generate("Once upon a time", paused=True), events.Step(), events.Step())
    fresh.state("paused")
    fresh.send(events.Change("budget", "10%"), events.Change("budget", "1"), events.Resume())
    assert isinstance(fresh.until(lambda n: isinstance(n, events.Applied)), events.Applied)
    refused = fresh.until(lambda n: isinstance(n, events.Refused))
    assert isinstance(refused, events.Refused)
    assert "smallest" in refused.reason
    finished = fresh.until(lambda n: isinstance(n, events.Finished))
    assert isinstance(finished, events.Finished)
    assert finished.reason == "length"
    assert fresh.tokens() == 30
    assert sum(len(n.pieces) for n in fresh.notices if isinstance(n, events.Batch)) == 30
    load(fresh, max_tokens=2, ignore_eos=True)
    fresh.send(events.Generate("Again"))
    began = fresh.until(lambda n: isinstance(n, events.Began))
    assert isinstance(began, events.Began)
    assert (began.request, began.first_token) == (1, 30), "a model loaded again goes on in the same recording"
    fresh.state("idle")
    fresh.send(events.Quit())
    assert fresh.process.wait(10) == 0


def test_stop_ends_a_request_and_cancels_a_conversion(engine: Engine) -> None:
    engine.send(events.Load(str(MODEL), {}))
    engine.until(lambda n: isinstance(n, events.Progress) and n.done > 0)
    engine.send(events.Stop())
    failed = engine.until(lambda n: isinstance(n, events.Failed | events.Ready))
    assert isinstance(failed, events.Failed)
    assert "cancelled" in failed.text
    load(engine, max_tokens=5000)
    engine.send(events.Generate("def main():"))
    engine.until(lambda n: isinstance(n, events.Batch) and "tokens" in n.tables)
    engine.send(events.Stop())
    finished = engine.until(lambda n: isinstance(n, events.Finished))
    assert isinstance(finished, events.Finished)
    assert finished.reason in ("stopped", "end of text")
    engine.state("idle")


def test_stop_while_the_buffer_is_filled_keeps_the_model(engine: Engine, store: Store) -> None:
    slow = Device("slow", "A slow device", 4e6, 0.2e-3, 1)
    settings: dict[str, events.Value] = {"budget": "100%", "device": "slow", "max_tokens": 2, "ignore_eos": True}
    engine.send(events.Load(str(store.path), settings, devices=[slow]))
    engine.until(lambda n: isinstance(n, events.Ready))
    engine.until(lambda n: isinstance(n, events.Progress) and n.stage.startswith("Filling") and n.done > 0)
    engine.send(events.Stop())
    filled = engine.until(lambda n: isinstance(n, events.Filled))
    assert isinstance(filled, events.Filled)
    assert 0 < filled.experts < 128 and 0 < filled.bytes < filled.wanted
    engine.state("idle")
    engine.send(events.Change("device", "native"), events.Generate("Once"))
    finished = engine.until(lambda n: isinstance(n, events.Finished))
    assert isinstance(finished, events.Finished) and finished.reason == "length"
    assert not any(isinstance(n, events.Failed) for n in engine.notices)


def test_nonsense_is_answered_in_one_line(engine: Engine) -> None:
    engine.connection.send_bytes(b"\xc1 nonsense")
    engine.send(events.Generate("before any model"), events.Load("/nowhere", {}))
    texts = []
    for _ in range(3):
        failed = engine.until(lambda n: isinstance(n, events.Failed))
        assert isinstance(failed, events.Failed)
        texts.append(failed.text)
    assert "did not understand" in texts[0]
    assert "No model" in texts[1]
    assert "/nowhere" in texts[2]
    assert all("\n" not in text for text in texts)


def test_a_damaged_record_leaves_the_engine_idle_and_usable(engine: Engine, store: Store, tmp_path: Path) -> None:
    copy = Store.open(Path(shutil.copytree(store.path, tmp_path / "copy")))
    records = [copy.record(3, expert, 4) for expert in range(copy.spec.experts)]  # whichever the router chooses
    for record in records:
        damage(record.file, record.offset + 1000)
    load(engine, model=copy.path, max_tokens=5)
    engine.send(events.Generate("Once upon a time"))
    finished = engine.until(lambda n: isinstance(n, events.Finished))
    failed = engine.until(lambda n: isinstance(n, events.Failed))
    assert isinstance(finished, events.Finished) and finished.reason == "failed"
    assert isinstance(failed, events.Failed)
    assert "of layer 3 at 4 bits is damaged" in failed.text and "\n" not in failed.text
    engine.state("idle")
    for record in records:
        damage(record.file, record.offset + 1000)  # undoes itself
    engine.send(events.Generate("Once upon a time"))
    finished = engine.until(lambda n: isinstance(n, events.Finished))
    assert isinstance(finished, events.Finished) and finished.reason in ("length", "end of text")


def test_a_pace_is_kept_between_tokens_and_commands_are_heard_meanwhile(engine: Engine, store: Store) -> None:
    load(engine, model=store.path, max_tokens=6, ignore_eos=True, pace=20)
    engine.send(events.Generate("def main():"))
    engine.until(lambda n: isinstance(n, events.Batch) and "tokens" in n.tables)
    engine.send(events.Change("temperature", 0.5))
    engine.until(lambda n: isinstance(n, events.Finished))
    assert any(isinstance(n, events.Applied) for n in engine.notices)
    rows = np.frombuffer(b"".join(n.tables.get("tokens", b"") for n in engine.notices if isinstance(n, events.Batch)), events.TOKEN)
    starts, durations = rows["start"], rows["duration"]
    assert len(rows) == 6 and (np.diff(starts) >= 49_000_000).all()
    assert durations[1:].sum() < 0.5 * (starts[-1] - starts[0])


def test_a_kill_while_generating_ends_the_connection(engine: Engine, store: Store) -> None:
    load(engine, model=store.path, max_tokens=5000, ignore_eos=True)
    engine.send(events.Generate("def main():"))
    engine.until(lambda n: isinstance(n, events.Batch) and "tokens" in n.tables)
    engine.process.send_signal(signal.SIGKILL)
    with pytest.raises((EOFError, ConnectionResetError)):
        engine.until(lambda _: False, 20)
    assert engine.process.wait(10) == -signal.SIGKILL


def test_it_ends_at_its_memory_limit_and_says_so(engine: Engine, store: Store) -> None:
    engine.send(events.Load(str(store.path), {"memory_limit": "64MiB"}))
    assert engine.process.wait(60) == OVER_LIMIT
    assert engine.process.stderr is not None
    assert b"memory limit" in engine.process.stderr.read()


def test_it_ends_when_the_window_goes(fresh: Engine) -> None:
    fresh.until(lambda n: isinstance(n, events.Opened))
    fresh.connection.close()
    assert fresh.process.wait(10) == 0


def test_a_kill_leaves_the_window_with_an_end_of_file(fresh: Engine) -> None:
    fresh.state("idle")
    fresh.process.send_signal(signal.SIGKILL)
    with pytest.raises((EOFError, ConnectionResetError)):
        fresh.connection.recv_bytes()
