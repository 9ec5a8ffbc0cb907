"""Every key, on one page over the window: made from the actions themselves, so that it is never behind them."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QAction, QColor, QKeyEvent, QKeySequence, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QMenu, QScrollArea, QVBoxLayout, QWidget

COLUMNS = 3
Group = tuple[str, list[tuple[str, str]]]  # heading, (keys, what they do)


class HelpOverlay(QWidget):
    """Covers its parent while shown; any key or a click ends it."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("shade")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._box = QVBoxLayout(self)
        self._box.setContentsMargins(24, 24, 24, 24)
        self._page: QWidget | None = None
        self._former: QWidget | None = None
        parent.installEventFilter(self)
        self.hide()

    def open(self, groups: Sequence[Group]) -> None:
        """Show the page of these groups."""
        if self._page is not None:
            self._box.removeWidget(self._page)
            self._page.deleteLater()
        self._page = _page(groups, self)
        self._box.addWidget(self._page, 0, Qt.AlignmentFlag.AlignCenter)
        self._former = self.window().focusWidget()
        self.setGeometry(self.parentWidget().rect())
        self.show()
        self.raise_()
        self.setFocus()

    def close_page(self) -> None:
        self.hide()
        if self._former is not None:
            self._former.setFocus()
            self._former = None

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize and self.isVisible():
            self.setGeometry(self.parentWidget().rect())
        return False

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ShortcutOverride:
            event.accept()  # no shortcut acts behind the page
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() not in (Qt.Key.Key_Shift, Qt.Key.Key_Control, Qt.Key.Key_Alt, Qt.Key.Key_Meta):
            self.close_page()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self.close_page()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(0, 0, 0, 130))


def groups_of(menus: Sequence[QMenu], panels: Sequence[QWidget]) -> list[Group]:
    """A group a menu with the keys of its actions, then those that the panels say they have (``keys``: pairs of keys and meaning)."""
    groups = [(_plain(menu.title()), _keys(menu.actions())) for menu in menus]
    groups += [(str(getattr(panel, "title", "")), list(getattr(panel, "keys", ()))) for panel in panels]
    return [group for group in groups if group[1]]


def _keys(actions: Sequence[QAction]) -> list[tuple[str, str]]:
    found = []
    for action in actions:
        if action.menu() is not None:
            found += _keys(action.menu().actions())
        elif action.shortcuts():
            keys = "  ".join(sequence.toString(QKeySequence.SequenceFormat.NativeText) for sequence in action.shortcuts())
            found.append((keys, _plain(action.text()).rstrip("…")))
    return found


def _plain(text: str) -> str:
    return text.replace("&", "")


def _page(groups: Sequence[Group], parent: QWidget) -> QWidget:
    """Groups in columns of about the same length."""
    frame = QFrame(parent)
    frame.setObjectName("help")
    outer = QVBoxLayout(frame)
    outer.setContentsMargins(20, 16, 20, 16)
    title = QLabel("Keyboard", frame)
    title.setProperty("role", "strong")
    outer.addWidget(title)
    body = QWidget(frame)
    row = QHBoxLayout(body)
    row.setContentsMargins(0, 8, 0, 8)
    row.setSpacing(32)
    grids = [QGridLayout() for _ in range(COLUMNS)]
    for grid in grids:
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(5)
        column = QVBoxLayout()
        column.setSpacing(0)
        column.addLayout(grid)
        column.addStretch(1)
        row.addLayout(column)
    for heading, keys in groups:
        grid = min(grids, key=QGridLayout.rowCount)
        line = grid.rowCount()
        label = QLabel(heading, body)
        label.setProperty("role", "heading")
        label.setContentsMargins(0, 10 if line > 1 else 0, 0, 2)
        grid.addWidget(label, line, 0, 1, 2)
        for offset, (key, meaning) in enumerate(keys, start=1):
            cap = QLabel(key, body)
            cap.setProperty("role", "key")
            grid.addWidget(cap, line + offset, 0, Qt.AlignmentFlag.AlignLeft)
            grid.addWidget(QLabel(meaning, body), line + offset, 1)
    scroll = QScrollArea(frame)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setWidgetResizable(True)
    scroll.setWidget(body)
    body.setAutoFillBackground(False)
    scroll.viewport().setAutoFillBackground(False)
    scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    hint = body.sizeHint()
    space = parent.parentWidget().size()
    scroll.setMinimumSize(min(hint.width() + 18, space.width() - 120), min(hint.height() + 4, space.height() - 150))
    outer.addWidget(scroll)
    foot = QLabel("Any key closes this page.", frame)
    foot.setProperty("role", "caption")
    outer.addWidget(foot)
    return frame
