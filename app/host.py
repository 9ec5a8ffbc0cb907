"""The engine process, or the calibrator's, as the window sees it: commands in, notices out, and a clear line when it is gone.

Two threads a process: one accepts the connection and receives, one sends, so that neither a slow start nor a stuck
process ever holds the event loop. Nothing is emitted from them; the window's timer drains what they received.
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

import msgspec
import psutil
from PySide6.QtCore import QObject, Signal

from app.demo import PROJECT
from engine import events
from engine.worker import OVER_LIMIT

GRACE_S = 2.0
_HANG_UP_S = 1.0
_LAST_LINES = 40
WORKER = (sys.executable, "-m", "engine.worker")


Decode = Callable[[bytes], msgspec.Struct]


class EngineHost(QObject):
    """Starts, feeds, watches and ends one process at a time; ``drain`` must be called regularly from the GUI thread.

    ``decode`` makes notices of what it sends; ``name`` is what the user knows it as.
    """

    died = Signal(str)

    def __init__(
        self, command: Sequence[str] = WORKER, parent: QObject | None = None, decode: Decode = events.decode_notice,
        name: str = "The engine",
    ) -> None:  # fmt: skip
        super().__init__(parent)
        self._command, self._decode, self._name = tuple(command), decode, name
        self._link: _Link | None = None
        self.held = False

    @property
    def alive(self) -> bool:
        """Whether there is an engine process that has not been found dead."""
        return self._link is not None

    @property
    def pid(self) -> int | None:
        return self._link.process.pid if self._link else None

    def start(self) -> None:
        """Start the process; returns at once. Does nothing while one runs."""
        if self._link is None:
            self._link = _Link(self._command, self._decode)

    def hold(self) -> None:
        """Let the process stand still, at once: until ``go_on`` it takes no processor time and reads nothing."""
        self._signal(psutil.Process.suspend, held=True)

    def go_on(self) -> None:
        """Let a held process go on where it was."""
        self._signal(psutil.Process.resume, held=False)

    def _signal(self, deed: Callable[[psutil.Process], None], held: bool) -> None:
        if self._link is not None and self.held != held:
            self.held = held
            with contextlib.suppress(psutil.Error):  # dead meanwhile: ``drain`` tells
                deed(psutil.Process(self._link.process.pid))

    def send(self, command: msgspec.Struct) -> None:
        """Queue one command; before the engine is up they wait for it, and without one they are dropped."""
        if self._link is not None:
            self._link.outgoing.put(events.encode(command))

    def drain(self) -> list[msgspec.Struct]:
        """Every notice received since the last call, in order. Emits ``died`` after the last notice of a dead process was handed out."""
        link = self._link
        if link is None:
            return []
        gone = link.gone()  # asked before emptying the queue: what arrives in between is not lost
        notices = link.take()
        if gone and not notices:
            self._link, self.held = None, False
            link.end(0.0)
            self.died.emit(link.epitaph(self._name))
        return notices

    def restart(self) -> None:
        """End this process, if any, and start another."""
        self.stop()
        self.start()

    def stop(self, grace: float = GRACE_S) -> list[msgspec.Struct]:
        """Ask the process to quit, wait up to ``grace`` s, then end it. Returns the notices that came on the way."""
        self.go_on()
        link, self._link = self._link, None
        if link is None:
            return []
        link.end(grace)
        return link.take()


class _Link:
    """One process with its socket, pipes and threads."""

    def __init__(self, command: tuple[str, ...], decode: Decode) -> None:
        self.decode = decode
        self.folder = Path(tempfile.mkdtemp(prefix="edgemoe-"))
        key = secrets.token_bytes(32)
        windows = sys.platform == "win32"
        address = None if windows else str(self.folder / "engine")
        self.listener = Listener(address, "AF_PIPE" if windows else "AF_UNIX", authkey=key)
        self.address = str(self.listener.address)
        self.connection: Connection | None = None
        self.connected, self.ended = threading.Event(), threading.Event()
        self.outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.incoming: collections.deque[msgspec.Struct] = collections.deque()
        self.errors: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        self.trouble = ""
        self.hung_up: float | None = None
        path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH", ""))))
        self.process = subprocess.Popen(
            [*command, "--address", self.address], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=not windows,  # Ctrl+C in the terminal is the window's to handle
            creationflags=subprocess.CREATE_NO_WINDOW if windows else 0,
        )  # fmt: skip
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # dead already: ``gone`` tells
            self.process.stdin.write(key.hex().encode() + b"\n")
            self.process.stdin.flush()
        works = (self.receive, self.transmit, self.listen)
        self.threads = [threading.Thread(target=work, name=f"engine-{work.__name__}", daemon=True) for work in works]
        for thread in self.threads:
            thread.start()

    def receive(self) -> None:
        """Accept the process's connection, then take in notices until it closes."""
        try:
            while True:
                try:
                    self.connection = self.listener.accept()
                    break
                except Exception:  # a stranger, or ``end`` waking this thread
                    if self.ended.is_set():
                        return
            self.connected.set()
            while True:
                self.incoming.append(self.decode(self.connection.recv_bytes()))
        except msgspec.MsgspecError as error:
            self.trouble = f"it sent what is no message ({error})"
        except (EOFError, OSError):
            pass
        finally:
            self.hung_up = time.monotonic()
            self.connected.set()

    def transmit(self) -> None:
        """Send queued commands once connected; ``None`` ends the thread."""
        self.connected.wait()
        while (data := self.outgoing.get()) is not None:
            if self.connection is not None:
                with contextlib.suppress(OSError):
                    self.connection.send_bytes(data)

    def listen(self) -> None:
        """Keep the last lines of the process's standard error, and pass them on."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self.errors.append(text)
                print(text, file=sys.stderr)

    def take(self) -> list[msgspec.Struct]:
        notices = []
        while self.incoming:
            notices.append(self.incoming.popleft())
        return notices

    def gone(self) -> bool:
        """Whether the process is dead and everything it sent is in ``incoming``; one that hung up without dying is ended."""
        if self.process.poll() is None:
            if self.hung_up is None or time.monotonic() - self.hung_up < _HANG_UP_S:
                return False
            self.process.kill()
            self.process.wait()
            self.trouble = self.trouble or "it closed its connection"
        return self.hung_up is not None or self.connection is None

    def end(self, grace: float) -> None:
        """Leave no process, thread, socket or file behind."""
        self.outgoing.put(events.encode(events.Quit()))
        self.outgoing.put(None)
        if grace > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace if self.connected.is_set() else 0.0)
        self._close_input()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(0.3)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.ended.set()
        self._wake()
        if self.connection is not None and self.hung_up is None:
            self.threads[0].join(0.5)  # a dead process closed its end: the receiver reads to the end first
        self.connected.set()
        for thread in self.threads:
            thread.join(1.0)
        if self.connection is not None:
            self.connection.close()
        self.listener.close()
        if self.process.stderr is not None:
            self.process.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _close_input(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def _wake(self) -> None:
        """Bring a receiver that still waits in ``accept`` out of it."""
        if self.connection is None and self.hung_up is None:
            with contextlib.suppress(OSError):
                Client(self.address).close()

    def epitaph(self, name: str) -> str:
        """One line: how the process ended, and the last thing it said."""
        manner = "" if self.process.returncode == OVER_LIMIT else _manner(self.process.returncode)
        return f"{name} stopped: {' — '.join(filter(None, (self.trouble or manner, *list(self.errors)[-1:])))}"


def _manner(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return "SIGKILL, killed by the system or a user; often the machine was out of memory"
    return f"it was ended by {name}"
