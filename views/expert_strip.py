"""One expert over time: its uses and its predictions as ticks, its stays in memory as a band, on the axis that all charts share."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from engine.events import Outcome, Residency
from engine.recording.history import ExpertHistory
from engine.recording.outcomes import is_hit
from views.colors import mix
from views.fonts import smaller
from views.grid_shades import OUTCOMES
from views.navigator import Navigable, Navigator
from views.theme import Theme
from views.timeaxis import Window, second_ticks

NAMES = 46  # px of the names at the left
TICKS, GUESSES, BAND, AXIS = 18, 12, 11, 15  # px


class ExpertStrip(Navigable, QWidget):
    def __init__(self, theme: Theme, navigator: Navigator, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.theme, self.navigator = theme, navigator
        self.history: ExpertHistory | None = None
        self.window_: Window = (0, 1)
        self.bands: list[tuple[Window, str]] = []  # what is pointed at and the range, with their colours
        self.marks: list[int] = []  # setting changes, ns
        self.setFont(smaller(self.font()))
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._guesses = 0  # px of the line of predictions, where there are any
        self.setFixedHeight(TICKS + BAND + AXIS + 6)
        self.setToolTip("Uses, coloured by outcome; times it was predicted (among the k likeliest of its layer), a line where the router\n"
                        "chose it and a dot where not; and stays in memory, coloured by bits.\n"
                        "Click pins a token, wheel zooms, drag moves, shift-drag selects a range.")  # fmt: skip

    @property
    def plot(self) -> QRectF:
        """Where time runs."""
        return QRectF(NAMES, 0, max(1, self.width() - NAMES), TICKS + self._guesses + BAND + 5)

    @property
    def span(self) -> float:
        return self.plot.width()

    def show_history(self, history: ExpertHistory, window: Window, marks: list[int]) -> None:
        self.history, self.window_, self.marks = history, window, marks
        self._guesses = GUESSES if len(history.guesses) else 0
        self.setFixedHeight(TICKS + self._guesses + BAND + AXIS + 6)
        self.update()

    def show_bands(self, bands: list[tuple[Window, str]]) -> None:
        """What is pointed at, pinned or selected."""
        if bands != self.bands:
            self.bands = bands
            self.update()

    def time_at(self, x: float) -> int:
        start, end = self.window_
        return int(start + (x - self.plot.left()) / self.plot.width() * (end - start))

    def x_of(self, times: np.ndarray) -> np.ndarray:
        start, end = self.window_
        return self.plot.left() + (np.asarray(times, float) - start) / max(1, end - start) * self.plot.width()

    def ticks(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of the uses to be seen, and their outcomes; of several on one pixel the worst is kept."""
        assert self.history is not None
        times, outcomes = self.history.uses.column("time"), self.history.uses.column("outcome")
        low, high = np.searchsorted(times, self.window_)
        x, outcome = self.x_of(times[low:high]).astype(np.int64), outcomes[low:high]
        order = np.lexsort((-outcome.astype(np.int64), is_hit(outcome), x))
        pixels, first = np.unique(x[order], return_index=True)
        return pixels, outcome[order][first]

    def guesses(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels at which it was predicted, rightly and for nothing."""
        assert self.history is not None
        told, model = self.history.guesses, self.history.recording.model
        times = told.column("time")
        low, high = np.searchsorted(times, self.window_)
        likely = told.column("rank", low, high) < (model.top_k if model else 0)
        pixels, right = self.x_of(times[low:high]).astype(np.int64), told.column("chosen", low, high) != 0
        return np.unique(pixels[likely & right]), np.unique(pixels[likely & ~right])

    def stays(self) -> list[tuple[float, float, str]]:
        """Left and right x and role of the stretches to be seen in which it was in memory, or on its way there."""
        assert self.history is not None
        stretches, (start, end) = self.history.stretches(), self.window_
        seen = (stretches.end > start) & (stretches.start < end) & (stretches.state != Residency.ABSENT)
        # More than a pixel can tell apart are drawn over each other: the number of rectangles stays bounded by thinning.
        index = np.flatnonzero(seen)
        index = index[:: max(1, len(index) // max(1, 2 * self.width()))]
        x0, x1 = self.x_of(np.maximum(stretches.start[index], start)), self.x_of(np.minimum(stretches.end[index], end))
        states, bits = stretches.state[index].tolist(), stretches.bits[index].tolist()
        held = {Residency.LOADING: "loading", Residency.STAGED: "preloaded"}
        roles = [held.get(state, f"bits{width}") for state, width in zip(states, bits, strict=True)]
        return list(zip(x0.tolist(), x1.tolist(), roles, strict=True))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, theme, plot = QPainter(self), self.theme, self.plot
        painter.fillRect(plot, QColor(theme.base))
        painter.setClipRect(plot)
        for (start, end), color in self.bands:
            x0, x1 = self.x_of(np.array([start, end])).tolist()
            painter.fillRect(QRectF(x0, plot.top(), max(2.0, x1 - x0), plot.height()), QColor(color))
        band = QRectF(plot.left(), TICKS + self._guesses + 2, plot.width(), BAND)
        painter.fillRect(band, QColor(theme.absent))
        if self.history is not None:
            for x0, x1, role in self.stays():
                painter.fillRect(QRectF(x0, band.top(), max(1.0, x1 - x0), BAND), QColor(getattr(theme, role)))
            pixels, outcomes = self.ticks()
            for outcome in Outcome:  # one pen a colour
                painter.setPen(QPen(QColor(getattr(theme, OUTCOMES[outcome][0])), 1))
                top = 7 if outcome in (Outcome.HIT, Outcome.PRELOADED) else 3  # misses stand out by height too
                for x in pixels[outcomes == outcome].tolist():
                    painter.drawLine(x, top, x, TICKS - 1)
            for pixels, role, top, bottom in zip(self.guesses(), ("preloaded", "muted"), (2, 6), (9, 7), strict=True):
                painter.setPen(QPen(QColor(getattr(theme, role)), 1))
                for x in pixels.tolist():
                    painter.drawLine(x, TICKS + top, x, TICKS + bottom)
        painter.setPen(QPen(QColor(theme.mark), 1))
        for x in self.x_of(np.array(self.marks)).tolist():
            painter.drawLine(QPointF(round(x), plot.top()), QPointF(round(x), plot.bottom()))
        painter.setClipping(False)
        self._paint_texts(painter)
        painter.end()

    def _paint_texts(self, painter: QPainter) -> None:
        plot, metrics = self.plot, self.fontMetrics()
        painter.setPen(QColor(self.theme.muted))
        middle = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        painter.drawText(QRect(0, 1, NAMES, TICKS), middle, "uses")
        if self._guesses:
            painter.drawText(QRect(0, TICKS, NAMES, GUESSES), middle, "guesses")
        painter.drawText(QRect(0, TICKS + self._guesses + 1, NAMES, BAND + 2), middle, "memory")
        places, texts = second_ticks(self.window_[0] / 1e9, self.window_[1] / 1e9, max(2, int(plot.width() / 90)))
        for x, text in zip(self.x_of(np.array(places) * 1e9).tolist(), texts, strict=True):
            width = metrics.horizontalAdvance(text)
            painter.drawLine(QPointF(round(x), plot.bottom()), QPointF(round(x), plot.bottom() + 2))
            left = min(max(plot.left(), x - width / 2), plot.right() - width)
            painter.drawText(QRectF(left, plot.bottom() + 1, width + 2, AXIS), middle, text)

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        self.update()

    def band_color(self, share: float, role: str = "text") -> str:
        return mix(self.theme.base, getattr(self.theme, role), share)
