"""The base of the chart panels: plots above each other on one time axis, a legend that reads out, marks, ranges and hover."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PySide6.QtCore import Qt, Slot
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QToolButton, QVBoxLayout, QWidget

from engine.events import Phase
from engine.recording.recording import Recording
from views.colors import mix
from views.legend import Legend
from views.panel import pages
from views.plotaxes import AXIS
from views.plotcanvas import Canvas, Row
from views.plotitems import Band, Level, binned
from views.selection import Selection
from views.theme import Theme
from views.timeaxis import Window, bounds, rows_within, token_ends, token_window
from views.timepanel import TimePanel
from views.tuning_model import TuningModel

BARS = 400  # more tokens than this are drawn as means of neighbours
FEWEST = 12  # tokens: charts of one value a token show no less around a narrow view


class ChartPanel(TimePanel):
    """Concrete charts add rows in ``build``, and draw in ``refresh`` what lies in ``self.low`` … ``self.high`` (token rows)."""

    every = 6  # five times a second: a chart is read, not watched for flashes
    hint = "Run a prompt to see this."
    fewest = FEWEST

    def __init__(
        self, recording: Recording, selection: Selection, settings: TuningModel, theme: Theme, parent: QWidget | None = None
    ) -> None:
        super().__init__(recording, selection, settings, theme, parent)
        self.by_token = False
        self.low = self.high = 0
        self._shown = 0.0, 1.0
        self._prefills: list[Band] = []
        self.legend = Legend(theme)
        self.menu_button = self._menu()
        header = QHBoxLayout()
        header.setContentsMargins(8, 4, 4, 2)
        header.setSpacing(6)
        header.addWidget(self.legend, 1, Qt.AlignmentFlag.AlignTop)
        header.addWidget(self.menu_button, 0, Qt.AlignmentFlag.AlignTop)
        self.canvas = Canvas(self.navigator)
        self.rows = self.canvas.rows
        self.body = QVBoxLayout()
        self.body.setContentsMargins(0, 0, 0, 0)
        self.body.setSpacing(0)
        self.body.addLayout(header)
        self.body.addWidget(self.canvas, 1)
        full, self._empty = QWidget(), QLabel(self.hint)
        full.setLayout(self.body)
        self._pages = pages(self, self._empty, full)
        self.build()
        self._style()

    # --- for concrete charts ---------------------------------------------------------------------------------------------

    def add_row(self, label: str, text: Callable[[float], str], stretch: int = 1) -> Row:
        """Another plot below; ``text`` writes a value of its axis."""
        return self.canvas.add_row(label, text, stretch)

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
        self.canvas.show_x(low, high)
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

    def tick(self, force: bool = False) -> None:
        super().tick(force)
        for row in self.rows:
            # Else a view box takes its new range over while it is painted, and everything is painted a second time.
            row.plot.getViewBox().prepareForPaint()

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
            row.bottom.by_token = on
            row.bottom.update()
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
