"""One setting in the tuning panel: name, editor, when it takes effect, what it came to, and why a change was refused."""

from __future__ import annotations

from dataclasses import replace

from PySide6.QtCore import QSize, Qt, Slot
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy, QToolButton, QWidget

from engine.errors import EngineError
from engine.settings import Effect, Setting, Value, parse_size
from views.colors import mix
from views.theme import Theme
from views.throttle import Throttle
from views.tuning_budget import BytesEditor, under_cycle
from views.tuning_editors import ChoiceEditor, Editor, NumberEditor, PathEditor, SwitchEditor, TextEditor
from views.tuning_model import TuningModel
from views.units import format_bytes

INTERVAL = 100  # ms: a slider emits hundreds of values a second, the engine wants a few
NARROW = 380  # px: below, the badge says "token" instead of "next token"
WHEN = {
    Effect.TOKEN: "A change takes effect from the next token on.",
    Effect.REQUEST: "A change takes effect from the next request on.",
    Effect.RELOAD: "A change takes effect when the model is loaded again.",
}


def make_editor(setting: Setting, choices: tuple[Value, ...]) -> Editor:
    """The editor that fits a setting's type."""
    if setting.kind == "bytes":
        return BytesEditor(setting)
    if setting.kind == "path":
        return PathEditor(setting)
    if choices:
        return ChoiceEditor(setting)
    if isinstance(setting.default, bool):
        return SwitchEditor(setting)
    if isinstance(setting.default, int | float):
        return NumberEditor(setting)
    return TextEditor(setting)


def describe(setting: Setting, value: Value) -> str:
    """A value as it reads in a sentence."""
    if setting.kind == "bytes" and isinstance(value, int | float):
        return format_bytes(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        value = f"{value:g}"
    return setting.with_unit(value) or "none"


def same(setting: Setting, value: Value, effective: Value) -> bool:
    """What is in force is what was entered, if written differently (12MiB and 12582912)."""
    if value == effective or str(value) == str(effective):
        return True
    if setting.kind == "bytes" and isinstance(effective, int | float):
        try:
            return parse_size(str(value)) == int(effective)
        except EngineError:
            return False
    return False


class Row(QWidget):
    """Reads the model's value, and asks the model for another when the user wants one."""

    def __init__(self, setting: Setting, model: TuningModel, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setting, self._model = setting, model
        self._throttle = Throttle(INTERVAL, self)
        self._throttle.ready.connect(self._send)
        self.editor = self._make()
        self._title = QLabel(setting.title, self)
        self._title.setWordWrap(True)
        self._title.setBuddy(self.editor)
        self._badge = QLabel(str(setting.effect), self)
        self._badge.setToolTip(WHEN[setting.effect])
        self._badge.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._default = QToolButton(self)
        self._default.setText("↺")
        self._default.setAutoRaise(True)
        self._default.clicked.connect(self._restore)
        self._note = QLabel(self)
        self._note.setWordWrap(True)
        self._note.setTextFormat(Qt.TextFormat.PlainText)
        self._flag, self._error = QLabel(self), QLabel(self)  # a value that works and is unwise; one that was refused
        for label in (self._flag, self._error):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.hide()
        self._refused_at: Value | None = None
        self._arrange()
        self._explain()
        self.restyle(theme)
        self.update_value()

    def matches(self, words: list[str]) -> bool:
        """Every word occurs in name, title, group, help, choices or effect."""
        setting = self.setting
        choices = " ".join(map(str, self._model.choices[setting.name]))
        text = f"{setting.name} {setting.title} {setting.group} {setting.help} {choices} {setting.effect}".lower()
        return all(word in text for word in words)

    def update_value(self) -> None:
        """Show what is in force, unless the user is in the middle of something else."""
        name = self.setting.name
        value = self._model.values[name]
        if isinstance(self.editor, BytesEditor) and name == "budget":
            self.editor.set_range(self._model.budget_range)
        if not self.editor.held() and not self._throttle.busy:
            self.editor.show_value(value)
            self.editor.show_effective(self._model.effective.get(name))
        self._default.setVisible(not self._model.read_only and value != self.setting.default)
        if value != self._refused_at or self._model.read_only:
            self._error.hide()
        self.editor.setEnabled(not self._model.read_only)
        self._tell(value)

    def update_choices(self) -> None:
        """Take the choices there are now."""
        choices = self._model.choices[self.setting.name]
        if isinstance(self.editor, TextEditor) and choices:  # the folders were read after the row was made
            former, self.editor = self.editor, self._make()
            self._grid.replaceWidget(former, self.editor)
            former.deleteLater()
            self._title.setBuddy(self.editor)
            self._explain()
            self.editor.show()
        self.editor.offer(choices)
        self.update_value()

    def refuse(self, reason: str) -> None:
        """Say why not, and go back to what is in force."""
        self._throttle.drop()
        self._refused_at = self._model.values[self.setting.name]
        self._error.setText(f"⚠ {reason}")
        self._error.show()
        self.update_value()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        narrow = event.size().width() < NARROW
        self._badge.setText(str(self.setting.effect).removeprefix("next ") if narrow else str(self.setting.effect))
        self._badge.setFixedWidth(52 if narrow else 78)
        self._grid.setColumnMinimumWidth(0, 96 if narrow else 124)

    def minimumSizeHint(self) -> QSize:
        return QSize(280, super().minimumSizeHint().height())

    def restyle(self, theme: Theme) -> None:
        self._note.setStyleSheet(f"color: {theme.muted}; font-size: 11px;")
        self._error.setStyleSheet(f"color: {theme.error}; font-size: 11px;")
        self._flag.setStyleSheet(f"color: {theme.warning}; font-size: 11px;")
        quiet = self.setting.effect is Effect.TOKEN
        color = theme.muted if quiet else theme.warning
        # Most changes hold at once: only those that do not deserve a frame.
        edge = "transparent" if quiet else mix(theme.border, theme.warning, 0.6)
        self._badge.setStyleSheet(f"color: {color}; border: 1px solid {edge}; border-radius: 7px; padding: 0 4px; font-size: 10px;")

    def _make(self) -> Editor:
        choices = self._model.choices[self.setting.name]
        editor = make_editor(self.setting, choices)
        editor.offer(choices)
        editor.setParent(self)
        editor.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        editor.edited.connect(self._edited)
        return editor

    def _arrange(self) -> None:
        grid = self._grid = QGridLayout(self)
        grid.setContentsMargins(0, 2, 0, 2)
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(1)
        grid.setColumnStretch(0, 2)
        grid.setColumnStretch(1, 5)
        policy = self._default.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self._default.setSizePolicy(policy)
        for column, widget in enumerate((self._title, self.editor, self._badge, self._default)):
            grid.addWidget(widget, 0, column)
        grid.addWidget(self._note, 1, 1, 1, 3)
        grid.addWidget(self._flag, 2, 1, 1, 3)
        grid.addWidget(self._error, 3, 0, 1, 4)

    def _explain(self) -> None:
        setting = self.setting
        text = f"{setting.help}\n{WHEN[setting.effect]} Default: {describe(setting, setting.default)}."
        if setting.minimum is not None and setting.maximum is not None:
            text += f" Range: {setting.minimum:g} to {setting.maximum:g} {setting.unit}".rstrip() + "."
        for widget in (self._title, self.editor, self.editor.focusProxy() or self.editor):
            widget.setToolTip(text)
            widget.setWhatsThis(text)
        name = self.editor.focusProxy() or self.editor
        name.setAccessibleName(setting.title)
        name.setAccessibleDescription(text)
        self._default.setToolTip(f"Back to the default, {describe(setting, setting.default)}")
        self._default.setAccessibleName(f"{setting.title}: back to the default")

    def _tell(self, value: Value) -> None:
        """The line below the editor: what the value came to, and between what limits."""
        parts = []
        effective = self._model.effective.get(self.setting.name)
        limits = self._model.budget_range if self.setting.name == "budget" else None
        if effective is not None and not same(self.setting, value, effective):
            parts.append(f"= {describe(self.setting, effective)}{'' if limits else ' in force'}")
        if limits:
            parts.append(f"{format_bytes(limits[0])} to {format_bytes(limits[1])}")
        self._note.setText(" · ".join(parts))
        self._note.setVisible(bool(parts))
        flag = under_cycle(effective, limits[1], self._model.cycle) if limits and isinstance(effective, int) else ""
        self._flag.setText(flag)
        self._flag.setVisible(bool(flag))

    @Slot(object)
    def _edited(self, value: Value) -> None:
        self._throttle.offer(value)

    @Slot(object)
    def _send(self, value: Value) -> None:
        self._error.hide()
        choices = self._model.choices[self.setting.name]
        offered = replace(self.setting, choices=() if self.setting.kind == "path" else choices)
        try:
            parsed = offered.parse(value)
        except EngineError as error:
            self.refuse(str(error))
            return
        if parsed == self._model.values[self.setting.name]:
            self.update_value()
        else:
            self._model.request(self.setting.name, parsed)

    @Slot()
    def _restore(self) -> None:
        self._throttle.drop()
        self._send(self.setting.default)
