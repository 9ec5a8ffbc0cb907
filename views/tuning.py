"""Every setting of the engine, changed while it runs. Generated from the declarations in ``engine/settings.py``."""

from __future__ import annotations

from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QFrame, QLabel, QLineEdit, QScrollArea, QVBoxLayout, QWidget

from engine.recording.recording import Recording
from views.panel import Panel
from views.selection import Selection
from views.theme import Theme
from views.tuning_model import TuningModel
from views.tuning_row import Row


class TuningPanel(Panel):
    """One row a setting, in groups, with a filter above."""

    key = "tuning"
    title = "Tuning"
    every = 4

    def __init__(
        self, recording: Recording, selection: Selection, settings: TuningModel, theme: Theme, parent: QWidget | None = None
    ) -> None:
        super().__init__(recording, selection, settings, theme, parent)
        self.rows: dict[str, Row] = {}
        self._groups: dict[str, QLabel] = {}
        self._known: tuple[object, ...] = ()
        self.build()
        self.restyle(theme)
        settings.changed.connect(self._changed)
        settings.refused.connect(self._refused)
        settings.choices_changed.connect(self._choices_changed)

    def build(self) -> None:
        self.filter = QLineEdit(self)
        self.filter.setPlaceholderText("Filter settings (Ctrl+F)")
        self.filter.setAccessibleName("Filter settings")
        self.filter.setClearButtonEnabled(True)
        self.filter.textChanged.connect(self._filter)
        find = QShortcut(QKeySequence.StandardKey.Find, self)
        find.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        find.activated.connect(self.filter.setFocus)
        self._banner = QLabel("A recorded session is shown: these are the settings it ran with, and they cannot be changed.", self)
        self._banner.setWordWrap(True)
        self._nothing = QLabel("No setting matches.", self)
        self._nothing.hide()
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(8, 0, 8, 8)
        column.setSpacing(0)
        for setting in self.settings.settings:
            if setting.group not in self._groups:
                heading = self._groups[setting.group] = QLabel(setting.group, inner)
                column.addWidget(heading)
            row = self.rows[setting.name] = Row(setting, self.settings, self.theme, inner)
            column.addWidget(row)
        column.addWidget(self._nothing)
        column.addStretch(1)
        area = QScrollArea(self)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        area.setWidget(inner)
        self._area = area
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 6, 0, 0)
        outer.setSpacing(4)
        top = QVBoxLayout()
        top.setContentsMargins(8, 0, 8, 0)
        top.addWidget(self.filter)
        top.addWidget(self._banner)
        outer.addLayout(top)
        outer.addWidget(area)

    def refresh(self) -> None:
        known = (self.settings.read_only, self.settings.budget_range)
        if known != self._known:
            self._known = known
            self._banner.setVisible(self.settings.read_only)
            for row in self.rows.values():
                row.update_value()

    def reset(self) -> None:
        self._known = ()

    def restyle(self, theme: Theme) -> None:
        self._banner.setStyleSheet(f"color: {theme.warning};")
        self._nothing.setStyleSheet(f"color: {theme.muted};")
        for heading in self._groups.values():
            heading.setStyleSheet(
                f"color: {theme.muted}; font-weight: 600; font-size: 11px; border: 0; border-bottom: 1px solid {theme.border};"
                " padding: 8px 0 2px 0; margin-bottom: 2px;"
            )
        for row in self.rows.values():
            row.restyle(theme)
        super().restyle(theme)

    @Slot(str)
    def _changed(self, name: str) -> None:
        if name in self.rows:
            self.rows[name].update_value()

    @Slot(str, str)
    def _refused(self, name: str, reason: str) -> None:
        if name in self.rows:
            self.rows[name].refuse(reason)

    @Slot(str)
    def _choices_changed(self, name: str) -> None:
        if name in self.rows:
            self.rows[name].update_choices()

    @Slot(str)
    def _filter(self, text: str) -> None:
        words = text.lower().split()
        shown = {row.setting.group for row in self.rows.values() if row.matches(words)}
        for row in self.rows.values():
            row.setVisible(row.matches(words))
        for group, heading in self._groups.items():
            heading.setVisible(group in shown)
        self._nothing.setVisible(not shown)
