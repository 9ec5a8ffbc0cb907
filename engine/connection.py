"""The window as a process sees it: commands come, notices go, and without a window there is no process.

The address is that of a ``multiprocessing.connection`` listener; its key comes as one hex line on stdin, which then stays open: its end
tells that the window is gone. Messages are MessagePack bytes (engine.events), never pickle.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection
from typing import Any, Generic, TypeVar

import msgspec

from engine import events

_PROGRESS_PERIOD = 0.1
Command = TypeVar("Command")


class Window(Generic[Command]):
    """One end of the connection. Any thread may ``send``; ``name`` is what the user knows this process as."""

    def __init__(self, connection: Connection[bytes, bytes], decode: Callable[[bytes], Command], name: str) -> None:
        self._connection, self._decode, self._name = connection, decode, name
        self._sending = threading.Lock()
        self._origin = time.perf_counter_ns()
        self._told, self._stage = 0.0, ""

    @property
    def origin(self) -> int:
        """``time.perf_counter_ns`` at session time 0."""
        return self._origin

    def now(self) -> int:
        """Session time, ns."""
        return time.perf_counter_ns() - self._origin

    def listen(self, heard: Callable[[Command], None]) -> None:
        """Hand over every command that comes, from a thread of its own."""
        threading.Thread(target=self._receive, args=(heard,), name="commands", daemon=True).start()

    def send(self, notice: Any) -> None:
        data = events.encode(notice)
        with self._sending:
            try:
                self._connection.send_bytes(data)
            except OSError:
                os._exit(0)

    def fail(self, text: str) -> None:
        """Tell what went wrong, in one line for the user."""
        self.send(events.Failed(self.now(), text))

    def show(self, stage: str, done: int, total: int, unit: str = "bytes") -> None:
        """Tell of a stage that so much is done, of how much; not more often than one can read."""
        if time.monotonic() - self._told > _PROGRESS_PERIOD or done == total or stage != self._stage:
            self._told, self._stage = time.monotonic(), stage
            self.send(events.Progress(stage, done, total, unit))

    def _receive(self, heard: Callable[[Command], None]) -> None:
        while True:
            try:
                command = self._decode(self._connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)  # the window is gone: whatever is being computed, nobody sees it
            except msgspec.MsgspecError as error:
                self.fail(f"{self._name} did not understand a message ({error})")
                continue
            heard(command)


@contextmanager
def connected(argv: list[str], name: str, decode: Callable[[bytes], Command]) -> Iterator[Window[Command]]:
    """The window that started this process, by its command line and its stdin."""
    parser = argparse.ArgumentParser(description=f"{name}, a process of the window's.")
    parser.add_argument("--address", required=True)
    address = parser.parse_args(argv).address
    key = bytes.fromhex(sys.stdin.readline().strip())
    # Threads of the window and of the I/O must get their turn soon while a loop holds the interpreter.
    sys.setswitchinterval(0.001)
    with Client(address, authkey=key) as connection:
        yield Window(connection, decode, name)
