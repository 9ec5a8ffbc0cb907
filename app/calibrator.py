"""The calibrator as it runs behind the window: what is asked of it, what it answers, and when it must stand still. Knows no widget."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from PySide6.QtCore import QObject, Signal, Slot

from app.host import EngineHost
from app.live import Live
from engine import events
from engine.bitwidth import messages
from engine.recording.recording import Recording

CALIBRATOR = (sys.executable, "-m", "engine.calibrator")
_ANSWER_S = 0.5
"""How long the engine may take to say that it runs, once it was told to."""


class Calibrator(QObject):
    """One process, started when something is asked of it. ``drain`` is called by the window's timer, after that of ``live``.

    While the engine runs a request the process is held, so that no figure is disturbed by it; where ``beside`` lets both run, that is noted
    in the recording. A process that died is started anew by the next wish, and studies again what it had studied.
    """

    studied = Signal(object)  # messages.Studied
    weighed = Signal(object)  # messages.Weighed
    compared = Signal(object)  # messages.Compared
    covered = Signal(int)  # the number of a study whose plans were all measured
    progressed = Signal(object)  # events.Progress, or None when the work is over
    troubled = Signal(str)  # one line for the user
    changed = Signal()  # of ``busy`` or ``held``

    def __init__(self, live: Live, command: Sequence[str] = CALIBRATOR, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.live = live
        self.host = EngineHost(command, self, messages.decode_notice, "The calibrator")
        self.host.died.connect(self._on_death)
        self.busy = False  # something was asked, and not all is answered
        self.beside = False  # it may compute while the engine runs a request
        self._study: messages.Study | None = None  # the last
        self._told: messages.Study | None = None  # what this process was told to study
        self._sent = 0  # commands to this process
        self._to_hear = 0  # of these, up to which it must not be held: it was told to stop
        self._rested = 0  # of these, what it has answered for
        self._runs_until = 0.0  # ``time.monotonic`` until which the engine counts as running, whatever it says
        self._noted: Recording | None = None  # the recording that tells that both run
        live.about_to_run.connect(self._make_way)

    @property
    def held(self) -> bool:
        """Whether it stands still because the engine runs a request."""
        return self.host.held

    # --- wishes

    def study(self, model: Path, texts: Sequence[Path], tokens: int, number: int = 0) -> None:
        """See ``messages.Study``; what was asked before is given up."""
        if self.busy:
            self.stop()
        self._study, self._told = messages.Study(str(model), [str(text) for text in texts], tokens, number), None
        self._ask()

    def weigh(self, plan: bytes, method: str = "hand") -> None:
        self._ask(messages.Weigh(plan, method))

    def find(
        self, tolerance: float, objective: str = "storage", method: str = "fast", setup: messages.Setup | None = None
    ) -> None:  # fmt: skip
        self._ask(messages.Find(tolerance, objective, method, setup))

    def compare(self, wish: messages.Compare) -> None:
        """A model that is not the studied one takes its place."""
        if self._study is not None and self._study.model != wish.model:
            self._study = None
        self._ask(wish)

    def drop(self, request: int) -> None:
        """Give up one comparison."""
        self._interrupt(messages.Drop(request))

    def stop(self) -> None:
        """Give up what is under way and what waits; what was found out is kept."""
        self._interrupt(events.Stop())

    def _interrupt(self, command: msgspec.Struct) -> None:
        """Held, it could not hear: until it has, it goes on even beside the engine."""
        if self.host.alive:
            self._send(command)
            self._to_hear = self._sent
            self.go_on()

    def forget(self) -> None:
        """Another model is opened: end the process, and with it what it was asked."""
        self.shut_down()
        self._study = None

    def shut_down(self) -> None:
        """Leave no process behind."""
        self.host.stop()
        self._told = None
        self._be_busy(False)

    # --- holding

    def hold(self) -> None:
        """Stand still at once, as soon as there is a process that has made itself known."""
        if self.host.alive and not self.held:
            self.host.hold()
            if self.held:
                self.changed.emit()

    def go_on(self) -> None:
        """Go on where it was held."""
        if self.held:
            self.host.go_on()
            self.changed.emit()

    def drain(self) -> bool:
        """Take in what it has sent, and give way to the engine or take note; whether there was anything."""
        notices = self.host.drain()
        for notice in notices:
            self._take(notice)
        self._mind_the_engine()
        return bool(notices)

    @Slot()
    def _make_way(self) -> None:
        """The engine will run in an instant: not only when it has said so."""
        self._runs_until = time.monotonic() + _ANSWER_S
        self._mind_the_engine()

    def _mind_the_engine(self) -> None:
        runs = self.live.state == "running" or time.monotonic() < self._runs_until
        if runs and self.busy and not self.beside and self._rested >= self._to_hear:
            self.hold()
        else:
            self.go_on()
        self._note(self.live.state == "running" and self.busy and not self.held)

    def _note(self, both: bool) -> None:
        """Tell in the recording from when to when both run."""
        recording = self.live.recording
        if both and self._noted is not recording and recording.wall:
            self._noted = recording
            recording.append(self._beside(recording, True))
        elif not both and self._noted is not None:
            if self._noted is recording:
                recording.append(self._beside(recording, False))
            self._noted = None

    def _beside(self, recording: Recording, running: bool) -> events.Beside:
        now = max(0, round((time.time() - recording.wall) * 1e9))
        return events.Beside(now, len(recording.tokens), running)

    # --- what it says

    def _take(self, notice: msgspec.Struct) -> None:
        match notice:
            case messages.Studied():
                self.studied.emit(notice)
            case messages.Weighed():
                self.weighed.emit(notice)
            case messages.Compared():
                self.compared.emit(notice)
            case events.Progress():
                self._be_busy(True)
                self.progressed.emit(notice)
            case messages.Covered(number):
                self.covered.emit(number)
            case messages.Rested(commands):
                self._rested = commands
                if commands == self._sent:  # else more is on its way to it
                    self._be_busy(False)
                    self.progressed.emit(None)
            case events.Failed(text=text):
                self.troubled.emit(text)

    @Slot(str)
    def _on_death(self, line: str) -> None:
        self._told = None
        self._be_busy(False)
        self.progressed.emit(None)
        self.troubled.emit(f"{line}. What it had found out is kept; ask again to go on")

    def _ask(self, wish: msgspec.Struct | None = None) -> None:
        """Send a wish, after what it builds on: a process that is new must study first."""
        if not self.host.alive:
            self._sent = self._to_hear = self._rested = 0
        try:
            self.host.start()
        except OSError as error:
            self.troubled.emit(f"The calibrator cannot be started: {error.strerror or error}")
            return
        if self._study is not None and self._told is not self._study:
            self._told = self._study
            self._send(self._study)
        if wish is not None:
            self._send(wish)
        self._be_busy(True)
        self._mind_the_engine()

    def _send(self, command: msgspec.Struct) -> None:
        self._sent += 1
        self.host.send(command)

    def _be_busy(self, busy: bool) -> None:
        if busy != self.busy:
            self.busy = busy
            self.changed.emit()
