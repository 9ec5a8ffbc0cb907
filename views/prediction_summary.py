"""Recall by layer as bars, and probability against what came true as a curve, side by side."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QHelpEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from views.fonts import smaller
from views.theme import Theme

HEIGHT = 104


class PredictionSummary(QWidget):
    """``tell`` gives it recall [L] (0..1, nan where nothing was predicted) and, by bins of probability, predictions told and come true."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.theme = theme
        self.recall, self.told, self.came, self.predictor = np.empty(0), np.empty(0), np.empty(0), ""
        self.setFont(smaller(self.font()))
        self.setFixedHeight(HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def tell(self, recall: np.ndarray, told: np.ndarray, came: np.ndarray, predictor: str) -> None:
        self.recall, self.told, self.came, self.predictor = recall, told, came, predictor
        self.update()

    def event(self, event: object) -> bool:
        if isinstance(event, QHelpEvent):
            QToolTip.showText(event.globalPos(), self._told_at(event.pos().x()), self)
            return True
        return bool(super().event(event))  # type: ignore[arg-type]

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(self.theme.base))
        bars, curve = self._boxes()
        self._head(painter, bars, "Recall by layer" + (f" · {self.predictor}" if self.predictor else ""))
        self._head(painter, curve, "Odds → came true")
        self._bars(painter, bars)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._curve(painter, curve)
        painter.end()

    def _boxes(self) -> tuple[QRectF, QRectF]:
        line, wide = self.fontMetrics().height(), min(self.width() * 0.4, 150.0)
        top, height = line + 6.0, self.height() - 2.0 * line - 8
        return QRectF(34, top, self.width() - wide - 62, height), QRectF(self.width() - wide - 8, top, wide, height)

    def _head(self, painter: QPainter, box: QRectF, text: str) -> None:
        painter.setPen(QColor(self.theme.muted))
        left = box.left() - 30 * (box.left() < 40)
        painter.drawText(QRectF(left, 2, box.width() + 30, self.fontMetrics().height()), Qt.AlignmentFlag.AlignLeft, text)

    def _bars(self, painter: QPainter, box: QRectF) -> None:
        for share in (0.0, 0.5, 1.0):
            y = box.bottom() - share * box.height()
            painter.setPen(QPen(QColor(self.theme.grid), 1))
            painter.drawLine(QPointF(box.left(), y), QPointF(box.right(), y))
            painter.setPen(QColor(self.theme.muted))
            beside = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRectF(0, y - 8, box.left() - 4, 16), beside, f"{share:.0%}")
        count = max(1, len(self.recall))
        step = box.width() / count
        for layer, share in enumerate(self.recall.tolist()):
            if share == share:
                height = share * box.height()
                bar = QRectF(box.left() + layer * step, box.bottom() - height, max(1.0, step - (1 if step > 3 else 0)), height)
                painter.fillRect(bar, QColor(self.theme.hit))
        every = max(1, -(-count * 26 // max(1, int(box.width()))))
        painter.setPen(QColor(self.theme.muted))
        for layer in range(0, count, every):
            place = QRectF(box.left() + layer * step - 14 + step / 2, box.bottom() + 1, 28, self.fontMetrics().height())
            painter.drawText(place, Qt.AlignmentFlag.AlignHCenter, str(layer))

    def _curve(self, painter: QPainter, box: QRectF) -> None:
        painter.setPen(QPen(QColor(self.theme.border), 1))
        painter.drawRect(box)
        painter.setPen(QPen(QColor(self.theme.muted), 1, Qt.PenStyle.DashLine))
        painter.drawLine(box.bottomLeft(), box.topRight())
        bins = len(self.told)
        most = float(self.told.max()) if bins and self.told.max() else 1.0
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self.theme.preloaded))
        for i in range(bins):
            if self.told[i] >= 5:
                x = box.left() + (i + 0.5) / bins * box.width()
                y = box.bottom() - self.came[i] / self.told[i] * box.height()
                radius = 2 + 3 * float(np.sqrt(self.told[i] / most))
                painter.drawEllipse(QPointF(x, y), radius, radius)
        painter.setPen(QColor(self.theme.muted))
        below = QRectF(box.left(), box.bottom() + 1, box.width(), self.fontMetrics().height())
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "0%")
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, "100%")

    def _told_at(self, x: float) -> str:
        bars, curve = self._boxes()
        if bars.left() <= x <= bars.right() and len(self.recall):
            layer = min(len(self.recall) - 1, int((x - bars.left()) / bars.width() * len(self.recall)))
            share = self.recall[layer]
            told = f"{share:.1%} of the experts chosen were among the k thought likeliest"
            return f"Layer {layer}: {told if share == share else 'not predicted'}"
        if curve.left() <= x <= curve.right() and len(self.told):
            i = min(len(self.told) - 1, int((x - curve.left()) / curve.width() * len(self.told)))
            count = int(self.told[i])
            came = f"{self.came[i] / count:.1%} of {count:,} came true" if count else "nothing was given such odds"
            return f"Odds of {i / len(self.told):.0%} to {(i + 1) / len(self.told):.0%}: {came}. On the dashed line odds are true"
        return "For the range selected, else the tokens shown"
