"""The settings as the window knows them: wanted values, values in force, and requests to change them."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal

from engine.settings import SETTINGS, Setting, Value, defaults
from views.plan_model import PlanModel


class TuningModel(QObject):
    """Views read ``values``/``effective`` and call ``request``; the application answers through ``accept`` and ``refuse``."""

    requested = Signal(str, object)  # name, new value: the application puts it on the undo stack and sends it
    requested_all = Signal(str, object)  # what for, new values by name: one step of undo
    changed = Signal(str)  # a value or an effective value is new
    refused = Signal(str, str)  # name, reason
    choices_changed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.settings: tuple[Setting, ...] = SETTINGS
        self.values: dict[str, Value] = defaults()
        self.effective: dict[str, Value] = {}
        self.choices: dict[str, tuple[Value, ...]] = {setting.name: setting.choices for setting in SETTINGS}
        self.budget_range: tuple[int, int] | None = None  # smallest that works and all experts, in bytes at the width in use
        self.cycle = 0  # bytes of one token's experts in all layers, at the width in use; 0: not known
        self.read_only = False  # a reopened session is shown
        self.plans = PlanModel(self)

    def request(self, name: str, value: Value) -> None:
        """Ask for a change. Nothing is different until the engine has accepted it."""
        if not self.read_only and value != self.values[name]:
            self.requested.emit(name, value)

    def request_all(self, text: str, values: dict[str, Value]) -> None:
        """Ask for several changes that are taken back together; ``text`` says what they are."""
        if not self.read_only and any(value != self.values[name] for name, value in values.items()):
            self.requested_all.emit(text, values)

    def accept(self, name: str, value: Value, effective: Value) -> None:
        self.values[name] = value
        self.effective[name] = effective
        self.changed.emit(name)

    def refuse(self, name: str, reason: str) -> None:
        self.refused.emit(name, reason)
        self.changed.emit(name)

    def offer(self, name: str, choices: tuple[Value, ...]) -> None:
        """Replace the choices of a setting (devices and plans come from folders)."""
        self.choices[name] = choices
        self.choices_changed.emit(name)
