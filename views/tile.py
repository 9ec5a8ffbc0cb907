"""One figure of a strip: a caption, the number, its unit; beside them a small trend or below them a bar."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QWidget

from views.fonts import smaller
from views.theme import Theme

PAD = 10
GAP = 5  # between number and unit
TREND = 44  # px of the trend's width
BAR = 4


class Tile(QWidget):
    """Its place is set from outside; the unit stands after the widest number, so that neither ever moves.

    ``widest`` and ``unit`` are the longest texts to expect, ``trend`` is the role of the trend's colour (empty for none).
    """

    def __init__(self, caption: str, widest: str, unit: str, theme: Theme, trend: str = "", bar: bool = False, large: bool = True) -> None:
        super().__init__()
        self.caption, self.theme, self.trend_role, self.has_bar = caption, theme, trend, bar
        self.value, self.unit = "–", ""
        self.marked = False  # of something selected: a stroke of the accent at the left
        self.with_trend = bool(trend)
        self._trend = np.empty(0)
        self._top, self._share = 1.0, 0.0
        self._small, self._large = smaller(self.font()), QFont(self.font())
        if large:
            self._large.setPointSizeF(self.font().pointSizeF() * 1.5)
        self._large.setWeight(QFont.Weight.DemiBold)
        number, small = QFontMetrics(self._large), QFontMetrics(self._small)
        self._number = number.horizontalAdvance(widest)
        inner = max(self._number + (GAP + small.horizontalAdvance(unit) if unit else 0), small.horizontalAdvance(caption))
        self._least = inner + 2 * PAD
        self.setAccessibleName(caption)

    def least(self, trend: bool) -> int:
        """The width this needs, px."""
        return self._least + (TREND + GAP if trend and self.trend_role else 0)

    def tell(self, value: str, unit: str, trend: np.ndarray | None = None, top: float = 0.0, share: float = 0.0) -> None:
        """Show these. ``trend``: values [n], drawn from 0 to ``top`` (0: the highest). ``share`` of the bar is full, 0 to 1."""
        points = np.empty(0) if trend is None else trend
        if (value, unit, share, top) == (self.value, self.unit, self._share, self._top) and np.array_equal(points, self._trend):
            return
        self.value, self.unit, self._share, self._top, self._trend = value, unit, share, top, points
        self.setAccessibleDescription(f"{value} {unit}")
        self.update()

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        small, large = QFontMetrics(self._small), QFontMetrics(self._large)
        # Tiles without a bar leave its room too, so that all captions are on one line.
        top = (self.height() - small.height() - large.height() - BAR) // 2
        if self.marked:
            painter.fillRect(QRectF(0, 6, 3, self.height() - 12), QColor(self.theme.accent))
        painter.setFont(self._small)
        painter.setPen(QColor(self.theme.muted))
        room = self.width() - PAD - 2
        painter.drawText(QRectF(PAD, top, room, small.height()), Qt.AlignmentFlag.AlignVCenter, self.caption)
        base = top + small.height() + large.ascent()
        if self.unit:
            painter.drawText(QPointF(PAD + self._number + GAP, base), self.unit)
        painter.setFont(self._large)
        painter.setPen(QColor(self.theme.muted if self.value == "–" else self.theme.text))
        painter.drawText(QPointF(PAD, base), self.value)
        if self.has_bar:
            self._paint_bar(painter, base + large.descent() + 1)
        if self.with_trend and len(self._trend) > 1:
            self._paint_trend(painter, QRectF(self._least - PAD + GAP, top + 3, self.width() - self._least, base - top - 3))
        painter.end()

    def _paint_bar(self, painter: QPainter, y: float) -> None:
        width = self.width() - 2 * PAD
        painter.fillRect(QRectF(PAD, y, width, BAR), QColor(self.theme.absent))
        painter.fillRect(QRectF(PAD, y, width * min(1.0, self._share), BAR), QColor(self.theme.resident))

    def _paint_trend(self, painter: QPainter, box: QRectF) -> None:
        painter.setPen(QPen(QColor(self.theme.grid), 1))
        painter.drawLine(box.bottomLeft(), box.bottomRight())
        top = self._top or float(np.nanmax(self._trend)) or 1.0
        x = box.left() + np.arange(len(self._trend)) * (box.width() / (len(self._trend) - 1))
        y = box.bottom() - np.clip(self._trend / top, 0, 1) * box.height()
        line = QPolygonF([QPointF(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True) if b == b])
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(getattr(self.theme, self.trend_role)), 1.2))
        painter.drawPolyline(line)
