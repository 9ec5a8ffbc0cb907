"""The painted part of the expert grid: whole cells on whole pixels, axes, outlines, and where the mouse is.

The cells are composed as one array of pixels; nothing is drawn one cell at a time but captions in large cells.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, QSize, QSizeF, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontMetrics, QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from views.colors import argb, readable
from views.grid_marks import imprint, shape_of, stamp
from views.theme import Theme

FRAMED = 6  # device pixels: smaller cells have no gap and no frame, they are tinted whole
Cell = tuple[int, int]


def edges(count: int, room: int) -> np.ndarray:
    """Pixel positions of ``count`` cells' borders within ``room`` pixels, [count + 1].

    All cells are equally large unless that would waste more than a tenth of the room: then some are one pixel larger.
    """
    if count <= 0 or room <= 0:
        return np.zeros(max(count, 0) + 1, np.int64)
    size = room // count
    if size * count >= 0.9 * room:
        return np.arange(count + 1) * size
    return np.round(np.arange(count + 1) * room / count).astype(np.int64)


class GridCanvas(QWidget):
    """Shows ``fill`` and ``frame`` colours (u4 0xAARRGGBB, [L, E]) and reports (layer, expert) or None."""

    pointed = Signal(object)
    clicked = Signal(int, int)

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.theme = theme
        self.message = ""
        self.pinned: Cell | None = None
        self.hovered: Cell | None = None
        self._fill = self._frame = np.zeros((0, 0), np.uint32)
        self._captions: list[tuple[int, int, str, str]] = []
        self._marks = (np.zeros((0, 0), bool), np.zeros((0, 0), bool))
        self._pixels: QImage | None = None
        self._ground: QPixmap | None = None  # the base with the axes, which seldom change
        self._buffer = self._fill
        self._x = self._y = np.zeros(1, np.int64)  # borders in device pixels of the cells' area
        self._font = QFont(self.font())
        self._font.setPixelSize(10)
        self._widths: dict[str, int] = {}  # of captions, px
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName("Experts by layer")

    @property
    def shape(self) -> tuple[int, int]:
        return self._fill.shape  # type: ignore[return-value]

    def sizeHint(self) -> QSize:
        return QSize(480, 220)

    def minimumSizeHint(self) -> QSize:
        return QSize(180, 90)

    def set_cells(self, fill: np.ndarray, frame: np.ndarray) -> None:
        """Show other colours; where ``frame`` equals ``fill`` a cell has no frame."""
        if fill.shape != self._fill.shape:
            self._fill = fill
            self._place()
        self._fill, self._frame = fill, frame
        self._pixels = None
        self.update()

    def set_captions(self, captions: list[tuple[int, int, str, str]]) -> None:
        """(layer, expert, text, colour of the cell)."""
        self._captions = captions
        self.update()

    def set_marks(self, wrong: np.ndarray, right: np.ndarray) -> None:
        """Mark the experts that were predicted for nothing and rightly, bool [L, E]."""
        self._marks = wrong, right
        self._pixels = None
        self.update()

    def shape_of(self, right: bool) -> str:
        """What marks an expert that was predicted, rightly or not."""
        width, height = self._least()
        return shape_of(right, width / self.devicePixelRatioF(), height / self.devicePixelRatioF())

    def captions_fit(self) -> bool:
        """Cells are large enough for two or three digits."""
        layers, experts = self.shape
        metrics = QFontMetrics(self._font)
        ratio = self.devicePixelRatioF()
        return bool(layers and experts) and (
            self._y[1] / ratio >= metrics.height() + 3 and self._x[1] / ratio >= metrics.horizontalAdvance("100") + 4
        )

    def cell_at(self, point: QPointF) -> Cell | None:
        """The cell at a point of this widget."""
        area = self._area()
        ratio = self.devicePixelRatioF()
        x, y = (point.x() - area.left()) * ratio, (point.y() - area.top()) * ratio
        if not self._fill.size or not (0 <= x < self._x[-1] and 0 <= y < self._y[-1]):
            return None
        return int(np.searchsorted(self._y, y, side="right")) - 1, int(np.searchsorted(self._x, x, side="right")) - 1

    def cell_rect(self, cell: Cell) -> QRectF:
        """Where a cell is, in this widget."""
        area, ratio = self._area(), self.devicePixelRatioF()
        layer, expert = cell
        left, right, top, bottom = (float(value) / ratio for value in (*self._x[expert : expert + 2], *self._y[layer : layer + 2]))
        return QRectF(area.left() + left, area.top() + top, right - left, bottom - top)

    def _area(self) -> QRect:
        """Where cells can be: right of the layers' numbers, below the experts' numbers."""
        metrics = QFontMetrics(self._font)
        left = metrics.horizontalAdvance("expert ") + 2
        top = metrics.height() + 1
        return QRect(left, top, max(0, self.width() - left - 1), max(0, self.height() - top - 1))

    def _place(self) -> None:
        area, ratio = self._area(), self.devicePixelRatioF()
        self._ground = None
        self._y = edges(self.shape[0], int(area.height() * ratio))
        self._x = edges(self.shape[1], int(area.width() * ratio))
        self._pixels = None

    def _compose(self) -> QImage:
        """All cells as one image: fill, then frames, then gaps."""
        heights, widths = np.diff(self._y), np.diff(self._x)
        across = np.repeat(self._fill, widths, axis=1)  # [L, X]
        pixels = np.repeat(across, heights, axis=0)  # [Y, X]
        least = int(min(heights.min(), widths.min()))
        if least >= FRAMED:
            thick = 2 if least >= 14 else 1
            frame_across, frame_down = np.repeat(self._frame, widths, axis=1), np.repeat(self._frame, heights, axis=0)
            for inset in range(thick):
                for rows in (self._y[:-1] + inset, self._y[1:] - 2 - inset):
                    pixels[rows] = frame_across
            for inset in range(thick):
                for columns in (self._x[:-1] + inset, self._x[1:] - 2 - inset):
                    pixels[:, columns] = frame_down
            gap = argb(self.theme.base)
            pixels[self._y[1:] - 1] = gap
            pixels[:, self._x[1:] - 1] = gap
        self._imprint_marks(pixels)
        height, width = pixels.shape
        self._buffer = pixels  # the image does not own its pixels
        image = QImage(pixels.data, width, height, width * 4, QImage.Format.Format_RGB32)
        image.setDevicePixelRatio(self.devicePixelRatioF())
        return image

    def _imprint_marks(self, pixels: np.ndarray) -> None:
        width, height = self._least()
        for right, marked in enumerate(self._marks):
            layer, expert = np.nonzero(marked) if marked.shape == self.shape else ([], [])
            if len(layer) and (shape := self.shape_of(bool(right))):
                cover = stamp(shape, width, height, self.devicePixelRatioF())
                imprint(pixels, self._y[layer], self._x[expert], cover, self._fill[layer, expert])

    def _least(self) -> tuple[int, int]:
        """Width and height of the smallest cell, device px."""
        return tuple(int(np.diff(borders).min(initial=1 << 16)) for borders in (self._x, self._y))  # type: ignore[return-value]

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        if not self._fill.size:
            painter.fillRect(self.rect(), QColor(self.theme.base))
            painter.setPen(QColor(self.theme.muted))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect().adjusted(12, 8, -12, -8), flags, self.message)
            painter.end()
            return
        area = self._area()
        if self._ground is None:
            self._ground = self._lay_ground(area)
        painter.drawPixmap(0, 0, self._ground)
        if self._x[-1] and self._y[-1]:
            if self._pixels is None:
                self._pixels = self._compose()
            painter.drawImage(area.topLeft(), self._pixels)
            self._paint_captions(painter, area)
            self._outline(painter, self.pinned, 2)
            self._outline(painter, self.hovered, 1)
        if self.hasFocus():
            painter.setPen(QPen(QColor(self.theme.accent), 1))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        painter.end()

    def _paint_captions(self, painter: QPainter, area: QRect) -> None:
        """Each in the middle of its cell. Qt can align text too, but takes twice as long for it."""
        metrics, ratio = QFontMetrics(self._font), self.devicePixelRatioF()
        left = (area.left() - 0.5 + (self._x[:-1] + self._x[1:]) / (2 * ratio)).tolist()
        base = (area.top() - 0.5 + (self._y[:-1] + self._y[1:]) / (2 * ratio) + (metrics.ascent() - metrics.descent()) / 2).tolist()
        painter.setFont(self._font)
        for color, captions in groupby(sorted((readable(color), *rest) for *rest, color in self._captions), key=itemgetter(0)):
            painter.setPen(QColor(color))
            for _, layer, expert, text in captions:
                width = self._widths.get(text) or self._widths.setdefault(text, metrics.horizontalAdvance(text))
                painter.drawText(QPointF(round(left[expert] - width / 2), round(base[layer])), text)

    def _lay_ground(self, area: QRect) -> QPixmap:
        """The base with the axes on it."""
        ratio = self.devicePixelRatioF()
        ground = QPixmap((QSizeF(self.size()) * ratio).toSize())
        ground.setDevicePixelRatio(ratio)
        ground.fill(QColor(self.theme.base))
        if self._x[-1] and self._y[-1]:
            painter = QPainter(ground)
            painter.setFont(self._font)
            self._paint_axes(painter, area)
            painter.end()
        return ground

    def restyle(self, theme: Theme) -> None:
        self.theme, self._ground, self._pixels = theme, None, None
        self.update()

    def _outline(self, painter: QPainter, cell: Cell | None, width: int) -> None:
        """A ring around a cell that shows on any colour: the text's colour outside a ring of the background's."""
        if cell is None or not (0 <= cell[0] < self.shape[0] and 0 <= cell[1] < self.shape[1]):
            return
        rect = self.cell_rect(cell).adjusted(-1, -1, 0, 0)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(self.theme.text), width))
        painter.drawRect(rect.adjusted(-1, -1, 1, 1) if width > 1 else rect)

    def _paint_axes(self, painter: QPainter, area: QRect) -> None:
        metrics, ratio = QFontMetrics(self._font), self.devicePixelRatioF()
        painter.setPen(QColor(self.theme.muted))
        painter.drawText(QRect(2, 0, area.left() - 4, area.top()), Qt.AlignmentFlag.AlignLeft, "expert")
        title = metrics.horizontalAdvance("layer")
        if area.height() > title + 4:
            painter.save()
            painter.translate(metrics.ascent() + 1, area.top() + min(area.height(), self._y[-1] / ratio + title) / 2 + title / 2)
            painter.rotate(-90)
            painter.drawText(0, 0, "layer")
            painter.restore()
        layers, experts = self.shape
        step = _step(self._y[-1] / ratio / layers, metrics.height())
        for layer in range(0, layers, step):
            rect = self.cell_rect((layer, 0))
            middle = rect.center().y()
            place = QRectF(0, middle - metrics.height() / 2, area.left() - 4, metrics.height())
            painter.drawText(place, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, str(layer))
        step = _step(self._x[-1] / ratio / experts, metrics.horizontalAdvance(str(experts)) + 8)
        for expert in range(0, experts, step):
            middle = self.cell_rect((0, expert)).center().x()
            painter.drawText(QRectF(middle - 20, 0, 40, area.top()), Qt.AlignmentFlag.AlignHCenter, str(expert))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place()

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.DevicePixelRatioChange:
            self._place()
        return super().event(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self.pointed.emit(self.cell_at(event.position()))

    def leaveEvent(self, event: QEvent) -> None:
        self.pointed.emit(None)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        cell = self.cell_at(event.position())
        if cell and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit(*cell)


def _step(size: float, wanted: float) -> int:
    """Every how many cells a number fits."""
    step = 1
    while step * size < wanted and step < 1024:
        step *= 2
    return step
