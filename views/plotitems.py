"""What plots are made of: bars stacked in place, bands behind them, marks and labelled levels before them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPen

from views.theme import Theme

LABEL_GAP = 6


@dataclass(frozen=True)
class Band:
    """A stretch of x in a solid colour; with a text at its foot where there is room."""

    start: float
    end: float
    color: str
    text: str = ""


@dataclass(frozen=True)
class Level:
    """A height with a text: above it at the right, or below it at the left; and a line, unless the data draws that."""

    y: float
    text: str
    color: str
    below: bool = False
    bare: bool = False


class Bars(pg.BarGraphItem):
    """Bars without outlines, which need no room around them: pyqtgraph would ask for the size of a pixel at each look at their bounds."""

    def pixelPadding(self) -> float:
        return 0.0


class Stack:
    """Bars on top of each other, one item a component, created once."""

    def __init__(self, plot: pg.PlotItem, roles: tuple[str, ...], theme: Theme) -> None:
        self.roles = roles
        none = np.empty(0)
        self.items = [Bars(x0=none, x1=none, y0=none, y1=none, pen=None, brush=getattr(theme, role)) for role in roles]
        for item in self.items:
            plot.addItem(item, ignoreBounds=True)

    def set(self, x0: np.ndarray, x1: np.ndarray, parts: list[np.ndarray]) -> None:
        """Draw ``parts``, one [n] a component, bottom first."""
        floor = np.zeros(len(x0))
        for item, part in zip(self.items, parts, strict=True):
            top = floor + part
            item.setOpts(x0=x0, x1=x1, y0=floor, y1=top)
            floor = top

    def restyle(self, theme: Theme) -> None:
        for item, role in zip(self.items, self.roles, strict=True):
            item.setOpts(brush=getattr(theme, role))


class _ViewItem(pg.GraphicsObject):
    """An item as large as the view, which keeps out of its scaling."""

    def boundingRect(self) -> QRectF:
        view = self.getViewBox()
        return QRectF() if view is None else QRectF(view.viewRect())

    def viewTransformChanged(self) -> None:
        self.prepareGeometryChange()
        self.update()


class Bands(_ViewItem):
    """Ranges behind the data."""

    def __init__(self) -> None:
        super().__init__()
        self.setZValue(-100)
        self.bands: list[Band] = []
        self.ink = QColor()

    def set(self, bands: list[Band], ink: str) -> None:
        if bands != self.bands or self.ink != QColor(ink):
            self.bands, self.ink = bands, QColor(ink)
            self.update()

    def paint(self, painter: QPainter, *args: object) -> None:
        view, transform = self.boundingRect(), painter.worldTransform()
        for band in self.bands:
            start, end = max(band.start, view.left()), min(band.end, view.right())
            if end >= start:
                rect = transform.mapRect(QRectF(start, view.top(), end - start, view.height()))
                rect.setWidth(max(1.0, rect.width()))
                painter.resetTransform()
                painter.fillRect(rect, QColor(band.color))
                if band.text and painter.fontMetrics().horizontalAdvance(band.text) + 6 < rect.width():
                    painter.setPen(self.ink)
                    painter.drawText(rect, Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignVCenter, band.text)
                painter.setWorldTransform(transform)


class Marks(_ViewItem):
    """Vertical lines with texts at the top (newest first where they would collide), edges, and horizontal levels."""

    def __init__(self) -> None:
        super().__init__()
        self.setZValue(100)
        self.marks: list[tuple[float, str]] = []
        self.edges: list[tuple[float, str]] = []
        self.levels: list[Level] = []
        self.colors = (QColor(), QColor())

    def set(self, marks: list[tuple[float, str]], edges: list[tuple[float, str]], levels: list[Level], theme: Theme) -> None:
        colors = (QColor(theme.mark), QColor(theme.base))
        if (marks, edges, levels, colors) != (self.marks, self.edges, self.levels, self.colors):
            self.marks, self.edges, self.levels, self.colors = marks, edges, levels, colors
            self.update()

    def paint(self, painter: QPainter, *args: object) -> None:
        view, transform = self.boundingRect(), painter.worldTransform()
        frame = transform.mapRect(view)
        painter.resetTransform()
        painter.setRenderHint(QPainter.RenderHint.TextAntialiasing)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        for x, color in self.edges:
            if view.left() <= x <= view.right():
                _line(painter, transform.map(QPointF(x, 0)).x(), frame, QColor(color))
        for level in self.levels:
            self._level(painter, level, transform.map(QPointF(0, level.y)).y(), frame)
        # Where levels have hardly room for their own texts, marks are lines only: their tooltips tell.
        cramped = bool(self.levels) and frame.height() < 4 * painter.fontMetrics().height()
        marks = [(x, "" if cramped else text) for x, text in self.marks if view.left() <= x <= view.right()]
        places = [(transform.map(QPointF(x, 0)).x(), text) for x, text in marks]
        draw_marks(painter, places, frame, *self.colors)
        painter.setWorldTransform(transform)

    def _level(self, painter: QPainter, level: Level, y: float, frame: QRectF) -> None:
        if not frame.top() <= y <= frame.bottom():
            return
        painter.setPen(QPen(QColor(level.color), 1))
        if not level.bare:
            painter.drawLine(QPointF(frame.left(), y), QPointF(frame.right(), y))
        metrics = painter.fontMetrics()
        width = metrics.horizontalAdvance(level.text)
        below = level.below or y - metrics.height() < frame.top()
        # A level below hangs at the left, one above stands at the right: two close levels never cover each other's text.
        x = frame.left() + LABEL_GAP if level.below else frame.right() - width - LABEL_GAP
        plate = QRectF(x - 2, y + 2 if below else y - metrics.height() - 1, width + 4, metrics.height())
        painter.fillRect(plate, self.colors[1])
        painter.drawText(plate, Qt.AlignmentFlag.AlignCenter, level.text)


def _line(painter: QPainter, x: float, frame: QRectF, color: QColor) -> None:
    painter.setPen(QPen(color, 1))
    painter.drawLine(QPointF(round(x), frame.top()), QPointF(round(x), frame.bottom()))


def draw_marks(painter: QPainter, places: list[tuple[float, str]], frame: QRectF, color: QColor, plate: QColor) -> None:
    """Vertical lines at x, in device pixels, each with its text where that does not cover a newer one's."""
    metrics = painter.fontMetrics()
    free = frame.right()
    for x, text in sorted(places, reverse=True):
        _line(painter, x, frame, color)
        width = metrics.horizontalAdvance(text)
        left = min(x + 3, frame.right() - width - 3)
        if text and left + width + 3 <= free and left >= frame.left():
            box = QRectF(left - 1, frame.top() + 1, width + 3, metrics.height())
            painter.fillRect(box, QBrush(plate))
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)
            free = min(left, x) - LABEL_GAP


def binned(count: int, first: int, limit: int) -> tuple[np.ndarray, int]:
    """Where bins of k rows begin, so that ``count`` rows from row ``first`` on make at most about ``limit`` bars.

    Bins begin at multiples of k of the absolute row, so that they stay what they are while new rows arrive.
    """
    size = max(1, -(-count // limit))
    if size == 1:
        return np.arange(count), 1
    return np.unique(np.concatenate(([0], np.arange(-first % size, count, size)))).astype(np.int64), size
