"""The strip of figures: how fast, how often hit, how much read and waited for, and what memory that takes."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QRectF, Slot
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from engine.events import MISSES
from engine.recording.recording import Recording
from engine.recording.statistics import Statistics, summarize_passes, uses_of
from views.panel import Panel
from views.plan_words import in_force, interval
from views.plotitems import binned
from views.scope import Scope, prefill_row, scope_of
from views.selection import Selection
from views.theme import Theme
from views.tile import Tile
from views.tuning_model import TuningModel
from views.units import format_bytes, format_duration, format_read

POINTS = 40  # of a trend; more tokens are drawn as means of neighbours
HEIGHT = 52

HELP = {
    "speed": "Decode tokens per second of decoding: tokens ÷ the time of their passes.\nPauses and prefill are left out.",
    "ttft": "Time to first token: how long the prefill of the request took.",
    "hits": "Share of the experts chosen by the router that were in memory.",
    "read": "Megabytes (10⁶ bytes) of expert weights read per decode token, on demand and ahead.",
    "stall": "Milliseconds per decode token in which the token loop waited for expert weights.",
    "resident": "Bytes of expert weights in memory, against the budget.",
    "bits": "Mean width of the experts used.",
    "loss": "By how much the bitwidth plan in force raises perplexity over the highest width, as it was measured last on the text of the\n"
            "Bitwidth panel: in the first pause of the model once that text was calibrated on.",
    "rss": "Resident memory of the engine process, as the system counts it.",
}


class Readouts(Panel):
    """The token pointed at, else the selected range, else the pinned token, else the newest tokens; the first tile says which."""

    key = "readouts"
    title = "Figures"
    every = 6

    def __init__(
        self, recording: Recording, selection: Selection, settings: TuningModel, theme: Theme, parent: QWidget | None = None
    ) -> None:
        super().__init__(recording, selection, settings, theme, parent)
        self._stale = False
        self._edges: list[int] = []  # right ends of the tiles, px
        self.build()
        self.restyle(theme)
        selection.changed.connect(self._note)
        selection.hovered.connect(self._note)
        settings.plans.changed.connect(self._note)

    def build(self) -> None:
        theme = self.theme
        self.tiles = {
            "scope": Tile("Figures of", "token 00000, prefill", "", theme, large=False),
            "speed": Tile("Decode", "00.0", "tokens/s", theme, trend="accent"),
            "ttft": Tile("TTFT", "00.0", "ms", theme),
            "hits": Tile("Hit rate", "00.0", "%", theme, trend="hit"),
            "read": Tile("Read", "00.0", "MB/token", theme),
            "stall": Tile("Stall", "00.0", "ms/token", theme),
            "resident": Tile("Experts resident", "00.0", "of 00.0 MiB", theme, bar=True),
            "bits": Tile("Average bits", "00.0", "bits", theme),
            "rss": Tile("Engine RSS", "00.0", "MiB", theme),
            "loss": Tile("Plan's loss", "+0.00", "%", theme),
        }
        for tile in self.tiles.values():
            tile.setParent(self)
        self.setFixedHeight(HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    # --- Panel ---------------------------------------------------------------------------------------------------------

    def tick(self, force: bool = False) -> None:
        if self._stale and self.isVisible():
            force, self._stale = True, False
        super().tick(force)

    def refresh(self) -> None:
        scope = scope_of(self.recording, self.selection)
        told = summarize_passes(self.recording, scope.rows, scope.until)
        speeds, rates = self._trends(scope.trend)
        ttft, prefill = self._ttft(scope)
        self._tell("scope", scope.text, "")
        self.tiles["scope"].marked = scope.until is not None
        self._tell("speed", _three(told.decode_tok_s), "tokens/s", speeds)
        self._tell("ttft", *_split(format_duration(ttft), "ms"))
        self._tell("hits", _three(100 * told.hit_rate), "%", rates, top=100.0)
        self._tell("read", _three(told.mb_per_token), "MB/token")
        self._tell("stall", _three(told.stall_ms_per_token), "ms/token")
        self._tell_resident(told)
        self._tell("bits", _three(told.average_bits), "bits")
        self._tell("rss", *_split(format_bytes(told.rss), "MiB"))
        plans = self.settings.plans
        fidelity = plans.known.weighed.get(plans.in_force)
        self._tell("loss", "–" if fidelity is None else f"{100 * fidelity.loss:+.2f}", "%")
        self._explain(scope, told, prefill)

    def restyle(self, theme: Theme) -> None:
        for tile in self.tiles.values():
            tile.restyle(theme)
        super().restyle(theme)
        self.update()

    def _tell(self, key: str, value: str, unit: str, trend: np.ndarray | None = None, top: float = 0.0, share: float = 0.0) -> None:
        self.tiles[key].tell(value, unit, trend, top, share)

    def _tell_resident(self, told: Statistics) -> None:
        """Both numbers in the budget's unit, so that they can be compared at a glance."""
        budget, unit = _split(format_bytes(told.budget_bytes), "MiB")
        if budget == "–":
            self._tell("resident", "–", "of – MiB")
            return
        size, digits = 1024 ** ("B", "KiB", "MiB", "GiB").index(unit), len(budget.partition(".")[2])
        share = told.resident_bytes / told.budget_bytes if told.budget_bytes else 0.0
        self._tell("resident", f"{told.resident_bytes / size:.{digits}f}", f"of {budget} {unit}", share=share)

    def _ttft(self, scope: Scope) -> tuple[float, str]:
        """Duration (ns) of the prefill of the request that the scope ends in, and a line about it."""
        last = int(scope.rows[-1]) if len(scope.rows) else len(self.recording.tokens) - 1
        first = prefill_row(self.recording, last)
        if first is None:
            return float("nan"), ""
        row = self.recording.tokens.rows(first, first + 1)[0]
        seconds = row["duration"] / 1e9
        speed = f" at {_three(row['tokens'] / seconds)} tokens/s" if seconds else ""
        return float(row["duration"]), f"Request {row['request'] + 1}: {row['tokens']} prompt tokens{speed}"

    def _trends(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens per second and hit rate in percent of these decode rows, means of neighbours where there are many."""
        if not len(rows):
            return np.empty(0), np.empty(0)
        table = self.recording.tokens
        begins, _ = binned(len(rows), int(rows[0]), POINTS)
        sums = {name: np.add.reduceat(table.column(name)[rows].astype(np.int64), begins) for name in ("duration", "hits", *MISSES)}
        counts, uses = np.diff(np.append(begins, len(rows))), uses_of(sums)
        return 1e9 * counts / np.maximum(1, sums["duration"]), np.where(uses > 0, 100 * sums["hits"] / np.maximum(1, uses), np.nan)

    def _explain(self, scope: Scope, told: Statistics, prefill: str) -> None:
        over = f"Here: {scope.detail}."
        uses = told.hits + told.misses
        moment = "now" if scope.until is None else "at the end of the range" if scope.text.startswith("range") else "when the pass was done"
        warm = sum(filled.bytes for filled in self.recording.fills)
        more = {
            "read": f"{over} Not counted: {format_read(warm)} that filled the buffer at load." if warm else over,
            "ttft": prefill or over,
            "hits": f"{told.hits:,} hits of {uses:,} uses. {over}" if uses else over,
            "resident": f"As of {moment}; most so far {format_bytes(told.peak_resident_bytes)} in {scope.detail}." if uses else over,
            "rss": f"As of {moment}.",
            "loss": self._fidelity(),
        }
        for key, text in HELP.items():
            self.tiles[key].setToolTip(f"{text}\n{more.get(key, over)}")
        self.tiles["scope"].setToolTip(
            f"These figures are of {scope.detail}.\nPoint at a token, pin one, or select a range to see its figures."
        )

    def _fidelity(self) -> str:
        plans = self.settings.plans
        told = plans.known.weighed.get(plans.in_force)
        if told is None:
            return "Not known: Calibrate in the Bitwidth panel." if plans.known.studied is None else "Not measured yet: it is in a pause."
        return f"{in_force(told)} ({interval(told.loss_ci)}, 95%), now, whatever is selected."

    # --- arrangement ---------------------------------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        """All tiles in one line. Where that is too narrow the trends go, then the tiles from the right."""
        tiles = list(self.tiles.values())
        trend = sum(tile.least(True) for tile in tiles) <= self.width()
        shown = tiles[:1]
        for tile in tiles[1:]:
            if sum(other.least(trend) for other in (*shown, tile)) <= self.width():
                shown.append(tile)
            else:
                break
        spare = max(0, self.width() - sum(tile.least(trend) for tile in shown)) / len(shown)
        x = 0.0
        self._edges = []
        for tile in tiles:
            tile.setVisible(tile in shown)
            if tile in shown:
                tile.with_trend = trend and bool(tile.trend_role)
                end = x + tile.least(trend) + spare
                tile.setGeometry(round(x), 1, round(end) - round(x), HEIGHT - 2)
                self._edges.append(round(end))
                x = end

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(self.theme.border), 1))
        painter.setBrush(QColor(self.theme.base))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 4, 4)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setPen(QColor(self.theme.grid))
        for x in self._edges[:-1]:
            painter.drawLine(x, 8, x, HEIGHT - 9)
        painter.end()

    @Slot()
    def _note(self) -> None:
        self._stale = True


def _three(value: float) -> str:
    """Three digits, so that the number keeps its width; ``–`` where there is none."""
    if not np.isfinite(value):
        return "–"
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f}"


def _split(text: str, unit: str) -> tuple[str, str]:
    """Number and unit of a formatted text; ``unit`` where there is no number."""
    number, _, found = text.partition(" ")
    return number, found or unit
