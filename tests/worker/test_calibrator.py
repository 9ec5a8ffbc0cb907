"""The calibrator process: it answers nonsense in a line, and never outlives the window, whatever that was doing to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import events
from engine.bitwidth import messages
from tests.worker.test_worker import ROOT, Engine

NOT_STUDIED = "No text was studied yet; choose one to calibrate on first"
WINDOW = """
import sys
from pathlib import Path
from tests.worker.test_calibrator import Served

served = Served(Path(sys.argv[1]))
served.ready()
print(served.process.pid, flush=True)
sys.stdin.read()
"""


class Served(Engine):
    """A calibrator process and the window's end of its connection."""

    module = "engine.calibrator"
    decode: Callable[[bytes], Any] = staticmethod(messages.decode_notice)

    def ready(self) -> None:
        """Wait until it serves commands."""
        self.send(messages.Weigh(b""))
        assert self.until(lambda n: isinstance(n, events.Failed)).text == NOT_STUDIED
        self.until(lambda n: isinstance(n, messages.Rested))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.close()


def gone(pid: int) -> bool:
    """Whether a process ends within some time; nobody may have waited for it."""
    try:
        process = psutil.Process(pid)
        process.wait(20)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def test_what_it_cannot_do_is_answered_and_it_goes_on(served: Served) -> None:
    served.connection.send_bytes(b"\xc1 nonsense")
    served.send(messages.Find(0.02), messages.Study("/nowhere", ["/nowhere"], 100), messages.Compare(0, b"", [1, 2], "/elsewhere", ""))
    texts = [served.until(lambda n: isinstance(n, events.Failed)).text for _ in range(4)]
    assert "did not understand" in texts[0] and texts[1] == NOT_STUDIED and "/nowhere" in texts[2] and "/elsewhere" in texts[3]
    assert all("\n" not in text for text in texts)
    served.send(events.Stop())
    assert served.until(lambda n: isinstance(n, messages.Rested) and n.commands > 3).commands == 4
    served.send(events.Quit())
    assert served.process.wait(20) == 0


def test_it_leaves_the_cores_to_others(served: Served) -> None:
    served.ready()
    assert psutil.Process(served.process.pid).nice() in (19, getattr(psutil, "IDLE_PRIORITY_CLASS", 19))


def test_it_ends_when_the_window_goes(served: Served) -> None:
    served.ready()
    served.connection.close()
    assert served.process.wait(20) == 0


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a held process hears of nobody's end")


@pytest.mark.parametrize("held", [False, pytest.param(True, marks=LINUX)])
def test_it_ends_when_the_window_is_killed(held: bool, tmp_path: Path) -> None:
    window = subprocess.Popen([sys.executable, "-c", WINDOW, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with window:
        assert window.stdout is not None
        pid = int(window.stdout.readline())
        try:
            if held:
                os.kill(pid, signal.SIGSTOP)
            window.kill()
            assert gone(pid)
        finally:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
