"""Loss against bytes: plans that were measured, with error bars, the curve that is estimated, and the tolerance, a line to drag."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QWidget

from views.fonts import smaller
from views.point_plot import PointPlot

SYMBOLS = {"uniform": "s", "fast": "o", "paper": "t1", "hand": "d"}
"""Of each method; colours tell no more than these shapes do."""
NAMES = {"uniform": "one width", "fast": "fast estimate", "paper": "paper's two widths", "hand": "by hand"}
TOLERANCES = (0.0005, 0.3)
"""Least and most that can be asked for."""
GRIP = 6  # px beside the line of the tolerance within which it is taken
LABEL = 48  # px that a size takes below the axis
REACH = 14  # px from a mark within which it is meant
TICKS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Spot(NamedTuple):
    """One measured plan: ``size`` in bytes, ``value`` between ``low`` and ``high``, and the words that name it."""

    plan: bytes
    method: str
    size: int
    value: float
    low: float
    high: float
    name: str
    color: str


class _Axis(pg.AxisItem):
    """Values on a scale that is even around 0 and logarithmic far from it: losses of 8 bits and of 2 are seen at once."""

    def __init__(self, side: str) -> None:
        super().__init__(side)
        self.bend, self.percent = 0.002, True

    def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
        places, last = [], -math.inf
        for tick in TICKS:
            place = bent(tick * self.bend / 0.002, self.bend)
            if low <= place <= high and (place - last) * size / max(high - low, 1e-9) > 15:
                places.append(place)
                last = place
        return [(1.0, places)]

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        plain = [self.bend * math.sinh(value) for value in values]
        return [f"{100 * value:.3g}%" if self.percent else f"{value:.2g}" for value in plain]


def bent(value: float, bend: float) -> float:
    """Where a value stands on the axis."""
    return math.asinh(value / bend)


class ParetoPlot(PointPlot):
    """A click takes the plan of the nearest mark; dragging the line asks for another tolerance. Keys: arrows walk along the marks, Enter
    takes, + and − move the tolerance."""

    chosen = Signal()  # ``spot`` is another
    taken = Signal(bytes)
    tolerated = Signal(float, bool)  # the tolerance, and whether the mouse let go of it

    def __init__(self, parent: QWidget) -> None:
        self._axis = _Axis("left")
        super().__init__(parent, self._axis, 46)
        self.spot: Spot | None = None
        self.tolerance: float | None = None
        self._spots: list[Spot] = []
        self._draft: tuple[int, float] | None = None
        self._held = False
        plot = self.getPlotItem()
        self._bars, self._curve = pg.ErrorBarItem(), pg.PlotCurveItem()
        self._marks, self._ring, self._now = pg.ScatterPlotItem(), pg.ScatterPlotItem(size=15), pg.ScatterPlotItem(size=13, symbol="x")
        self._line = pg.InfiniteLine(angle=0, label="", labelOpts={"position": 0.98, "anchors": [(1, 1), (1, 1)], "fill": None})
        self._names: list[pg.TextItem] = []
        for item in (self._curve, self._bars, self._line, self._marks, self._now, self._ring, self.told):
            plot.addItem(item, ignoreBounds=True)
        self.message = "Measured plans appear here, by bytes and loss."
        self.setMinimumSize(140, 90)

    # --- what is drawn -------------------------------------------------------------------------------------------------

    def show_spots(self, spots: Sequence[Spot], curve: Sequence[tuple[int, float]], percent: bool) -> None:
        """Draw measured plans and the estimated ``curve`` (bytes, loss); ``percent`` of perplexity, else KL in nats a token."""
        self._spots = sorted(spots, key=lambda spot: spot.size)
        self._axis.bend, self._axis.percent = (0.002, True) if percent else (0.0002, False)
        theme = self._theme
        x = np.log2([float(spot.size) for spot in self._spots])
        y, low, high = (np.array([self._y(getattr(spot, name)) for spot in self._spots]) for name in ("value", "low", "high"))
        self._bars.setData(x=x, y=y, bottom=y - low, top=high - y, beam=0.02, pen=pg.mkPen(theme.muted))
        self._marks.setData([
            {"pos": (px, py), "symbol": SYMBOLS[spot.method], "size": 8, "brush": pg.mkBrush(spot.color), "pen": pg.mkPen(theme.base)}
            for px, py, spot in zip(x, y, self._spots, strict=True)
        ])  # fmt: skip
        self._curve.setData(np.log2([float(size) for size, _ in curve]), np.array([self._y(loss) for _, loss in curve]))
        self._curve.setPen(pg.mkPen(theme.accent, width=1.4, style=Qt.PenStyle.DashLine))
        self._name_uniform()
        self.getPlotItem().setVisible(bool(self._spots))  # no axes of nothing
        self._fit()
        if self.spot is not None and self.spot not in self._spots:
            self.choose(None)

    def show_tolerance(self, tolerance: float | None) -> None:
        """Where the line is; None for none."""
        self.tolerance = tolerance
        self._line.setVisible(tolerance is not None and self._axis.percent)
        if tolerance is not None:
            self._line.setPos(self._y(tolerance))
            self._line.setPen(pg.mkPen(self._theme.budget, width=1, style=Qt.PenStyle.DashLine))
            self._line.label.setFormat(f"tolerated: {tolerance:.2%}")
            self._line.label.setColor(self._theme.budget)
            self._line.label.setFont(smaller(self.font()))

    def show_draft(self, draft: tuple[int, float] | None, now: tuple[int, float] | None) -> None:
        """Ring the draft, and cross the plan in force: bytes and loss of each."""
        theme = self._theme
        for item, place, pen in ((self._ring, draft, pg.mkPen(theme.accent, width=2)), (self._now, now, pg.mkPen(theme.text, width=1))):
            item.setVisible(place is not None)
            if place is not None:
                item.setData([math.log2(place[0])], [self._y(place[1])], pen=pen, brush=None)

    def tell(self, text: str) -> None:
        """Write beside the chosen mark."""
        self.told.setVisible(self.spot is not None)
        if self.spot is not None:
            # Losses fall with bytes: there is room above to the right, below to the left.
            x, y = math.log2(self.spot.size), self._y(self.spot.value)
            (left, right), _ = self.getPlotItem().viewRange()
            turned = x > (left + right) / 2
            self.place_told(text, x, y, left=turned, above=not turned)

    def _y(self, value: float) -> float:
        return bent(value, self._axis.bend)

    def _fit(self) -> None:
        """Round sizes on the axis below; room for the error bars."""
        if not self._spots:
            return
        sizes = [spot.size for spot in self._spots]
        low, high = math.log2(min(sizes)) - 0.12, math.log2(max(sizes)) + 0.15
        self.setXRange(low, high, padding=0)
        top = max(max(spot.high for spot in self._spots), 5 * self._axis.bend)
        self.setYRange(self._y(min(0.0, *(spot.low for spot in self._spots))) - 0.15, self._y(top) + 0.25, padding=0)
        unit = 1e9 if max(sizes) >= 2e9 else 1e6
        steps = [step * 10.0**power for power in range(-1, 5) for step in (1, 1.5, 2, 3, 5, 7)]
        places = [(math.log2(step * unit), f"{step:g} {'GB' if unit == 1e9 else 'MB'}") for step in steps]
        apart, shown = LABEL * (high - low) / max(1.0, self.getPlotItem().getViewBox().width()), list[tuple[float, str]]()
        for x, text in places:
            if low <= x <= high and (not shown or x - shown[-1][0] >= apart):
                shown.append((x, text))
        self.getPlotItem().getAxis("bottom").setTicks([shown])

    def _name_uniform(self) -> None:
        """The bits beside each uniform width."""
        uniform = [spot for spot in self._spots if spot.method == "uniform"]
        while len(self._names) < len(uniform):
            self._names.append(pg.TextItem(anchor=(0.5, 1.25)))
            self.getPlotItem().addItem(self._names[-1], ignoreBounds=True)
        for number, name in enumerate(self._names):
            name.setVisible(number < len(uniform))
            if number < len(uniform):
                spot = uniform[number]
                name.setText(str(spot.plan[0]))
                name.setColor(QColor(self._theme.text))
                name.textItem.setFont(smaller(self.font()))
                name.setPos(math.log2(spot.size), self._y(spot.high))

    # --- pointing ------------------------------------------------------------------------------------------------------

    def choose(self, spot: Spot | None) -> None:
        if spot != self.spot:
            self.spot = spot
            self.chosen.emit()

    def let_go(self) -> None:
        self.choose(None)

    def _nearest(self, place: QPointF) -> Spot | None:
        """The mark at a place of the viewport."""
        box = self.getPlotItem().getViewBox()
        best: tuple[float, Spot] | None = None
        for spot in self._spots:
            point = self.mapFromScene(box.mapViewToScene(QPointF(math.log2(spot.size), self._y(spot.value))))
            distance = math.hypot(point.x() - place.x(), point.y() - place.y())
            if distance <= REACH and (best is None or distance < best[0]):
                best = distance, spot
        return best[1] if best else None

    def _tolerance_at(self, place: QPointF) -> float:
        box = self.getPlotItem().getViewBox()
        y = box.mapSceneToView(self.mapToScene(place.toPoint())).y()
        return min(max(self._axis.bend * math.sinh(y), TOLERANCES[0]), TOLERANCES[1])

    def _on_line(self, place: QPointF) -> bool:
        if self.tolerance is None or not self._line.isVisible():
            return False
        box = self.getPlotItem().getViewBox()
        line = self.mapFromScene(box.mapViewToScene(QPointF(0, self._y(self.tolerance)))).y()
        return abs(line - place.y()) <= GRIP

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._held:
            self.tolerated.emit(self._tolerance_at(event.position()), False)
            return
        spot = self._nearest(event.position())
        self.choose(spot)
        shape = Qt.CursorShape.ArrowCursor
        if spot is not None:
            shape = Qt.CursorShape.PointingHandCursor
        elif self._on_line(event.position()):
            shape = Qt.CursorShape.SizeVerCursor
        self.viewport().setCursor(shape)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            spot = self._nearest(event.position())
            if spot is not None:
                self.taken.emit(spot.plan)
            elif self._on_line(event.position()):
                self._held = True
        event.accept()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._held:
            self._held = False
            self.tolerated.emit(self._tolerance_at(event.position()), True)
        event.accept()

    def leaveEvent(self, event: object) -> None:
        if not self.hasFocus():
            self.choose(None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = event.key()
        if key in (Qt.Key.Key_Left, Qt.Key.Key_Right) and self._spots:
            at = self._spots.index(self.spot) + (1 if key == Qt.Key.Key_Right else -1) if self.spot in self._spots else 0
            self.choose(self._spots[min(max(at, 0), len(self._spots) - 1)])
        elif key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.spot is not None:
            self.taken.emit(self.spot.plan)
        elif key in (Qt.Key.Key_Plus, Qt.Key.Key_Minus, Qt.Key.Key_Up, Qt.Key.Key_Down) and self.tolerance is not None:
            more = key in (Qt.Key.Key_Plus, Qt.Key.Key_Up)
            self.tolerated.emit(min(max(self.tolerance * (1.1 if more else 1 / 1.1), TOLERANCES[0]), TOLERANCES[1]), True)
        elif key == Qt.Key.Key_Escape and self.spot is not None:
            self.choose(None)
        else:
            event.ignore()
            return
        event.accept()
