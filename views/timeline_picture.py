"""The slices of one window, lane by lane: as pixels to paint, as places for text, and as what lies under the pointer.

Everything is in device pixels from the left edge of the window. Shapes: N slices, W pixels across, H down, G lanes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PySide6.QtGui import QImage

from engine.events import SPAN, SpanKind
from engine.recording.recording import Recording
from views.lanes import Lane
from views.spantotals import SpanTotals
from views.theme import Theme
from views.timeaxis import Window, rows_within, token_ends
from views.timeline_shades import DIM, FAINT, FRAMEWORK, SHADES, bins, coverage, dominant, stacked, table

READABLE = 18  # px: no text in a slice below
SEPARATE = 4  # px: slices from this on are set apart by a gap
REACH = 2  # px beside a slice at which it is still pointed at
MOST_TEXTS = 400


@dataclass(frozen=True)
class Slice:
    """One slice: of a span (a row of ``spans``) or, where ``span`` is None, of a whole pass. ``start``/``end`` in ns."""

    lane: Lane
    start: int
    end: int
    token: int
    span: np.void | None = None

    @property
    def expert(self) -> tuple[int, int] | None:
        """Layer and expert, if it belongs to one."""
        if self.span is None or self.span["expert"] < 0:
            return None
        return int(self.span["layer"]), int(self.span["expert"])


class Picture:
    """``lanes`` over ``window`` ns on ``width`` px. Fill it by ``draw_spans`` or ``draw_totals``, once."""

    def __init__(self, recording: Recording, lanes: Sequence[Lane], window: Window, width: int) -> None:
        self.recording, self.lanes, self.window, self.width = recording, list(lanes), window, max(1, width)
        self.low, self.high = rows_within(recording, window)
        self._starts = recording.tokens.column("start", self.low, self.high)
        self._ends = token_ends(recording, self.low, self.high)
        self.rows = np.empty(0, SPAN)
        self.detailed = False
        self._shades: list[np.ndarray] = []  # of each lane, [H, W]
        self._faint: list[np.ndarray] = []  # where little of the pixel is covered, [H or 1, W]

    def x_of(self, times: np.ndarray | int) -> np.ndarray:
        """Times in ns as pixels."""
        return (np.asarray(times) - self.window[0]) * (self.width / (self.window[1] - self.window[0]))

    # --- drawing -------------------------------------------------------------------------------------------------------

    def draw_spans(self, rows: np.ndarray) -> None:
        """Every span as itself; where many share a pixel, the kind that has most of it."""
        self.detailed = True
        x0, x1 = self.x_of(rows["start"]), self.x_of(rows["start"] + rows["duration"])
        inside = (x1 >= 0) & (x0 <= self.width)
        self.rows, x0, x1 = rows[inside], x0[inside], x1[inside]
        lane, source = self._placed()
        self._lane, self._source = lane, source
        reads = self.rows["kind"] == SpanKind.READ
        shade = np.where(reads, self.rows["outcome"], self.rows["kind"]).astype(np.int64)[source]
        self._x0, self._x1 = x0[source], x1[source]
        covered = self._covered(lane, shade, self._x0, self._x1)
        tokens = self._number("tokens")
        phase = self.recording.tokens.column("phase", self.low, self.high).astype(np.int64)
        left, right = self.x_of(self._starts), self.x_of(self._ends)
        covered[tokens] = coverage(phase, left, right, SHADES, self.width)
        compute = self._number("compute")
        covered[compute, FRAMEWORK] = np.maximum(0, covered[tokens].sum(axis=0) - covered[compute].sum(axis=0))
        shades, total = dominant(covered)
        for number, x0, x1 in ((lane, self._x0, self._x1), (np.full(len(left), tokens), left, right)):
            apart = (x1 - x0 >= SEPARATE) & (x1 < self.width) & (x1 >= 1)
            shades[number[apart], x1[apart].astype(np.int64) - 1] = SHADES
        self._shades = [row[None] for row in shades]
        self._faint = [row[None] < 0.5 for row in total]

    def draw_totals(self, totals: SpanTotals, ratio: float) -> None:
        """Each token's time stacked by kind, neighbours together where a token is below a pixel."""
        table_ = self.recording.tokens
        begins, owner = bins(self.x_of(self._starts), self.x_of(self._ends), self.width)
        duration = table_.column("duration", self.low, self.high)

        def binned(values: np.ndarray) -> np.ndarray:
            return np.add.reduceat(values, begins, axis=0) if len(begins) else values[:0]

        whole = binned(duration).astype(float)
        for lane in self.lanes:
            filled = whole
            match lane.kind:
                case "tokens":
                    prefill = table_.column("phase", self.low, self.high) == 0
                    parts = binned(np.stack([duration * prefill, duration * ~prefill], axis=1))
                case "compute":
                    names = ("attention", "router", "compute", "stall", "head", "sampling", "framework")
                    parts = binned(np.stack([table_.column(name, self.low, self.high) for name in names], axis=1))
                case "layer":
                    parts = binned(self._some(totals.work, lane.index + 1))
                    filled = parts.sum(axis=1)
                case _:
                    parts = binned(self._some(totals.reads, lane.index - 1))
            self._shades.append(stacked(parts, filled, owner, max(1, int((lane.height - 2) * ratio))))
            self._faint.append(np.zeros((1, self.width), bool))

    def paint(self, theme: Theme, lit: tuple[int, int] | None) -> list[QImage]:
        """The lanes as images, [H, W] each, to be stretched to their height; with ``lit``, all but that expert's slices recede."""
        marked = self._lit(lit)
        images = []
        for number, (lane, shades, faint) in enumerate(zip(self.lanes, self._shades, self._faint, strict=True)):
            full = table(lane.kind, theme)
            if marked is None or lane.kind == "tokens":
                pixels = np.where(faint, table(lane.kind, theme, FAINT)[shades], full[shades])
            else:
                shade, total = marked
                pixels = np.where(total[number] > 0, full[shade[number]], table(lane.kind, theme, DIM)[shades])
            height, width = pixels.shape
            images.append(QImage(pixels.tobytes(), width, height, width * 4, QImage.Format.Format_ARGB32_Premultiplied).copy())
        return images

    # --- asking --------------------------------------------------------------------------------------------------------

    def texts(self, ratio: float) -> Iterator[tuple[Slice, float, float, int]]:
        """Slices in which a text may fit: with left and right px of what can be seen of them, and their shade."""
        tokens = self.lanes[self._number("tokens")]
        left, right = np.clip(self.x_of(self._starts), 0, self.width), np.clip(self.x_of(self._ends), 0, self.width)
        phases = self.recording.tokens.column("phase", self.low, self.high)
        for number in np.flatnonzero(right - left >= READABLE * ratio).tolist():
            yield self._pass(tokens, number), float(left[number]), float(right[number]), int(phases[number])
        if not self.detailed:
            return
        left, right = np.clip(self._x0, 0, self.width), np.clip(self._x1, 0, self.width)
        for number in np.flatnonzero(right - left >= READABLE * ratio)[:MOST_TEXTS].tolist():
            found = self._slice(number)
            read = found.lane.kind == "slot"
            yield found, float(left[number]), float(right[number]), int(found.span["outcome" if read else "kind"])

    def at(self, lane: Lane, x: float) -> Slice | None:
        """The slice under ``x`` px of a lane, or the nearest very close to it; the pass where there is none."""
        if lane.kind != "tokens" and self.detailed:
            here = np.flatnonzero(self._lane == self.lanes.index(lane))
            gap = np.maximum(0, np.maximum(self._x0[here] - x, x - self._x1[here]))
            near = np.flatnonzero(gap <= REACH)
            if len(near):
                return self._slice(int(here[near[np.argmin(gap[near])]]))
            if lane.kind != "compute":
                return None
        time = self.window[0] + x / self.width * (self.window[1] - self.window[0])
        number = int(np.searchsorted(self._starts, time, "right")) - 1
        return self._pass(lane, number) if number >= 0 and time <= self._ends[number] else None

    def places(self, expert: tuple[int, int] | None) -> list[tuple[Lane, float, float]]:
        """Where an expert's slices are: lane, left and right px; one for many within a pixel."""
        picked = self._of(expert)
        pixel = self._lane[picked] * (self.width + 2) + self._x0[picked].astype(np.int64) if len(picked) else picked
        picked = picked[np.unique(pixel, return_index=True)[1]]
        return [(self.lanes[self._lane[i]], float(self._x0[i]), float(self._x1[i])) for i in picked.tolist()]

    # --- inside --------------------------------------------------------------------------------------------------------

    def _number(self, kind: str) -> int:
        return next(number for number, lane in enumerate(self.lanes) if lane.kind == kind)

    def _placed(self) -> tuple[np.ndarray, np.ndarray]:
        """Lane and row of ``rows`` of every slice: work lies on the compute lane, and on its layer's where that is shown."""
        kind, layer, slot = self.rows["kind"], self.rows["layer"], self.rows["lane"]
        of_layer, of_slot = np.full(1 << 15, -1), np.full(256, -1)
        for number, lane in enumerate(self.lanes):
            if lane.kind == "layer":
                of_layer[lane.index] = number
            elif lane.kind == "slot":
                of_slot[lane.index] = number
        work = np.flatnonzero(kind < SpanKind.READ)
        parts = [(np.full(len(work), self._number("compute")), work), (of_layer[layer[work]], work)]
        reads = np.flatnonzero((kind == SpanKind.READ) & (self.rows["outcome"] < SHADES))
        parts.append((of_slot[slot[reads]], reads))
        lane, source = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        shown = lane >= 0
        return lane[shown], source[shown]

    def _covered(self, lane: np.ndarray, shade: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> np.ndarray:
        covered = coverage(lane * SHADES + shade, x0, x1, len(self.lanes) * SHADES, self.width)
        return covered.reshape(len(self.lanes), SHADES, self.width)

    def _of(self, expert: tuple[int, int] | None) -> np.ndarray:
        """The slices of an expert."""
        if expert is None or not self.detailed:
            return np.empty(0, np.int64)
        rows = (self.rows["layer"] == expert[0]) & (self.rows["expert"] == expert[1])
        return np.flatnonzero(rows[self._source])

    def _lit(self, expert: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray] | None:
        if expert is None or not self.detailed:
            return None
        picked = self._of(expert)
        rows = self.rows[self._source[picked]]
        shade = np.where(rows["kind"] == SpanKind.READ, rows["outcome"], rows["kind"]).astype(np.int64)
        # At least a pixel wide, so that it is seen.
        right = np.maximum(self._x1[picked], np.floor(self._x0[picked]) + 1)
        return dominant(self._covered(self._lane[picked], shade, self._x0[picked], right))

    def _some(self, sums: np.ndarray, row: int) -> np.ndarray:
        """One row of the totals for the tokens shown; zeros for those not counted yet."""
        values = sums[self.low : self.high, row]
        return np.concatenate([values, np.zeros((self.high - self.low - len(values), values.shape[1]), values.dtype)])

    def _slice(self, number: int) -> Slice:
        span = self.rows[self._source[number]]
        return Slice(
            self.lanes[self._lane[number]], int(span["start"]), int(span["start"] + span["duration"]), int(span["token"]), span
        )  # fmt: skip

    def _pass(self, lane: Lane, number: int) -> Slice:
        return Slice(lane, int(self._starts[number]), int(self._ends[number]), self.low + number)
