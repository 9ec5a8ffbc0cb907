"""The toolbar: the four buttons of a run, what runs on what, and how the engine is."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSizePolicy, QToolBar, QWidget

from app.actions import Actions
from app.theme import icon
from profiles.profile import Profile
from views.theme import Theme
from views.tuning_model import TuningModel

CUSTOM = "custom"
_STATE_TEXTS = {
    "starting": "Starting engine", "loading": "Loading", "idle": "Ready", "running": "Generating", "paused": "Paused",
    "dead": "Engine stopped", "recorded": "Recorded", "empty": "No model",
}  # fmt: skip


class StateLight(QWidget):
    """A coloured dot and a word: colour alone would not do."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._dot = _Dot(self)
        self.label = QLabel(self)
        self.label.setMinimumWidth(self.label.fontMetrics().horizontalAdvance(max(_STATE_TEXTS.values(), key=len)) + 8)
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 0, 4, 0)
        row.setSpacing(6)
        row.addWidget(self._dot)
        row.addWidget(self.label)

    def show_state(self, state: str, theme: Theme) -> None:
        colors = {"running": theme.hit, "idle": theme.accent, "paused": theme.warning, "dead": theme.error, "recorded": theme.mark}
        self._dot.color = QColor(colors.get(state, theme.muted))
        self._dot.update()
        self.label.setText(_STATE_TEXTS[state])


class _Dot(QWidget):
    color = QColor("#888888")

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setFixedSize(12, 12)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self.color)
        painter.drawEllipse(QPointF(6, 6), 5, 5)


class RunBar(QToolBar):
    """``profile_chosen`` names a profile; the device goes through the TuningModel like any setting."""

    profile_chosen = Signal(str)

    def __init__(self, actions: Actions, tuning: TuningModel, parent: QWidget | None = None) -> None:
        super().__init__("Run", parent)
        self.setObjectName("run")
        self.setMovable(False)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
        self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.setIconSize(QSize(16, 16))
        self._actions, self._tuning = actions, tuning
        for name in ("run", "pause", "step", "stop"):
            self.addAction(actions[name])
        pause = self.widgetForAction(actions["pause"])
        pause.setMinimumWidth(pause.fontMetrics().horizontalAdvance("Resume") + 44)
        self.addSeparator()
        self.model = QLabel(self)
        self.model.setProperty("role", "strong")
        self._caption("Model")
        self.addWidget(self.model)
        self.addSeparator()
        self.profile = self._chooser("Profile", "A named set of settings; choosing one changes the settings that differ")
        self.device = self._chooser("Device", "Slow this machine's storage down to another device's")
        space = QWidget(self)
        space.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.addWidget(space)
        self.light = StateLight(self)
        self.addWidget(self.light)
        self.profile.activated.connect(self._on_profile)
        self.device.activated.connect(self._on_device)
        tuning.changed.connect(self._on_setting)
        tuning.choices_changed.connect(self._on_choices)
        self._on_choices("device")

    def show_model(self, name: str, detail: str) -> None:
        self.model.setText(self.model.fontMetrics().elidedText(name or "none", Qt.TextElideMode.ElideMiddle, 220))
        self.model.setToolTip(detail)

    def show_profiles(self, profiles: list[Profile], current: str) -> None:
        """List the profiles; ``current`` is the name of the one in force, or ``custom``."""
        self.profile.clear()
        for profile in profiles:
            self.profile.addItem(profile.title or profile.name, profile.name)
            self.profile.setItemData(self.profile.count() - 1, profile.help, Qt.ItemDataRole.ToolTipRole)
        if current == CUSTOM:
            self.profile.addItem("Custom", CUSTOM)
        self.profile.setCurrentIndex(max(0, self.profile.findData(current)))

    def show_state(self, state: str, theme: Theme) -> None:
        self.light.show_state(state, theme)
        paused = state == "paused"
        self._actions["pause"].setText("Resume" if paused else "&Pause")
        self._actions["pause"].setIcon(icon("run" if paused else "pause", theme.text, theme.border))

    def restyle(self, theme: Theme) -> None:
        for name, color in (("run", theme.hit), ("step", theme.text), ("stop", theme.error)):
            self._actions[name].setIcon(icon(name, color, theme.border))

    def _caption(self, text: str) -> None:
        label = QLabel(text, self)
        label.setProperty("role", "caption")
        label.setContentsMargins(4, 0, 4, 0)
        self.addWidget(label)

    def _chooser(self, title: str, tip: str) -> QComboBox:
        self._caption(title)
        box = QComboBox(self)
        box.setMinimumWidth(110)
        box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        box.setToolTip(tip)
        box.setAccessibleName(title)
        self.addWidget(box)
        return box

    def _on_profile(self, index: int) -> None:
        name = self.profile.itemData(index)
        if name != CUSTOM:
            self.profile_chosen.emit(name)

    def _on_device(self, index: int) -> None:
        self._tuning.request("device", self.device.itemData(index))
        self._on_setting("device")  # shows what is in force until the engine has accepted

    def _on_setting(self, name: str) -> None:
        if name == "device":
            value = self._tuning.values["device"]
            if self.device.findData(value) < 0:
                self.device.addItem(str(value), value)
            self.device.setCurrentIndex(self.device.findData(value))
            self.device.setEnabled(not self._tuning.read_only)

    def _on_choices(self, name: str) -> None:
        if name == "device":
            self.device.clear()
            for choice in self._tuning.choices["device"]:
                self.device.addItem(str(choice), choice)
            self._on_setting("device")
