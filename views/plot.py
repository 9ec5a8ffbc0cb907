"""The base of the chart panels: plots above each other on one time axis, a legend that reads out, marks, ranges and hover."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QFont, QFontMetrics, QKeyEvent, QMouseEvent, QWheelEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QStackedLayout, QToolButton, QVBoxLayout, QWidget

from engine.events import Phase
from engine.recording.recording import Recording
from views.colors import mix
from views.legend import Legend
from views.navigator import Navigator
from views.plotitems import Band, Bands, Level, Marks, Stack, binned
from views.selection import Selection
from views.theme import Theme
from views.timeaxis import Window, bounds, rows_within, second_ticks, token_ends, token_window
from views.timepanel import TimePanel
from views.tuning_model import TuningModel

AXIS = 64  # px of every left axis, so that panels above each other line up
BARS = 400  # more tokens than this are drawn as means of neighbours
FEWEST = 12  # tokens: charts of one value a token show no less around a narrow view


class ValueAxis(pg.AxisItem):
    """A left axis from 0 to a fixed top, with few round ticks."""

    def __init__(self, text: Callable[[float], str]) -> None:
        super().__init__("left")
        self.text, self.unit = text, 1.0

    def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
        top = high / 1.06 / self.unit
        step = round_up(top / max(1.0, min(5.0, size / 26)), (1, 2, 5, 10))
        if step > top:  # no room for more than one: the roundest value that can be shown
            step = max((s * 10.0 ** np.floor(np.log10(top)) for s in (1, 2, 5)), key=lambda s: s if s <= top else 0.0)
        return [(step * self.unit, [i * step * self.unit for i in range(int(top / step + 1e-6) + 1)])]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        return [self.text(value) for value in values]


class BottomAxis(pg.AxisItem):
    """Session time, or token rows."""

    def __init__(self) -> None:
        super().__init__("bottom")
        self.by_token = False

    def tickValues(self, low: float, high: float, size: float) -> list[tuple[float, list[float]]]:
        count = max(2, int(size / 90))
        if not self.by_token:
            self._texts = dict(zip(*second_ticks(low, high, count), strict=True))
            return [(1.0, list(self._texts))]
        step = max(1, int(round_up((high - low) / count, (1, 2, 5, 10))))
        rows = range(-(-int(max(0, low)) // step) * step, int(high) + 1, step)
        self._texts = {row + 0.5: f"token {row}" for row in rows}
        return [(1.0, list(self._texts))]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        return [self._texts.get(value, "") for value in values]


class Row:
    """One plot of a panel: fixed ranges, its bands and marks, and the stacks and curves that the panel adds."""

    def __init__(self, plot: pg.PlotItem, axis: ValueAxis, theme: Theme, first: bool) -> None:
        self.plot, self.axis, self.first = plot, axis, first
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
            top = value if exact else unit * round_up(value / unit, (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10))
            if top != self.top:
                self.top = top
                self.plot.setYRange(0, top * 1.06, padding=0)

    def restyle(self, theme: Theme) -> None:
        for stack in self.stacks:
            stack.restyle(theme)
        for curve, role in self.curves:
            curve.setPen(pg.mkPen(getattr(theme, role), width=1))
        for axis in (self.axis, self.plot.getAxis("bottom")):
            axis.setPen(pg.mkPen(theme.border))
            axis.setTextPen(pg.mkPen(theme.muted))
        self.plot.getViewBox().setBackgroundColor(theme.base)


class Canvas(pg.GraphicsLayoutWidget):
    """The plots of a panel. All events go to the navigator; pyqtgraph's own mouse handling is off."""

    def __init__(self, panel: ChartPanel) -> None:
        super().__init__()
        self.navigator: Navigator = panel.navigator
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.viewport().setMouseTracking(True)
        self.setMinimumSize(80, 40)
        self.setFrameShape(pg.QtWidgets.QFrame.Shape.NoFrame)

    def wheelEvent(self, event: QWheelEvent) -> None:
        self.navigator.wheel(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self.navigator.press(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self.navigator.move(event, self.width() - AXIS)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self.navigator.release(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.navigator.fit()

    def leaveEvent(self, event: object) -> None:
        self.navigator.leave()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not self.navigator.key(event):
            event.ignore()


class ChartPanel(TimePanel):
    """Concrete charts add rows in ``build``, and draw in ``refresh`` what lies in ``self.low`` … ``self.high`` (token rows)."""

    every = 3  # ten times a second: a chart is read, not watched for flashes
    hint = "Run a prompt to see this."
    fewest = FEWEST

    def __init__(
        self, recording: Recording, selection: Selection, settings: TuningModel, theme: Theme, parent: QWidget | None = None
    ) -> None:
        super().__init__(recording, selection, settings, theme, parent)
        self.rows: list[Row] = []
        self.by_token = False
        self.low = self.high = 0
        self._shown = 0.0, 1.0
        self._prefills: list[Band] = []
        self._small = QFont(self.font())
        self._small.setPointSizeF(max(7.0, self.font().pointSizeF() - 1))
        self.legend = Legend(theme)
        self.menu_button = self._menu()
        header = QHBoxLayout()
        header.setContentsMargins(8, 4, 4, 2)
        header.setSpacing(6)
        header.addWidget(self.legend, 1, Qt.AlignmentFlag.AlignTop)
        header.addWidget(self.menu_button, 0, Qt.AlignmentFlag.AlignTop)
        self.canvas = Canvas(self)
        self.body = QVBoxLayout()
        self.body.setContentsMargins(0, 0, 0, 0)
        self.body.setSpacing(0)
        self.body.addLayout(header)
        self.body.addWidget(self.canvas, 1)
        full, self._empty = QWidget(), QLabel(self.hint)
        full.setLayout(self.body)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._empty.setWordWrap(True)
        self._empty.setMargin(16)
        self._pages = QStackedLayout(self)
        self._pages.addWidget(self._empty)
        self._pages.addWidget(full)
        self.build()
        self._style()

    # --- for concrete charts ---------------------------------------------------------------------------------------------

    def add_row(self, label: str, text: Callable[[float], str], stretch: int = 1) -> Row:
        """Another plot below; ``text`` writes a value of its axis."""
        axis = ValueAxis(text)
        bottom = BottomAxis()
        layout = self.canvas.ci
        plot = layout.addPlot(row=len(self.rows), col=0, axisItems={"left": axis, "bottom": bottom})
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(False, False)
        plot.hideButtons()
        plot.getViewBox().disableAutoRange()
        plot.getViewBox().setDefaultPadding(0)
        for each in (axis, bottom):
            each.enableAutoSIPrefix(False)  # it lays the label out anew at every change of range
        axis.setWidth(AXIS)
        axis.setStyle(tickFont=self._small, tickLength=-3, tickTextOffset=4)
        axis.setLabel(label, **{"font-size": f"{self._small.pointSizeF():g}pt"})
        bottom.setStyle(tickFont=self._small, tickLength=-3, tickTextOffset=2)
        layout.layout.setRowStretchFactor(len(self.rows), stretch)
        layout.layout.setContentsMargins(2, 2, 10, 2)
        layout.layout.setVerticalSpacing(2)
        for row in self.rows:
            row.plot.getAxis("bottom").setStyle(showValues=False)
            row.plot.getAxis("bottom").setHeight(4)
        self.rows.append(Row(plot, axis, self.theme, first=not self.rows))
        return self.rows[-1]

    def draw(self) -> None:
        """Draw token rows ``self.low`` … ``self.high``, and the figures in the legend."""
        raise NotImplementedError

    def figures(self) -> None:
        """Write the legend: for the hovered token, the selected range, or what is shown."""

    def levels(self, row: Row) -> list[Level]:
        """The horizontal lines of a row."""
        return []

    def background(self) -> list[Band]:
        """Bands that belong to the data, under those of the selection."""
        return list(self._prefills)

    def has_data(self) -> bool:
        return len(self.recording.tokens) > 0

    # --- one value a token -----------------------------------------------------------------------------------------------

    def decode_bars(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The decode tokens shown: their rows of ``tokens``, left and right x, [n] each. The prefills become bands."""
        rows = self.recording.tokens.rows(self.low, self.high)
        x0, x1 = self.edges(self.low, self.high)
        prefill = rows["phase"] == Phase.PREFILL
        color = mix(self.theme.base, self.theme.text, 0.08)
        self._prefills = [Band(float(x0[i]), float(x1[i]), color, "prefill") for i in np.flatnonzero(prefill)]
        return rows[~prefill], x0[~prefill], x1[~prefill]

    def means(self, x0: np.ndarray, x1: np.ndarray, parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """The same bars, or the means of neighbours where there are too many to be told apart."""
        begins, size = binned(len(x0), self.low, BARS)
        if size == 1:
            return x0, x1, parts
        ends = np.append(begins[1:], len(x0))
        return x0[begins], x1[ends - 1], [np.add.reduceat(part, begins) / (ends - begins) for part in parts]

    def scope(self) -> tuple[str, np.ndarray]:
        """What the legend's figures are of, and these rows of ``tokens``: the token pointed at (of any phase), else the decode tokens
        of the range, else those shown."""
        table, token = self.recording.tokens, self.selection.hover_token
        if token is not None and token < len(table):
            rows = table.rows(token, token + 1)
            return f"token {token}" + (" (prefill)" if rows["phase"][0] == Phase.PREFILL else ""), rows
        span = self.range()
        low, high = (self.low, self.high) if span is None else rows_within(self.recording, span)
        rows = table.rows(low, high)
        rows = rows[rows["phase"] == Phase.DECODE]
        return f"{'mean of' if span is None else 'range:'} {len(rows)} token{'s' * (len(rows) != 1)}", rows

    # --- x ---------------------------------------------------------------------------------------------------------------

    def x_of(self, times: np.ndarray | int) -> np.ndarray:
        """Session times (ns) as x: seconds, or rows where the axis counts tokens."""
        if not self.by_token:
            return np.asarray(times) / 1e9
        starts = self.recording.tokens.column("start")
        if not len(starts):
            return np.zeros_like(np.asarray(times), float)
        # Within a token by its duration; a pause between two tokens takes no room.
        row = np.clip(np.searchsorted(starts, times, "right") - 1, 0, len(starts) - 1)
        passed = (np.asarray(times) - starts[row]) / np.maximum(1, self.recording.tokens.column("duration")[row])
        return row + np.clip(passed, 0.0, 1.0)

    def time_at(self, x: float) -> int:
        value = self.rows[0].plot.getViewBox().mapSceneToView(self.canvas.mapToScene(int(x), 0)).x()
        if not self.by_token:
            return int(value * 1e9)
        count = len(self.recording.tokens)
        if not count:
            return 0
        row = min(max(int(value), 0), count - 1)
        window = token_window(self.recording, row) or (0, 1)
        return int(window[0] + (value - row) * (window[1] - window[0]))

    def edges(self, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """Left and right x of token rows."""
        if self.by_token:
            rows = np.arange(low, high, dtype=float)
            return rows, rows + 1
        return self.recording.tokens.column("start", low, high) / 1e9, token_ends(self.recording, low, high) / 1e9

    def gapped(self, x0: np.ndarray, x1: np.ndarray) -> np.ndarray:
        """Right edges drawn back by a pixel where bars are wide enough to be told apart."""
        if not len(x0):
            return x1
        low, high = self._shown
        pixel = (high - low) / max(1, self.canvas.width() - AXIS)
        return x1 - pixel if np.median(x1 - x0) > 6 * pixel else x1

    def window(self) -> Window:
        view = super().window()
        low, high = rows_within(self.recording, view)
        if self.selection.view is None or high - low >= self.fewest or len(self.recording.tokens) < 2:
            return view
        last = min(high, len(self.recording.tokens) - 1)
        mean = int(self.recording.tokens.column("duration", max(0, last - 50), last + 1)[1:].mean())
        middle, half = (view[0] + view[1]) // 2, self.fewest * max(1, mean) // 2
        limits = bounds(self.recording)
        half = min(half, max(view[1] - view[0], limits[1] - limits[0]) // 2)
        start = min(max(middle - half, min(limits[0], view[0])), max(limits[1], view[1]) - 2 * half)
        return start, start + 2 * half

    # --- Panel -----------------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        data = self.has_data()
        self._pages.setCurrentIndex(1 if data else 0)
        if not data:
            return
        window = self.window()
        self.low, self.high = rows_within(self.recording, window)
        low, high = (float(self.x_of(edge)) for edge in window)
        if self.by_token:
            low, high = float(self.low), float(max(self.high, self.low + 1))
        self._shown = low, high
        metrics = QFontMetrics(self._small)
        for row in self.rows:
            row.plot.setXRange(low, high, padding=0)
            row.fit_label(metrics.horizontalAdvance(row.axis.labelText))
        self.draw()

    def reset(self) -> None:
        super().reset()
        for row in self.rows:
            row.top = 0.0

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        self._style()
        self._stale = True
        self.tick(force=True)

    def point(self) -> None:
        if not self.has_data():
            return
        theme, pinned = self.theme, self.selection.picked.token
        bands, edges = self.background(), []
        if (span := self.range()) is not None:
            low, high = (float(self.x_of(edge)) for edge in span)
            bands.append(Band(low, high, mix(theme.base, theme.accent, 0.16)))
            edges += [(low, theme.accent), (high, theme.accent)]
        view = self.selection.view
        if view is not None and self.window() != view:
            edges += [(float(self.x_of(edge)), theme.muted) for edge in view]
        for token, share in ((pinned, 0.34), (self.selection.hover_token, 0.24)):
            if (when := token_window(self.recording, token)) is not None:
                low, high = (float(token), token + 1.0) if self.by_token and token is not None else (when[0] / 1e9, when[1] / 1e9)
                bands.append(Band(low, high, mix(theme.base, theme.text, share)))
                edges += [(low, theme.text), (high, theme.text)]
        marks = [(float(self.x_of(mark.time)) if not self.by_token else float(mark.token), mark.short) for mark in self.marks()]
        for row in self.rows:
            row.bands.set(bands, theme.muted)
            row.marks.set(marks if row.first else [(x, "") for x, _ in marks], edges, self.levels(row), theme)
        self.figures()

    def hover_at(self, place: object) -> None:
        super().hover_at(place)  # type: ignore[arg-type]
        time = self.time_at(place.x())  # type: ignore[attr-defined]
        near = abs(self.time_at(place.x() + 5) - time)  # type: ignore[attr-defined]
        texts = [mark.full for mark in self.marks() if abs(mark.time - time) <= near]
        self.canvas.viewport().setToolTip("\n".join(texts))

    @Slot(bool)
    def set_by_token(self, on: bool) -> None:
        """Let x count tokens instead of seconds."""
        self.by_token = on
        for row in self.rows:
            axis = row.plot.getAxis("bottom")
            axis.by_token = on
            axis.picture = None
        self._stale = True
        self.tick(force=True)

    def _menu(self) -> QToolButton:
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        navigator = self.navigator
        menu.addAction("Follow the newest\tL", lambda: navigator.follow(True))
        menu.addAction("Fit the range, then all\tF", navigator.fit)
        ranging = menu.addAction("Drag selects a range\tR", lambda: navigator.set_ranging(not navigator.range_mode))
        ranging.setCheckable(True)
        navigator.ranging.connect(ranging.setChecked)
        menu.addAction("Clear the range\tEsc", navigator.drop_range)
        menu.addSeparator()
        self.token_action = menu.addAction("Count tokens on the x axis")
        self.token_action.setCheckable(True)
        self.token_action.toggled.connect(self.set_by_token)
        button = QToolButton()
        button.setText("≡")
        button.setAutoRaise(True)
        button.setFixedSize(24, self.legend.fontMetrics().height() + 4)
        button.setMenu(menu)
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        button.setStyleSheet("QToolButton { padding: 0; } QToolButton::menu-indicator { image: none; }")
        button.setToolTip("Axis and range. Wheel zooms, drag moves, shift-drag selects a range, click pins a token.")
        button.setAccessibleName("Axis and range")
        return button

    def _style(self) -> None:
        self.canvas.setBackground(self.theme.window)
        self._empty.setStyleSheet(f"color: {self.theme.muted}")
        self.legend.restyle(self.theme)
        for row in self.rows:
            row.restyle(self.theme)


def round_up(value: float, steps: tuple[float, ...]) -> float:
    """The smallest of ``steps`` (1 to 10) × a power of ten that is not below ``value``; 1 for nothing."""
    if not value > 0 or not np.isfinite(value):
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next((step * power for step in steps if step * power >= value * (1 - 1e-9)), 10 * power))
