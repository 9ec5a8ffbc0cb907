"""Plots above each other: what each consists of, and the widget that holds them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QFontMetrics

from views.fonts import smaller
from views.navigator import Navigable, Navigator
from views.plotaxes import AXIS, BottomAxis, ValueAxis
from views.plotitems import Bands, Marks, Stack
from views.theme import Theme
from views.units import nice_ceiling


class Row:
    """One plot of a panel: fixed ranges, its bands and marks, and the stacks and curves that the panel adds."""

    def __init__(self, plot: pg.PlotItem, axis: ValueAxis, bottom: BottomAxis, first: bool) -> None:
        self.plot, self.axis, self.bottom, self.first = plot, axis, bottom, first
        self.top = 0.0
        self.stacks: list[Stack] = []
        self.curves: list[tuple[pg.PlotCurveItem, str]] = []
        self.bands, self.marks = Bands(), Marks()
        plot.addItem(self.bands, ignoreBounds=True)
        plot.addItem(self.marks, ignoreBounds=True)

    def add_stack(self, roles: tuple[str, ...], theme: Theme) -> Stack:
        self.stacks.append(Stack(self.plot, roles, theme))
        return self.stacks[-1]

    def add_curve(self, role: str, theme: Theme) -> pg.PlotCurveItem:
        curve = pg.PlotCurveItem(pen=pg.mkPen(getattr(theme, role), width=1), connect="finite", skipFiniteCheck=False)
        self.plot.addItem(curve, ignoreBounds=True)
        self.curves.append((curve, role))
        return curve

    def fit_label(self, length: int) -> None:
        """Show the axis' label where its ``length`` px fit beside the plot; the legend names the series anyway."""
        fits = self.plot.getViewBox().height() >= length
        if fits != self.axis.label.isVisible():
            self.axis.showLabel(fits)

    def scale(self, value: float, unit: float = 1.0, exact: bool = False) -> None:
        """Let the axis reach from 0 to about ``value``: at once where that is more, only when it is much less otherwise."""
        value = value if np.isfinite(value) and value > 0 else unit
        self.axis.unit = unit
        if exact or value > self.top or value < 0.45 * self.top:
            top = value if exact else unit * nice_ceiling(value / unit, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10))
            if top != self.top:
                self.top = top
                self.plot.setYRange(0, top * 1.06, padding=0)

    def restyle(self, theme: Theme) -> None:
        for stack in self.stacks:
            stack.restyle(theme)
        for curve, role in self.curves:
            curve.setPen(pg.mkPen(getattr(theme, role), width=1))
        for axis in (self.axis, self.bottom):
            axis.setPen(pg.mkPen(theme.border))
            axis.setTextPen(pg.mkPen(theme.muted))
        self.plot.getViewBox().setBackgroundColor(theme.base)


class Canvas(Navigable, pg.GraphicsLayoutWidget):
    """The plots of a panel. pyqtgraph's own mouse handling is off."""

    def __init__(self, navigator: Navigator) -> None:
        super().__init__()
        self.navigator = navigator
        self.rows: list[Row] = []
        self.small = smaller(self.font())
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.viewport().setMouseTracking(True)
        self.setMinimumSize(80, 40)
        self.setFrameShape(pg.QtWidgets.QFrame.Shape.NoFrame)

    def add_row(self, label: str, text: Callable[[float], str], stretch: int) -> Row:
        """Another plot below; ``text`` writes a value of its axis."""
        axis, bottom = ValueAxis(text, self.small), BottomAxis(self.small)
        layout = self.ci
        plot = layout.addPlot(row=len(self.rows), col=0, axisItems={"left": axis, "bottom": bottom}, enableMenu=False)
        plot.setMouseEnabled(False, False)
        plot.hideButtons()
        for unseen in ("top", "right"):
            plot.getAxis(unseen).unlinkFromView()  # else it is laid out anew at every change of range
        plot.getViewBox().disableAutoRange()
        plot.getViewBox().setDefaultPadding(0)
        axis.setLabel(label, **{"font-size": f"{self.small.pointSizeF():g}pt"})
        layout.layout.setRowStretchFactor(len(self.rows), stretch)
        layout.layout.setContentsMargins(2, 2, 10, 2)
        layout.layout.setVerticalSpacing(2)
        for row in self.rows:
            row.bottom.strip()
        self.rows.append(Row(plot, axis, bottom, first=not self.rows))
        return self.rows[-1]

    def show_x(self, low: float, high: float) -> None:
        """Let all plots reach from ``low`` to ``high``."""
        metrics = QFontMetrics(self.small)
        for row in self.rows:
            row.plot.setXRange(low, high, padding=0)
            row.fit_label(metrics.horizontalAdvance(row.axis.labelText))

    @property
    def span(self) -> float:
        return self.width() - AXIS
