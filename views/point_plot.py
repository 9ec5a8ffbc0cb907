"""The base of plots in which a point is chosen and told of: the theme's colours, a frame with the focus, pyqtgraph's mouse handling off."""

from __future__ import annotations

import pyqtgraph as pg
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFocusEvent, QPainter, QPen
from PySide6.QtWidgets import QWidget

from views.fonts import smaller
from views.theme import Theme

BESIDE = 10  # px from a point to what is told of it


class PointPlot(pg.PlotWidget):
    """``told`` is the box beside the chosen point; the concrete plot adds it over all else it draws."""

    def __init__(self, parent: QWidget, axis: pg.AxisItem, width: int) -> None:
        super().__init__(parent, axisItems={"left": axis}, enableMenu=False)
        plot = self.getPlotItem()
        plot.setMouseEnabled(False, False)
        plot.hideButtons()
        plot.showGrid(x=False, y=True, alpha=0.25)
        axis.setWidth(width)
        self.message = ""  # said in its midst while nothing is drawn
        self.told = pg.TextItem()
        self.told.setZValue(10)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.viewport().setMouseTracking(True)

    def place_told(self, text: str, x: float, y: float, left: bool, above: bool) -> None:
        """Write beside the point (x, y) of the plot, on the side asked for, and within it."""
        theme, box = self._theme, self.getPlotItem().getViewBox()
        self.told.setText(text)
        self.told.setColor(QColor(theme.text))
        self.told.textItem.setFont(smaller(self.font()))
        self.told.fill, self.told.border = pg.mkBrush(theme.raised), pg.mkPen(theme.border)
        size, at = self.told.textItem.boundingRect(), self.place_of(x, y)
        corner = QPointF(at.x() - size.width() - BESIDE if left else at.x() + BESIDE, at.y() - size.height() if above else at.y())
        corner = QPointF(
            min(max(0.0, corner.x()), box.width() - size.width()), min(max(0.0, corner.y()), box.height() - size.height())
        )  # fmt: skip
        self.told.setAnchor(((at.x() - corner.x()) / size.width(), (at.y() - corner.y()) / size.height()))
        self.told.setPos(x, y)

    def place_of(self, x: float, y: float) -> QPointF:
        """Where a point of the plot is within its axes, px from their upper left."""
        (left, right), (bottom, top) = self.getPlotItem().viewRange()
        box = self.getPlotItem().getViewBox()
        return QPointF((x - left) / (right - left) * box.width(), (top - y) / (top - bottom) * box.height())

    def restyle(self, theme: Theme) -> None:
        self._theme = theme
        self.setBackground(theme.base)
        for side in ("left", "bottom"):
            axis = self.getPlotItem().getAxis(side)
            axis.setPen(pg.mkPen(theme.border))
            axis.setTextPen(pg.mkPen(theme.muted))
            axis.setStyle(tickFont=smaller(self.font()))

    def drawForeground(self, painter: QPainter, rect: QRectF) -> None:
        super().drawForeground(painter, rect)
        painter.resetTransform()
        if self.message and not self.getPlotItem().isVisible():
            painter.setPen(QColor(self._theme.muted))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.viewport().rect().adjusted(12, 8, -12, -8), flags, self.message)
        if self.hasFocus():
            painter.setPen(QPen(QColor(self._theme.accent), 1))
            painter.drawRect(self.viewport().rect().adjusted(0, 0, -1, -1))

    def let_go(self) -> None:
        """Choose no point."""
        raise NotImplementedError

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.viewport().update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.let_go()
        self.viewport().update()
