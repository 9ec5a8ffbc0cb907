"""The engine process from the window's side: starts, talks, dies, is ended, leaves nothing."""

import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from app.host import EngineHost
from engine import events
from tests.app.conftest import SCRIPTED

Gather = Callable[..., list[events.Notice]]


@pytest.fixture
def host(qtbot) -> Iterator[EngineHost]:
    host = EngineHost(SCRIPTED)
    yield host
    host.stop()


def test_commands_go_down_and_notices_come_up(host: EngineHost, gather: Gather) -> None:
    host.start()
    host.send(events.Load("somewhere", {}))  # queued until the engine is up
    first = gather(host, events.Ready)
    assert isinstance(first[0], events.Opened)
    assert first[0].pid == host.pid != os.getpid()
    host.send(events.Change("max_tokens", 3))
    host.send(events.Generate("hello"))
    got = gather(host, events.Finished)
    assert [notice.pieces for notice in got if isinstance(notice, events.Batch)] == [[" word0"], [" word1"], [" word2"]]


def test_quit_ends_process_and_files(host: EngineHost, gather: Gather) -> None:
    host.start()
    gather(host, events.Opened)
    assert host._link is not None
    process, folder = host._link.process, host._link.folder
    host.stop()
    assert process.returncode == 0, "it went by itself"
    assert not folder.exists()
    assert not host.alive


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("crash", "SIGKILL, killed by the system or a user"),
        ("exit", "exit code 3 — no more paper in the printer"),
        ("garbage", "no message"),
    ],
)
def test_death_is_told_in_one_line(host: EngineHost, gather: Gather, qtbot, prompt: str, says: str) -> None:
    host.start()
    host.send(events.Load("somewhere", {}))
    gather(host, events.Ready)
    host.send(events.Generate(prompt))
    with qtbot.waitSignal(host.died, timeout=5000) as died:
        qtbot.waitUntil(lambda: (host.drain(), not host.alive)[1])
    assert says in died.args[0]
    assert "\n" not in died.args[0]
    host.restart()
    gather(host, events.Opened)


def test_killed_from_outside(host: EngineHost, gather: Gather, qtbot) -> None:
    host.start()
    gather(host, events.Opened)
    with qtbot.waitSignal(host.died, timeout=5000) as died:
        os.kill(host.pid, signal.SIGKILL)
        qtbot.waitUntil(lambda: (host.drain(), not host.alive)[1])
    assert "out of memory" in died.args[0]


def test_engine_that_cannot_start_is_told(qtbot) -> None:
    host = EngineHost((sys.executable, "-c", "raise SystemExit('no such engine')"))
    host.start()
    with qtbot.waitSignal(host.died, timeout=5000) as died:
        qtbot.waitUntil(lambda: (host.drain(), not host.alive)[1])
    assert "exit code 1 — no such engine" in died.args[0]


@pytest.mark.parametrize("flag", ["--silent", "--deaf"])
def test_stuck_engine_is_ended_all_the_same(gather: Gather, qtbot, flag: str) -> None:
    host = EngineHost((*SCRIPTED, flag))
    host.start()
    assert host._link is not None
    process = host._link.process
    if flag == "--deaf":
        qtbot.waitUntil(lambda: host._link.connected.is_set())
    host.stop()
    assert process.returncode is not None and process.returncode < 0, "a signal ended it"
