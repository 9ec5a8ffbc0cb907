"""Bare keys (Space, ?) are shortcuts of the window, yet must still press buttons, open lists and edit values."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, Qt, Slot
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QTextEdit,
    QWidget,
)

_TYPING = (QLineEdit, QPlainTextEdit, QTextEdit, QAbstractSpinBox)
_PRESSED_BY_SPACE = (QAbstractButton, QComboBox, QAbstractItemView)


class KeyGuard(QObject):
    """Filters ShortcutOverride events of the widget that has the focus, and of no other: it gets a bare key that it has a use for."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        QApplication.instance().focusChanged.connect(self._follow)
        self._follow(None, QApplication.focusWidget())

    @Slot(QWidget, QWidget)
    def _follow(self, former: QWidget | None, focused: QWidget | None) -> None:
        if former is not None:
            former.removeEventFilter(self)
        if focused is not None:
            focused.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() != QEvent.Type.ShortcutOverride or not isinstance(event, QKeyEvent) or not isinstance(watched, QWidget):
            return False
        if belongs_to(watched, event):
            event.accept()
            return True
        return False


def belongs_to(widget: QWidget, event: QKeyEvent) -> bool:
    """Whether the widget, having the focus, should see this key rather than a shortcut."""
    if event.modifiers() & ~(Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.KeypadModifier):
        return False
    if event.key() == Qt.Key.Key_Space:
        return isinstance(widget, _PRESSED_BY_SPACE) or _edits(widget)
    return event.key() == Qt.Key.Key_Question and _edits(widget)


def _edits(widget: QWidget) -> bool:
    return isinstance(widget, _TYPING) and not (hasattr(widget, "isReadOnly") and widget.isReadOnly())
