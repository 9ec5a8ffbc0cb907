"""The engine process: commands in, notices out. Started as ``python -m engine.worker --address ADDRESS`` (engine.connection)."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine import events, machine
from engine.connection import Window, connected
from engine.errors import Cancelled, EngineError
from engine.monitor import Monitor
from engine.settings import Value, parse_size

if TYPE_CHECKING:
    from engine.session import Session
    from engine.store import Progress

OVER_LIMIT = 77
"""Exit status of an engine that ended itself at its memory limit."""


class Worker:
    """Serves one window until it goes away."""

    def __init__(self, window: Window[events.Command]) -> None:
        self._window, self._send, self._now = window, window.send, window.now
        self._commands: queue.SimpleQueue[events.Command] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._session: Session | None = None
        self._monitor: Monitor | None = None
        self._counted = (0, 0)  # requests and passes of the sessions before this one
        self._state = ""
        self._paused = False
        self._stepping = False  # pause after the next token
        self._due = 0.0  # ``time.monotonic`` before which the next token would be ahead of the pace

    def run(self) -> None:
        """Serve commands until Quit or the end of the connection."""
        opened = time.time() - self._now() / 1e9
        self._send(events.Opened(events.PROTOCOL, machine.VERSION, opened, machine.pid(), machine.describe()))
        self._window.listen(self._hear)
        self._tell("idle")
        while True:
            command = self._next_command()
            if isinstance(command, events.Quit):
                break
            try:
                if command is not None:
                    self._obey(command)
                elif self._session is not None:
                    self._keep_pace(int(self._session.values["pace"]))
                    self._session.step()
                    if self._stepping:
                        self._stepping, self._paused = False, True
                        self._session.flush()
            except EngineError as error:
                self._window.fail(str(error))
            self._tell(self._state_now())
        self._unload()

    # --- commands -------------------------------------------------------------------------------------------------

    def _next_command(self) -> events.Command | None:
        """A command that waits; None when a token is to be made; waits when there is nothing to do."""
        running = self._session is not None and self._session.request is not None and not self._paused
        try:
            return self._commands.get(timeout=max(1e-6, self._due - time.monotonic()) if running else None)
        except queue.Empty:
            return None

    def _keep_pace(self, pace: int) -> None:
        """A token begins now: the next one at ``pace`` tokens a second later, 0 for at once."""
        self._due = time.monotonic() + 1 / pace if pace else 0.0

    def _obey(self, command: events.Command) -> None:
        session = self._session
        match command:
            case events.Load():
                self._load(command)
            case events.Generate(prompt, paused):
                if session is None:
                    raise EngineError("No model is loaded; open one first")
                session.end("stopped")
                session.begin(prompt)
                self._paused, self._stepping = paused, False
            case events.Pause():
                self._paused = True
                if session is not None:
                    session.flush()
            case events.Resume():
                self._paused = self._stepping = False
            case events.Step():
                self._paused, self._stepping = False, True
            case events.Stop():
                self._paused = self._stepping = False
                if session is not None:
                    session.end("stopped")
            case events.Change(name, value):
                self._change(name, value)

    def _change(self, name: str, value: Value) -> None:
        if self._session is None:
            self._send(events.Refused(name, value, "No model is loaded; the setting is taken when one is"))
            return
        try:
            self._session.change(name, value)
        except EngineError as error:
            self._send(events.Refused(name, value, str(error)))

    def _load(self, command: events.Load) -> None:
        self._unload()
        self._cancelled.clear()
        self._tell("loading")
        try:
            self._session = self._opened(command)
        except Cancelled:
            self._window.fail("Loading was cancelled; what was converted so far is kept and continued next time")
            return
        except MemoryError:
            raise EngineError("There is not enough memory for the model's non-expert weights; close other programs") from None
        self._send(self._session.ready(command.name))
        limit = parse_size(str(self._session.values["memory_limit"]))
        self._monitor = Monitor(self._send, self._now, self._session.buffer_bytes, limit, self._end_at_limit)
        self._monitor.start()
        self._fill(self._session, Path(command.model))

    def _fill(self, session: Session, model: Path) -> None:
        """Begin with the most used experts in memory, and count from now on which these are. Stop ends the filling, not the loading."""
        from engine.residency.usage import Usage
        from engine.warm import STAGE, fill

        usage = Usage.open(session.store, model)

        def tell(notice: events.Notice) -> None:
            usage.hear(notice)
            self._send(notice)

        session.emit = tell
        fill(session, usage, lambda done, total: self._window.show(STAGE, done, total), self._cancelled.is_set)

    def _opened(self, command: events.Load) -> Session:
        # transformers takes seconds to import: only now, when the window is up and can say so.
        self._send(events.Progress("Starting the engine", 0, 0, ""))
        from engine.session import Session
        from engine.store import open_or_convert

        def convert(progress: Progress) -> None:
            self._window.show(progress.stage, progress.done, progress.total)

        store = open_or_convert(Path(command.model), progress=convert, cancel=self._cancelled.is_set)
        self._send(events.Progress("Loading non-expert weights", 0, 0, ""))
        devices = {device.name: device for device in command.devices}
        session = Session(store, command.settings, devices, self._send, model=Path(command.model))
        session.go_on_from(self._window.origin, self._counted)  # one clock, and no number twice, in all that this process tells
        return session

    def _unload(self) -> None:
        if self._monitor is not None:
            self._monitor.stop()
            self._monitor = None
        if self._session is not None:
            self._session.end("stopped")
            self._session.close()
            self._counted = self._session.counted
            self._session = None
        self._paused = self._stepping = False

    def _end_at_limit(self, rss: int) -> None:
        print(f"The engine reached its memory limit ({rss / 2**20:.0f} MiB in use); raise it or lower the expert budget", file=sys.stderr)
        sys.stderr.flush()
        os._exit(OVER_LIMIT)

    # --- what is told and heard

    def _hear(self, command: events.Command) -> None:
        """From the thread that receives: what ends long work must not wait for it."""
        if isinstance(command, events.Stop | events.Quit):
            self._cancelled.set()
        self._commands.put(command)

    def _state_now(self) -> str:
        if self._session is None or self._session.request is None:
            return "idle"
        return "paused" if self._paused else "running"

    def _tell(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._send(events.State(self._now(), state))


def main(argv: list[str]) -> int:
    """Connect and serve. Returns the exit status."""
    with connected(argv, "The engine", events.decode_command) as window:
        Worker(window).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
