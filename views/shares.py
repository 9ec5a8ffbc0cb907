"""A bar of coloured parts."""

from __future__ import annotations

from PySide6.QtCore import QRectF
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from views.theme import Theme


class SharesBar(QWidget):
    """Parts of a whole side by side."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.theme = theme
        self.shares: list[tuple[str, float]] = []
        self.setFixedHeight(9)

    def show_shares(self, shares: list[tuple[str, float]]) -> None:
        self.shares = shares
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, x = QPainter(self), 0.0
        whole = sum(value for _, value in self.shares) or 1.0
        for role, value in self.shares:
            width = value / whole * self.width()
            painter.fillRect(QRectF(x, 0, width, self.height()), QColor(getattr(self.theme, role)))
            x += width
        painter.end()
