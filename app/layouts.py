"""The docks: a default arrangement that answers at one glance, and the user's own between runs."""

from __future__ import annotations

import base64

from PySide6.QtCore import QByteArray, Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QDockWidget, QMainWindow, QTabWidget, QWidget

VERSION = 3  # of the arrangement: a layout saved under another one is not restored
LEFT, MIDDLE, RIGHT = ("text", "tuning"), ("grid", "timeline"), ("latency", "cache", "memory")
TABBED = {"grid": ("bitwidth",), "tuning": ("inspector",), "cache": ("prediction",), "latency": ("whatif",)}
"""In front, and behind it."""
_WIDTHS = (27, 43, 30)
_HEIGHTS = {"text": 62, "tuning": 38, "grid": 50, "timeline": 50, "latency": 36, "cache": 32, "memory": 32}


class DockArea(QMainWindow):
    """A main window in the window, of docks only, so that strips above it stay out of their way."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Widget)
        self.setDockOptions(
            QMainWindow.DockOption.AllowNestedDocks | QMainWindow.DockOption.AllowTabbedDocks | QMainWindow.DockOption.AnimatedDocks
        )
        self.setTabPosition(Qt.DockWidgetArea.AllDockWidgetAreas, QTabWidget.TabPosition.North)
        self.setDocumentMode(True)
        self.docks: dict[str, QDockWidget] = {}
        self.toggles: dict[str, QAction] = {}
        """Of every dock, what ``toggle`` does; checked where it is shown, in front or behind."""

    def add(self, key: str, title: str, widget: QWidget) -> QDockWidget:
        """Wrap a panel; ``arrange`` gives it its place."""
        dock = QDockWidget(title, self)
        dock.setObjectName(key)
        dock.setWidget(widget)
        toggle = QAction(title, self)
        toggle.setCheckable(True)
        toggle.triggered.connect(lambda: self.toggle(key))
        dock.toggleViewAction().toggled.connect(toggle.setChecked)
        self.docks[key], self.toggles[key] = dock, toggle
        self.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        return dock

    def arrange(self) -> None:
        """Put every dock where it is by default: text and tuning, grid over timeline, the charts."""
        for dock in self.docks.values():
            dock.setFloating(False)
            self.removeDockWidget(dock)
        columns = [[self.docks[key] for key in column if key in self.docks] for column in (LEFT, MIDDLE, RIGHT)]
        columns = [column for column in columns if column]
        for number, column in enumerate(columns):
            if number == 0:
                self.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, column[0])
            else:
                self.splitDockWidget(columns[number - 1][0], column[0], Qt.Orientation.Horizontal)
        for column in columns:
            for above, below in zip(column, column[1:], strict=False):
                self.splitDockWidget(above, below, Qt.Orientation.Vertical)
        for key, others in TABBED.items():
            front = self.docks.get(key)
            for back in filter(None, (self.docks.get(other) for other in others)):
                if front is None:
                    self.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, back)
                else:
                    self.tabifyDockWidget(front, back)
        for dock in self.docks.values():
            dock.show()
        for key in TABBED:
            if key in self.docks:
                self.docks[key].raise_()
        heads = [column[0].objectName() for column in columns]
        self._proportion(dict(zip(heads, _WIDTHS, strict=False)), Qt.Orientation.Horizontal, self.width())
        for keys in (LEFT, MIDDLE, RIGHT):
            self._proportion({key: _HEIGHTS[key] for key in keys}, Qt.Orientation.Vertical, self.height())

    def toggle(self, key: str) -> None:
        """Hide a dock that can be seen; bring one that is hidden, or behind its tabs."""
        dock = self.docks[key]
        if dock.isVisible() and not dock.visibleRegion().isEmpty():
            dock.close()
        else:
            self.bring(key)
        self.toggles[key].setChecked(dock.toggleViewAction().isChecked())

    def bring(self, key: str) -> None:
        """Show a dock, in front of its tabs, with the keyboard in it."""
        dock = self.docks[key]
        dock.show()
        dock.raise_()
        dock.activateWindow()
        dock.widget().setFocus(Qt.FocusReason.ShortcutFocusReason)

    def turn_to(self, key: str) -> None:
        """Put a dock in front of its tabs; one that the user has hidden stays hidden."""
        if self.docks[key].toggleViewAction().isChecked():
            self.docks[key].raise_()

    def save(self) -> str:
        """The arrangement as text."""
        return packed(self.saveState(VERSION))

    def restore(self, text: str) -> bool:
        """Take a saved arrangement; False, and nothing changed, where it is none of this version."""
        return bool(text) and self.restoreState(unpacked(text), VERSION)

    def _proportion(self, shares: dict[str, int], orientation: Qt.Orientation, length: int) -> None:
        present = {key: share for key, share in shares.items() if key in self.docks}
        if present:
            total = sum(present.values())
            self.resizeDocks([self.docks[key] for key in present], [length * share // total for share in present.values()], orientation)


def packed(data: QByteArray) -> str:
    return base64.b64encode(data.data()).decode("ascii")


def unpacked(text: str) -> QByteArray:
    """Raises nothing: what is no base64 gives an empty array."""
    return QByteArray.fromBase64(text.encode("ascii", "replace"))
