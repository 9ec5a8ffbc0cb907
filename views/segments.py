"""A segmented control: a few exclusive choices side by side, one of them on."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QHBoxLayout, QSizePolicy, QToolButton, QWidget

from views.colors import readable
from views.theme import Theme


class Segments(QWidget):
    """``choices`` are (key, title, tooltip). Tab reaches the control, arrow keys move within it."""

    changed = Signal(str)  # the key now on; only when the user or ``choose`` changed it

    def __init__(self, choices: Sequence[tuple[str, str, str]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self._group = QButtonGroup(self)
        self._group.setExclusive(True)
        self._buttons: dict[str, QToolButton] = {}
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        for key, title, tip in choices:
            button = QToolButton(self)
            button.setText(title)
            button.setToolTip(tip)
            button.setAccessibleName(title)
            button.setCheckable(True)
            button.setObjectName("first" if not self._buttons else "last" if len(self._buttons) == len(choices) - 1 else "middle")
            button.setProperty("key", key)
            self._group.addButton(button)
            self._buttons[key] = button
            layout.addWidget(button)
        self._key = choices[0][0]
        self._buttons[self._key].setChecked(True)
        self._group.buttonToggled.connect(self._toggled)

    def restyle(self, theme: Theme) -> None:
        """Mark the choice that is on in the theme's accent."""
        self.setStyleSheet(
            f"QToolButton {{ border: 1px solid {theme.border}; border-left-width: 0; background: {theme.raised}; color: {theme.muted};"
            " padding: 2px 8px; margin: 0; border-radius: 0; }"
            f"QToolButton:hover {{ color: {theme.text}; }}"
            f"QToolButton:checked {{ background: {theme.accent}; border-color: {theme.accent}; color: {readable(theme.accent)}; }}"
            f"QToolButton:focus {{ border: 1px solid {theme.text}; }}"
            "QToolButton#first { border-left-width: 1px; border-top-left-radius: 4px; border-bottom-left-radius: 4px; }"
            "QToolButton#last { border-top-right-radius: 4px; border-bottom-right-radius: 4px; }"
        )

    @property
    def key(self) -> str:
        """The choice that is on."""
        return self._key

    def choose(self, key: str) -> None:
        """Turn a choice on."""
        self._buttons[key].setChecked(True)

    @Slot(QAbstractButton, bool)
    def _toggled(self, button: QAbstractButton, on: bool) -> None:
        if on:
            self._key = button.property("key")
            self.changed.emit(self._key)
