"""Curves over budgets on a log scale, and the point on them that pointer or keys have chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QWidget

from engine.residency import DEFAULT
from engine.simulate.replay import ORACLE
from views.fonts import smaller
from views.point_plot import PointPlot
from views.theme import Theme

ROLES = {DEFAULT: "hit", "lru": "capacity", "edgemoe": "router", ORACLE: "text"}
STYLES = {DEFAULT: Qt.PenStyle.SolidLine, "lru": Qt.PenStyle.DashLine, "edgemoe": Qt.PenStyle.DotLine, ORACLE: Qt.PenStyle.DashDotLine}
HEADROOM = 1.18  # times the highest value: what the axis reaches to
SHARES = (6.25, 12.5, 25, 50, 100)  # percent that the axis names


class Line(NamedTuple):
    """A policy, the budgets in bytes at which it was replayed, in order, the value at each; ``between``: bytes and values known besides."""

    policy: str
    budgets: list[int]
    values: list[float]
    between: tuple[np.ndarray, np.ndarray] | None = None


class Point(NamedTuple):
    """One replay."""

    policy: str
    budget: int


class _ValueAxis(pg.AxisItem):
    """Values with their unit."""

    unit = ""

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        return [f"{value:g}{self.unit}" for value in values]


class BudgetPlot(PointPlot):
    """Pointing chooses the replay nearest to the pointer; so do the arrow keys. A click or Enter takes it, Esc lets go."""

    chosen = Signal()  # ``point`` is another
    taken = Signal()

    def __init__(self, parent: QWidget) -> None:
        self._axis = _ValueAxis("left")
        super().__init__(parent, self._axis, 50)
        self.point: Point | None = None
        self.home = Point(DEFAULT, 0)  # where keys begin: what is in force
        self.usable = True  # a click takes what it points at
        self._lines: list[Line] = []
        self._top = 1.0
        self._by_key = False
        plot = self.getPlotItem()
        self._items = {policy: plot.plot([], []) for policy in ROLES}
        self._dots = {policy: pg.ScatterPlotItem(size=4, pen=None) for policy in ROLES}
        self._marks = [pg.InfiniteLine(angle=90, label="", labelOpts={"anchors": [(0, 0.5), (0, 0.5)], "fill": None}) for _ in range(3)]
        self._cross, self._ring = pg.InfiniteLine(angle=90), pg.ScatterPlotItem(size=11)
        for dots in self._dots.values():
            plot.addItem(dots)
        for item in (*self._marks, self._cross, self._ring, self.told):
            plot.addItem(item, ignoreBounds=True)
            item.hide()
        self.setMinimumHeight(72)

    # --- what is drawn -------------------------------------------------------------------------------------------------

    def show_lines(self, lines: Sequence[Line], top: float, unit: str, theme: Theme) -> None:
        """Draw one line a policy, up to ``top``, in that unit."""
        self._axis.unit = unit
        self._lines, self._theme = list(lines), theme
        told = {line.policy: line for line in lines}
        for policy, item in self._items.items():
            line, color = told.get(policy), getattr(theme, ROLES[policy])
            x, y = np.array(line.budgets if line else [], float), np.array(line.values if line else [], float)
            self._dots[policy].setData(np.log2(x), y, brush=pg.mkBrush(color))
            if line is not None and line.between is not None:
                x, y = line.between
            item.setData(np.log2(x), y)
            item.setPen(pg.mkPen(color, width=1.6, style=STYLES[policy]))
        self._top = top
        self.setYRange(0, HEADROOM * top, padding=0)
        if self.point is not None and self._value(self.point) is None:
            self.let_go()

    def show_marks(self, budget: int, cycle: int, knee: int, full: int) -> None:
        """Where the session is, one token's cycle (under it LRU hits nothing), the knee, in bytes; and the shares of ``full`` below."""
        low, high = np.log2(full * 0.055), np.log2(full * 1.04)
        self.setXRange(low, high, padding=0)
        ticks = [(float(np.log2(full * share / 100)), f"{share:.3g}%") for share in SHARES]
        self.getPlotItem().getAxis("bottom").setTicks([[(x, text) for x, text in ticks if low <= x <= high]])
        where = ((budget, "you are here", "budget"), (cycle, "one token: LRU cliff", "capacity"), (knee, "knee", "muted"))
        font, taken, wide = smaller(self.font()), list[float](), max(1.0, self.getPlotItem().getViewBox().width())
        for mark, (size, text, role) in zip(self._marks, where, strict=True):
            x = float(np.log2(max(1, size)))
            mark.setVisible(bool(size > 0 and low <= x <= high))
            mark.setPos(x)
            color = getattr(self._theme, role)
            mark.setPen(pg.mkPen(color, width=1, style=Qt.PenStyle.SolidLine if role == "budget" else Qt.PenStyle.DashLine))
            mark.label.setFormat(text)
            mark.label.setColor(color)
            length = QFontMetrics(font).horizontalAdvance(text) / wide * (high - low)
            turned = x + length > high
            taken.append(self._room(x - length if turned else x, length, taken))
            mark.label.setPosition(taken[-1])
            mark.label.setFont(font)
            mark.label.setAnchor((1, 0.5) if turned else (0, 0.5))

    def tell(self, text: str) -> None:
        """Write beside the chosen point."""
        value = self._value(self.point) if self.point else None
        for item in (self._cross, self._ring, self.told):
            item.setVisible(value is not None)
        if self.point is None or value is None:
            return
        x, theme = float(np.log2(self.point.budget)), self._theme
        self._cross.setPos(x)
        self._cross.setPen(pg.mkPen(theme.accent, width=1))
        self._ring.setData([x], [value], pen=pg.mkPen(theme.accent, width=2), brush=pg.mkBrush(theme.base))
        # Curves rise: there is room above them to the left, below them to the right.
        (left, right), _ = self.getPlotItem().viewRange()
        turned = x > (left + right) / 2
        self.place_told(text, x, value, left=turned, above=turned)

    # --- the chosen point ----------------------------------------------------------------------------------------------

    def choose(self, point: Point | None) -> None:
        if point != self.point:
            self.point = point
            self.chosen.emit()

    def let_go(self) -> None:
        self._by_key = False
        self.choose(None)

    def _value(self, point: Point) -> float | None:
        line = next((line for line in self._lines if line.policy == point.policy), None)
        return line.values[line.budgets.index(point.budget)] if line and point.budget in line.budgets else None

    def _room(self, x: float, length: float, taken: list[float]) -> float:
        """The height (0..1) at which a text beside ``x`` is furthest from the curves, other than those ``taken``."""
        along = 2.0 ** (x + length * np.linspace(0, 1, 5))
        curves = [np.interp(along, line.budgets, line.values) / (HEADROOM * self._top) for line in self._lines if line.budgets]
        free = [height for height in (0.92, 0.75, 0.58, 0.41, 0.24, 0.08) if height not in taken]
        return max(free, key=lambda height: min((float(np.abs(curve - height).min()) for curve in curves), default=height))

    def _at(self, budget: int) -> list[tuple[float, Point]]:
        """Values at a budget, highest first."""
        told = [(self._value(Point(line.policy, budget)), Point(line.policy, budget)) for line in self._lines]
        return sorted(((value, point) for value, point in told if value is not None), key=lambda one: -one[0])

    def _nearest(self, place: QPointF) -> Point | None:
        """The replay nearest to a place of the viewport: by budget, then by value; None outside of the axes."""
        box = self.getPlotItem().getViewBox()
        scene = self.mapToScene(place.toPoint())
        budgets = sorted({budget for line in self._lines for budget in line.budgets})
        if not budgets or not box.sceneBoundingRect().contains(scene):
            return None
        pointed = box.mapSceneToView(scene)
        budget = min(budgets, key=lambda one: abs(np.log2(one) - pointed.x()))
        return min(self._at(budget), key=lambda one: abs(one[0] - pointed.y()))[1]

    # --- events --------------------------------------------------------------------------------------------------------

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        point = self._nearest(event.position())
        self._by_key = False
        self.choose(point)
        shape = Qt.CursorShape.PointingHandCursor if self.usable else Qt.CursorShape.CrossCursor
        self.viewport().setCursor(shape if point is not None else Qt.CursorShape.ArrowCursor)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.choose(self._nearest(event.position()))
            if self.point is not None:
                self.taken.emit()
        event.accept()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        event.accept()

    def leaveEvent(self, event: object) -> None:
        if not self._by_key:
            self.let_go()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = {Qt.Key.Key_Left: (-1, 0), Qt.Key.Key_Right: (1, 0), Qt.Key.Key_Up: (0, -1), Qt.Key.Key_Down: (0, 1)}
        if event.key() in steps and self._lines:
            self._step(*steps[Qt.Key(event.key())])
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.point is not None:
            self.taken.emit()
        elif event.key() == Qt.Key.Key_Escape and self.point is not None:
            self.let_go()
        else:
            event.ignore()
            return
        event.accept()

    def _step(self, sideways: int, down: int) -> None:
        """To the next budget of the curve, or the next curve at the budget; the first step shows where one is."""
        start = self.point or self._nearest_home()
        if self.point is not None and sideways:
            budgets = next(line.budgets for line in self._lines if line.policy == start.policy)
            place = budgets.index(start.budget) + sideways
            start = start._replace(budget=budgets[min(max(place, 0), len(budgets) - 1)])
        elif self.point is not None:
            others = [point for _, point in self._at(start.budget)]
            start = others[min(max(others.index(start) + down, 0), len(others) - 1)]
        self._by_key = True
        self.choose(start)

    def _nearest_home(self) -> Point:
        line = next((line for line in self._lines if line.policy == self.home.policy), self._lines[0])
        return Point(line.policy, min(line.budgets, key=lambda budget: abs(budget - self.home.budget)))
