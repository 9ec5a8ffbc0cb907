"""The slices of one window, lane by lane: as pixels to paint, as places for text, and as what lies under the pointer.

Everything is in device pixels from the left edge of the window. Shapes: N slices, W pixels across, H down, G lanes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PySide6.QtGui import QImage

from engine.events import SPAN, Phase, SpanKind
from engine.recording.recording import Recording
from views.lanes import Lane
from views.spantotals import SpanTotals
from views.theme import Theme
from views.timeaxis import Window, rows_within, token_ends
from views.timeline_shades import DIM, FRAMEWORK, SHADES, bins, coverage, snapped, stacked, table

READABLE = 18  # px: no text in a slice below
SEPARATE = 4  # px: slices from this on are set apart by a gap
PARTS = ("attention", "router", "compute", "stall", "head", "sampling", "framework")  # columns of tokens by shade
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
    """``lanes`` over ``window`` ns on ``width`` px, ``ratio`` of them to a point of the screen.

    Fill it by ``draw_spans`` or ``draw_totals``, once.
    """

    def __init__(self, recording: Recording, lanes: Sequence[Lane], window: Window, width: int, ratio: float) -> None:
        self.recording, self.lanes, self.window, self.ratio = recording, list(lanes), window, ratio
        self.width = max(1, width)
        self.low, self.high = rows_within(recording, window)
        self._starts = recording.tokens.column("start", self.low, self.high)
        self._ends = token_ends(recording, self.low, self.high)
        self.rows = np.empty(0, SPAN)
        self.detailed = False
        self._shades: list[np.ndarray] = []  # of each lane, [H, W]

    def x_of(self, times: np.ndarray | int) -> np.ndarray:
        """Times in ns as pixels."""
        return (np.asarray(times) - self.window[0]) * (self.width / (self.window[1] - self.window[0]))

    # --- drawing -------------------------------------------------------------------------------------------------------

    def draw_spans(self, rows: np.ndarray) -> None:
        """Every span as itself; where many share a pixel, its column is shared among them."""
        self.detailed = True
        x0, x1 = self.x_of(rows["start"]), self.x_of(rows["start"] + rows["duration"])
        inside = (x1 >= 0) & (x0 <= self.width)
        self.rows = rows[inside]
        self._lane, self._source = self._placed()
        self._x0, self._x1 = x0[inside][self._source], x1[inside][self._source]
        covered = self._covered(np.arange(len(self._lane)))
        tokens, compute = self._number("tokens"), self._number("compute")
        left, right = snapped(self.x_of(self._starts), self.x_of(self._ends))
        covered[tokens] = coverage(self._phases(), left, right, SHADES, self.width)
        covered[compute, FRAMEWORK] = np.maximum(0, covered[tokens].sum(axis=0) - covered[compute].sum(axis=0))
        self._shades = [stacked(shares, self._tall(lane)) for lane, shares in zip(self.lanes, covered, strict=True)]
        for lane, x0, x1 in ((self._lane, self._x0, self._x1), (np.full(len(left), tokens), left, right)):
            self._part(lane, x0, x1)

    def draw_totals(self, totals: SpanTotals) -> None:
        """Each token's time shared by kind, neighbours together where a token is below a pixel."""
        table_ = self.recording.tokens
        begins, owner = bins(self.x_of(self._starts), self.x_of(self._ends), self.width)
        duration, prefill = table_.column("duration", self.low, self.high), self._phases() == Phase.PREFILL

        def binned(values: np.ndarray) -> np.ndarray:
            return np.add.reduceat(values, begins, axis=0) if len(begins) else values[:0]

        whole = binned(duration)
        for lane in self.lanes:
            match lane.kind:
                case "tokens":
                    parts = binned(np.stack([duration * prefill, duration * ~prefill], axis=1))
                case "compute":
                    parts = binned(np.stack([table_.column(name, self.low, self.high) for name in PARTS], axis=1))
                case "layer":
                    parts = binned(self._some(totals.work, lane.index + 1))
                case _:
                    parts = binned(self._some(totals.reads, lane.index - 1))
            filled = parts.sum(axis=1) if lane.kind == "layer" else whole
            shares = parts.T / np.maximum(filled, 1)
            shares = np.concatenate([shares, np.zeros((len(shares), 1))], axis=1)[:, owner]
            self._shades.append(stacked(shares, self._tall(lane)))

    def paint(self, theme: Theme, lit: tuple[int, int] | None) -> list[QImage]:
        """The lanes as images; with ``lit``, all but that expert's slices recede."""
        marked = self._lit(lit)
        images = []
        for number, (lane, shades) in enumerate(zip(self.lanes, self._shades, strict=True)):
            full = table(lane.kind, theme)
            if marked is None or lane.kind == "tokens":
                pixels = full[shades]
            else:
                pixels = table(lane.kind, theme, DIM)[shades]
                columns = np.flatnonzero(marked[number].any(axis=0))
                pixels[:, columns] = full[marked[number][:, columns].argmax(axis=0)]
            height, width = pixels.shape
            images.append(QImage(pixels.tobytes(), width, height, width * 4, QImage.Format.Format_ARGB32_Premultiplied).copy())
        return images

    # --- asking --------------------------------------------------------------------------------------------------------

    def texts(self) -> Iterator[tuple[Slice, float, float, int]]:
        """Slices in which a text may fit: with left and right px of what can be seen of them, and their shade."""
        tokens = self.lanes[self._number("tokens")]
        left, right = np.clip(self.x_of(self._starts), 0, self.width), np.clip(self.x_of(self._ends), 0, self.width)
        phases = self._phases()
        for number in np.flatnonzero(right - left >= READABLE * self.ratio).tolist():
            yield self._pass(tokens, number), float(left[number]), float(right[number]), int(phases[number])
        if not self.detailed:
            return
        left, right = np.clip(self._x0, 0, self.width), np.clip(self._x1, 0, self.width)
        for number in np.flatnonzero(right - left >= READABLE * self.ratio)[:MOST_TEXTS].tolist():
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

    def _phases(self) -> np.ndarray:
        return self.recording.tokens.column("phase", self.low, self.high).astype(np.int64)

    def _tall(self, lane: Lane) -> int:
        """Pixels of a lane's slices: one point is left to the line below it."""
        return max(1, round((lane.height - 1) * self.ratio))

    def _covered(self, picked: np.ndarray) -> np.ndarray:
        """How much of each pixel the picked slices cover, [G, SHADES, W]."""
        rows = self.rows[self._source[picked]]
        shade = np.where(rows["kind"] == SpanKind.READ, rows["outcome"], rows["kind"])
        x0, x1 = snapped(self._x0[picked], self._x1[picked])
        covered = coverage(self._lane[picked] * SHADES + shade, x0, x1, len(self.lanes) * SHADES, self.width)
        return covered.reshape(len(self.lanes), SHADES, self.width)

    def _part(self, lane: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> None:
        """Leave a gap at the right of slices that are large enough."""
        last = np.round(x1).astype(np.int64) - 1
        large = (x1 - x0 >= SEPARATE) & (last >= 0) & (last < self.width)
        for number, column in zip(lane[large].tolist(), last[large].tolist(), strict=True):
            self._shades[number][:, column] = SHADES

    def _of(self, expert: tuple[int, int] | None) -> np.ndarray:
        """The slices of an expert."""
        if expert is None or not self.detailed:
            return np.empty(0, np.int64)
        rows = (self.rows["layer"] == expert[0]) & (self.rows["expert"] == expert[1])
        return np.flatnonzero(rows[self._source])

    def _lit(self, expert: tuple[int, int] | None) -> np.ndarray | None:
        return None if expert is None or not self.detailed else self._covered(self._of(expert)) > 0

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
