"""A legend of swatches and scales with their words, in as many lines as it takes."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QEvent, QRect, QSize, Qt
from PySide6.QtGui import QColor, QHelpEvent, QImage, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from views.colors import argb
from views.grid_marks import CORNERED, stamp
from views.key import Key
from views.theme import Theme

SWATCH, SCALE, GAP, TIGHT = 11, 72, 12, 5


class KeyLegend(QWidget):
    """Paints ``keys``; its height follows its width."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.theme = theme
        self.keys: list[Key] = []
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def set_keys(self, keys: list[Key]) -> None:
        if keys != self.keys:
            self.keys = keys
            self.setAccessibleName("Legend: " + ", ".join(f"{key.before} {key.text}".strip() for key in keys))
            self.setFixedHeight(self.heightForWidth(self.width()))
            self.updateGeometry()
            self.update()

    def heightForWidth(self, width: int) -> int:
        return self._places(width)[-1].bottom() + 1 if self.keys else self.fontMetrics().height()

    def sizeHint(self) -> QSize:
        width = self._places(10_000)[-1].right() + 1 if self.keys else 100
        return QSize(width, self.heightForWidth(width))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.setFixedHeight(self.heightForWidth(self.width()))

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent):
            for key, place in zip(self.keys, self._places(self.width()), strict=True):
                if key.help and place.contains(event.pos()):
                    QToolTip.showText(event.globalPos(), key.help, self)
                    return True
            QToolTip.hideText()
        return super().event(event)

    def minimumSizeHint(self) -> QSize:
        return QSize(80, self.fontMetrics().height() + 2)

    def _widths(self, key: Key) -> tuple[int, int, int]:
        """Of the words before, the colours, the words after."""
        metrics = self.fontMetrics()
        before = metrics.horizontalAdvance(key.before) + 4 if key.before else 0
        return before, SCALE if len(key.colors) > 1 else SWATCH, metrics.horizontalAdvance(key.text) + 4

    def _places(self, width: int) -> list[QRect]:
        height = self.fontMetrics().height() + 2
        widths = [sum(self._widths(key)) for key in self.keys]
        tight = GAP > (width - sum(widths)) / max(1, len(widths) - 1) >= TIGHT  # one line, if it is a matter of the gaps
        x = y = 0
        places = []
        for wide in widths:
            if x and x + wide > width:
                x, y = 0, y + height
            places.append(QRect(x, y, wide, height))
            x += wide + (TIGHT if tight else GAP)
        return places

    def _shape(self, key: Key) -> QImage:
        ratio = self.devicePixelRatioF()
        side = round(SWATCH * ratio)
        # As in a cell twice as large, of which the upper right is to be seen, for marks that lie in a corner.
        cover = stamp(key.mark, 2 * side, 2 * side, ratio)[:side, side:] if key.mark in CORNERED else stamp(key.mark, side, side, ratio)
        alpha = np.round(255 * cover).astype(np.uint32)
        pixels = alpha << np.uint32(24) | np.uint32(argb(key.colors[0]) & 0xFFFFFF)
        image = QImage(pixels.tobytes(), side, side, 4 * side, QImage.Format.Format_ARGB32).copy()
        image.setDevicePixelRatio(ratio)
        return image

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        for key, place in zip(self.keys, self._places(self.width()), strict=True):
            before, colors, _ = self._widths(key)
            painter.setPen(QColor(self.theme.muted))
            painter.drawText(place, Qt.AlignmentFlag.AlignVCenter, key.before)
            box = QRect(place.left() + before, place.center().y() - SWATCH // 2, colors, SWATCH)
            if key.mark:
                painter.drawImage(box.topLeft(), self._shape(key))
            elif key.frame:
                painter.setPen(QColor(key.colors[0]))
                painter.drawRect(box.adjusted(0, 0, -1, -1))
                painter.drawRect(box.adjusted(1, 1, -2, -2))
            else:
                for index, color in enumerate(key.colors):
                    left, right = (box.left() + box.width() * place // len(key.colors) for place in (index, index + 1))
                    painter.fillRect(QRect(left, box.top(), right - left, box.height()), QColor(color))
                painter.setPen(QColor(self.theme.border))
                painter.drawRect(box.adjusted(0, 0, -1, -1))
            painter.setPen(QColor(self.theme.text))
            painter.drawText(place.adjusted(before + colors + 4, 0, 4, 0), Qt.AlignmentFlag.AlignVCenter, key.text)
        painter.end()
