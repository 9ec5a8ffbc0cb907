"""The axes of the charts: values with few round ticks, and session time or token rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QLineF, QRectF, Qt
from PySide6.QtGui import QFont, QFontMetrics, QPainter

from views.timeaxis import second_ticks
from views.units import nice_ceiling

AXIS = 64  # px of every left axis, so that panels above each other line up
TICK = 3  # px, into the plot
BARE = 4  # px of a bottom axis without texts


class Axis(pg.AxisItem):
    """A line with ticks and texts, painted here: pyqtgraph measures and lays out anew at every change of range, at five times the cost."""

    def __init__(self, side: str, font: QFont) -> None:
        super().__init__(side)
        self.enableAutoSIPrefix(False)  # the texts name their units; with it, a new range does not ask for a repaint
        self.font = font
        self.metrics = QFontMetrics(font)
        self.texts = True

    def ticks(self, low: float, high: float, size: float) -> list[tuple[float, str]]:
        """Values and texts of the ticks from ``low`` to ``high`` on ``size`` px."""
        raise NotImplementedError

    def paint(self, painter: QPainter, *args: object) -> None:
        view = self.linkedView()
        if view is None:
            return
        box, plot = self.mapRectFromParent(self.geometry()), view.mapRectToItem(self, view.boundingRect())
        low, high = self.range
        upright = self.orientation == "left"
        size = plot.height() if upright else plot.width()
        ticks = self.ticks(low, high, size) if high > low and size > 0 else []
        scale = size / (high - low) if ticks else 0.0
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setPen(self.pen())
        if upright:
            x, places = box.right(), [plot.bottom() - (value - low) * scale for value, _ in ticks]
            lines = [QLineF(x, box.top(), x, box.bottom()), *(QLineF(x, y, x + TICK, y) for y in places)]
            boxes = [QRectF(box.left(), y - self.metrics.height() / 2, x - 4 - box.left(), self.metrics.height()) for y in places]
            align = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        else:
            y, places = box.top(), [plot.left() + (value - low) * scale for value, _ in ticks]
            lines = [QLineF(box.left(), y, box.right(), y), *(QLineF(x, y, x, y - TICK) for x in places)]
            boxes = [QRectF(x - 50, y + 2, 100, self.metrics.height()) for x in places]
            align = Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop
        painter.drawLines(lines)
        if self.texts:
            painter.setFont(self.font)
            painter.setPen(self.textPen())
            for where, (_, text) in zip(boxes, ticks, strict=True):
                painter.drawText(where, align, text)


class ValueAxis(Axis):
    """A left axis from 0 to a fixed top, with few round ticks. ``text`` writes a value; ``unit`` is that in which they are round."""

    def __init__(self, text: Callable[[float], str], font: QFont) -> None:
        super().__init__("left", font)
        self.text, self.unit = text, 1.0
        self.setWidth(AXIS)

    def ticks(self, low: float, high: float, size: float) -> list[tuple[float, str]]:
        top = high / 1.06 / self.unit
        step = nice_ceiling(top / max(1.0, min(5.0, size / 26)))
        if step > top:  # no room for more than one: the roundest value that can be shown
            step = max((s * 10.0 ** np.floor(np.log10(top)) for s in (1, 2, 5)), key=lambda s: s if s <= top else 0.0)
        return [(i * step * self.unit, self.text(i * step * self.unit)) for i in range(int(top / step + 1e-6) + 1)]


class BottomAxis(Axis):
    """Session time, or token rows."""

    def __init__(self, font: QFont) -> None:
        super().__init__("bottom", font)
        self.by_token = False
        self.setHeight(self.metrics.height() + 4)

    def ticks(self, low: float, high: float, size: float) -> list[tuple[float, str]]:
        count = max(2, int(size / 70))
        if not self.by_token:
            return list(zip(*second_ticks(low, high, count), strict=True))
        step = max(1, int(nice_ceiling((high - low) / count)))
        rows = range(-(-int(max(0, low)) // step) * step, int(high) + 1, step)
        return [(row + 0.5, f"token {row}") for row in rows if row + 0.5 <= high]

    def strip(self) -> None:
        """Leave out the texts: another axis below has them."""
        self.texts = False
        self.setHeight(BARE)
