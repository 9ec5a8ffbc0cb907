"""The engine as it runs behind the window: its state, its settings, the recording that it fills. Knows no widget."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from app import sessions
from app.host import WORKER, EngineHost
from app.undo import ChangeStack
from engine import events
from engine.errors import EngineError
from engine.preload.device import NATIVE, Device
from engine.recording.recording import Recording
from engine.settings import BY_NAME, Effect, Value, defaults
from profiles.devices import load_devices

BUSY = ("running", "paused")


class Live(QObject):
    """Turns what the user wants into commands and what the engine says into state. ``drain`` is called by the window's timer."""

    state_changed = Signal()
    progressed = Signal(object)  # events.Progress, or None when the long work is over
    troubled = Signal(str, str)  # one of died, failed, refused, reload, file; one line for the user
    recording_changed = Signal()  # a new recording is being filled
    model_changed = Signal()
    setting_changed = Signal(str)
    setting_refused = Signal(str, str)
    about_to_run = Signal()  # the engine is told now to make tokens

    def __init__(self, command: tuple[str, ...] = WORKER, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.host = EngineHost(command, self)
        self.host.died.connect(self._on_death)
        self.recording = Recording()
        self.state = "starting"  # or loading, idle, running, paused, dead
        self.model: Path | None = None
        self.name = ""
        self.info: events.ModelInfo | None = None
        self.values: dict[str, Value] = defaults()  # in force
        self.effective: dict[str, Value] = {}
        self.wanted: dict[str, Value] = defaults()  # in force, or asked for and not answered yet
        self.undo = ChangeStack(self._send_change, lambda: self.wanted)
        self.to_come = ""  # prompt that starts as soon as the model is loaded
        self._asked: dict[str, Value] = {}
        self._told = ""
        self.devices = load_devices()

    @property
    def can_run(self) -> bool:
        return self.state == "idle" and self.info is not None

    @property
    def busy(self) -> bool:
        return self.state in BUSY

    def open_model(self, model: Path, name: str = "", prompt: str = "") -> None:
        """Start over with a model, in a fresh process and a fresh recording; ``prompt`` runs as soon as it is loaded."""
        former = self._end()
        self.model, self.name, self.to_come = model, name or model.name, prompt
        self.info, self.effective = None, {}
        self.recording = self._new_recording()
        self.recording_changed.emit()
        former.close()  # only now: until here the panels showed it
        self.model_changed.emit()
        self._be("starting")
        try:
            self.host.start()
        except OSError as error:
            self._on_death(f"The engine cannot be started: {error.strerror or error}")
            return
        self._load()

    def restart(self) -> None:
        """Start the engine again with the same model and settings."""
        if self.model is not None:
            self.open_model(self.model, self.name)

    def reload(self) -> None:
        """Load the model again in the same session, so that settings which need it take effect."""
        if self.host.alive and not self.busy:
            self._load()

    def run(self, prompt: str, paused: bool = False) -> None:
        """Start a request; one that runs must have been stopped."""
        if self.can_run and prompt:
            self.about_to_run.emit()
            self.host.send(events.Generate(prompt, paused))

    def pause_or_resume(self) -> None:
        if self.state == "paused":
            self.about_to_run.emit()
            self.host.send(events.Resume())
        elif self.busy:
            self.host.send(events.Pause())

    def step(self, prompt: str) -> None:
        """One token: of the request under way, or the first of a new one."""
        self.run(prompt, paused=True)
        if self.busy or (self.can_run and prompt):
            self.about_to_run.emit()
            self.host.send(events.Step())

    def stop(self) -> None:
        """End the request or cancel the loading."""
        self.to_come = ""
        self.host.send(events.Stop())

    def shut_down(self) -> None:
        """Leave no engine behind, and the session file whole."""
        self._be("dead")
        self._end().close()

    def drain(self) -> bool:
        """Take in what the engine has sent; whether there was anything."""
        notices = self.host.drain()
        for notice in notices:
            self._take(notice)
        if self.recording.trouble != self._told:
            self._told = self.recording.trouble
            if self._told:
                self.troubled.emit("file", self._told)
        return bool(notices)

    # --- what the engine says

    def _take(self, notice: events.Notice) -> None:
        self.recording.append(notice)
        match notice:
            case events.Progress():
                self.progressed.emit(notice)
            case events.State(state=state):
                self._be(state)
            case events.Ready():
                self._on_ready(notice)
            case events.Applied():
                self._on_applied(notice)
            case events.Refused(name=name, value=value, reason=reason):
                self._refuse(name, value, reason)
            case events.Failed(text=text):
                self.progressed.emit(None)
                self.troubled.emit("failed", text)

    def _on_ready(self, notice: events.Ready) -> None:
        self.info = notice.model
        self.values.update(notice.settings)
        self.effective = dict(notice.effective)
        for name in BY_NAME:
            self.setting_changed.emit(name)
        self.model_changed.emit()
        for name, value in self.wanted.items():
            if value != self._asked.get(name, value):  # changed while the model was loading
                self.host.send(events.Change(name, value))
        self._begin_what_waits()
        self.state_changed.emit()

    def _on_applied(self, notice: events.Applied) -> None:
        self.values[notice.name] = notice.new
        self.effective |= {notice.name: notice.effective, "budget": notice.budget.granted}
        self.undo.accepted(notice.name, notice.new)
        self.setting_changed.emit(notice.name)
        setting = BY_NAME.get(notice.name)
        if setting is not None and setting.effect is Effect.RELOAD:
            self.troubled.emit("reload", f"{setting.title} takes effect when the model is loaded again.")

    def _refuse(self, name: str, value: Value, reason: str) -> None:
        if self.wanted.get(name) == value:
            self.wanted[name] = self.values[name]
        self.undo.refused(name, value, self.values[name])
        self.setting_refused.emit(name, reason)

    def _on_death(self, line: str) -> None:
        self.recording.flush()
        self.info = None
        self.progressed.emit(None)
        self._be("dead")
        self.troubled.emit("died", line)

    def _be(self, state: str) -> None:
        if state == self.state:
            return
        if self.state == "loading":  # also when the model is there: then the buffer is being filled
            self.progressed.emit(None)
        self.state = state
        self._begin_what_waits()
        self.state_changed.emit()

    def _begin_what_waits(self) -> None:
        if self.can_run and self.to_come:
            prompt, self.to_come = self.to_come, ""
            self.run(prompt)

    # --- what goes to the engine

    def _load(self) -> None:
        assert self.model is not None
        self._asked = dict(self.wanted)
        self.host.send(events.Load(str(self.model), dict(self.wanted), self.name, self._devices()))

    def _send_change(self, name: str, value: Value) -> None:
        """From the undo stack. Without a loaded model there is nobody to ask: the wish holds until there is."""
        self.wanted[name] = value
        if self.host.alive and self.info is not None:
            self.host.send(events.Change(name, value))
            return
        try:
            self.values[name] = BY_NAME[name].parse(value)
        except EngineError as error:
            QTimer.singleShot(0, self, lambda reason=str(error): self._refuse(name, value, reason))  # the stack is in the middle of a push
            return
        self.undo.accepted(name, value)
        self.setting_changed.emit(name)

    def _devices(self) -> list[Device]:
        return [device for name, device in self.devices.items() if name != NATIVE.name]

    # --- the recording

    def _new_recording(self) -> Recording:
        """One that is written as it goes; without a place to write it, one in memory, and the window says so."""
        try:
            return Recording(sessions.new_path(self.name))
        except (OSError, EngineError) as error:
            self.troubled.emit("file", f"This session is not written to disk: {error}")
            return Recording()

    def _end(self) -> Recording:
        """End the engine; returns the recording with the last that it said."""
        for notice in self.host.stop():
            self.recording.append(notice)
        self.undo.forget()
        self.progressed.emit(None)
        return self.recording
