"""The slices of one window, lane by lane: as pixels to paint, as places for text, and as what lies under the pointer.

Everything is in device pixels from the left edge of the window. Shapes: N slices, W pixels across, H down, G lanes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PySide6.QtGui import QImage

from engine.events import SPAN, Outcome, Phase, SpanKind
from engine.recording.preloads import Fate, Preloads
from engine.recording.recording import Recording
from views.lanes import Lane
from views.spantotals import SpanTotals
from views.textures import receding
from views.theme import Theme
from views.timeaxis import Window, rows_within, token_ends
from views.timeline_shades import (
    DIMMED,
    FATED,
    FRAMEWORK,
    SHADE_OF,
    SHADES,
    averaged,
    bins,
    code,
    coverage,
    palette,
    snapped,
    stacked,
)

READABLE = 18  # px: no text in a slice below
SMALL = 2  # px: where slices below take most of the compute lane, it tells what each token's time went to, not when
SEPARATE = 4  # px: slices from this on are set apart by a gap
PARTS = ("attention", "router", "compute", "stall", "head", "sampling", "framework")  # columns of tokens
REACH = 2  # px beside a slice at which it is still pointed at
MOST_TEXTS = 400


@dataclass(frozen=True)
class Slice:
    """One slice: of a span (a row of ``spans``) or, where ``span`` is None, of a whole pass. ``start``/``end`` in ns, ``token`` None where
    it belongs to no pass."""

    lane: Lane
    start: int
    end: int
    token: int | None
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
        self._textured = False  # something in sight was read ahead
        self.ahead = np.empty((2, 0), np.int64)  # reads ahead: their places in ``rows`` and among those of ``Preloads``
        self._tops = [round((lane.top - self.lanes[0].top) * ratio) for lane in self.lanes]
        self._talls = [max(1, round((lane.height - 1) * ratio)) for lane in self.lanes]  # a point is left to the line below
        self._codes = np.zeros((self._tops[-1] + self._talls[-1], self.width), np.uint8)

    def x_of(self, times: np.ndarray | int) -> np.ndarray:
        """Times in ns as pixels."""
        return (np.asarray(times) - self.window[0]) * (self.width / (self.window[1] - self.window[0]))

    # --- drawing -------------------------------------------------------------------------------------------------------

    def draw_spans(self, rows: np.ndarray, preloads: Preloads) -> None:
        """Every span as itself, read ahead by its fate; where many share a pixel, its column is shared among them."""
        self.detailed = True
        x0, x1 = self.x_of(rows["start"]), self.x_of(rows["start"] + rows["duration"])
        inside = np.flatnonzero((x1 >= 0) & (x0 <= self.width))
        self.rows = rows.take(inside)  # faster by far than an index for structured rows
        self._lane, self._source = self._placed()
        kind = self.rows["kind"]
        self._x0, self._x1 = x0[inside[self._source]], x1[inside[self._source]]
        shade, wanted = self._fated(np.where(kind == SpanKind.READ, self.rows["outcome"], SHADE_OF[kind]), preloads)
        self._shade, self._wanted = shade[self._source], np.clip(wanted[self._source], self._x0, self._x1)
        covered = self._covered(slice(None))
        tokens, compute = self._number("tokens"), self._number("compute")
        left, right = snapped(self.x_of(self._starts), self.x_of(self._ends))
        covered[tokens] = coverage(self._phases(), left, right, SHADES, self.width)
        covered[compute, FRAMEWORK] += np.maximum(0, covered[tokens].sum(axis=0) - covered[compute].sum(axis=0))
        self._single = self._lane != compute
        if self._crowded(compute):
            covered[compute] = averaged(covered[compute], left, right)
        else:
            self._single[:] = True
        self._stack(covered)
        self._part(self._lane[self._single], self._x0[self._single], self._x1[self._single])
        self._part(np.full(len(left), tokens), left, right)
        self._texture(self._codes)

    def draw_totals(self, totals: SpanTotals, preloads: Preloads) -> None:
        """Each token's time shared by kind, neighbours together where a token is below a pixel."""
        table = self.recording.tokens
        begins, owner = bins(self.x_of(self._starts), self.x_of(self._ends), self.width)
        duration, prefill = table.column("duration", self.low, self.high), self._phases() == Phase.PREFILL

        def binned(values: np.ndarray) -> np.ndarray:
            return np.add.reduceat(values, begins, axis=0) if len(begins) else values[:0]

        parts = np.zeros((len(begins) + 1, len(self.lanes), SHADES))  # one more bin, for where there is no token
        layers = [lane.index + 1 for lane in self.lanes if lane.kind == "layer"]
        work = binned(self._some(totals.work[:, layers[0] : layers[-1] + 1])) if layers else None
        reads = binned(self._reads(totals, preloads))
        for number, lane in enumerate(self.lanes):
            match lane.kind:
                case "tokens":
                    values = binned(np.stack([duration * prefill, duration * ~prefill], axis=1))
                case "compute":
                    values = binned(self._parts(totals))
                case "layer":
                    values = work[:, lane.index + 1 - layers[0]]
                case _:
                    values = reads[:, lane.index - 1]
            # A layer's lane tells how its own time is shared; all others fill up with the whole time of the tokens.
            whole = values.sum(axis=1) if lane.kind == "layer" else binned(duration)
            parts[:-1, number, : values.shape[1]] = values / np.maximum(whole, 1)[:, None]
        self._stack(parts.transpose(1, 2, 0)[:, :, owner])
        self._texture(self._codes)

    def paint(self, theme: Theme, lit: tuple[int, int] | None) -> QImage:
        """All lanes, from the top of the first to the bottom of the last; with ``lit``, all but that expert's slices recede."""
        codes = self._codes
        if lit is not None and self.detailed:
            marked = self._covered(self._of(lit)) > 0
            codes = codes.copy()
            below = codes[self._talls[0] :]  # the tokens stay as they are
            below[below > 0] |= DIMMED
            for number, lane in enumerate(self.lanes):
                columns = np.flatnonzero(marked[number].any(axis=0))
                self._rows(codes, number)[:, columns] = code(lane.kind, marked[number][:, columns].argmax(axis=0))
            self._texture(codes)
        height, width = codes.shape
        image = QImage(codes.tobytes(), width, height, width, QImage.Format.Format_Indexed8)
        image.setColorTable(palette(theme))
        return image.convertToFormat(QImage.Format.Format_ARGB32_Premultiplied)

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
        for number in np.flatnonzero(self._single & (right - left >= READABLE * self.ratio))[:MOST_TEXTS].tolist():
            yield self._slice(number), float(left[number]), float(right[number]), int(self._shade[number])

    def at(self, lane: Lane, x: float) -> Slice | None:
        """The slice under ``x`` px of a lane, or the nearest very close to it; the pass where there is none."""
        if lane.kind != "tokens" and self.detailed:
            here = np.flatnonzero(self._single & (self._lane == self.lanes.index(lane)))
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
        work = np.flatnonzero(kind != SpanKind.READ)
        parts = [(np.full(len(work), self._number("compute")), work), (of_layer[layer[work]], work)]
        reads = np.flatnonzero((kind == SpanKind.READ) & (self.rows["outcome"] < len(Outcome)))
        parts.append((of_slot[slot[reads]], reads))
        lane, source = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        shown = lane >= 0
        return lane[shown], source[shown]

    def _fated(self, shade: np.ndarray, preloads: Preloads) -> tuple[np.ndarray, np.ndarray]:
        """Shades of ``rows`` with those read ahead by their fate, and where each of these was wanted, px; infinity for all others."""
        wanted = np.full(len(self.rows), np.inf)
        ahead = np.flatnonzero((self.rows["kind"] == SpanKind.READ) & (self.rows["outcome"] == Outcome.PRELOADED))
        self._textured = len(ahead) > 0
        if self._textured:
            found = preloads.find(self.rows.take(ahead))
            known = found >= 0
            self.ahead = np.stack([ahead[known], found[known]])
            told = preloads.rows.take(found[known])
            shade[ahead] = FATED + Fate.PENDING
            shade[ahead[known]] = FATED + told["fate"]
            wanted[ahead[known]] = np.where(told["fate"] == Fate.JOINED, self.x_of(told["settled"]), np.inf)
        return shade, wanted

    def _crowded(self, number: int) -> bool:
        """Whether most of what the slices of a lane take goes to those too small to be told apart."""
        taken = (np.minimum(self._x1, self.width) - np.maximum(self._x0, 0))[self._lane == number]
        return bool(taken[taken < SMALL * self.ratio].sum() > taken.sum() / 2)

    def _phases(self) -> np.ndarray:
        return self.recording.tokens.column("phase", self.low, self.high).astype(np.int64)

    def _rows(self, codes: np.ndarray, number: int) -> np.ndarray:
        """The part of ``codes`` that a lane takes."""
        return codes[self._tops[number] : self._tops[number] + self._talls[number]]

    def _stack(self, shares: np.ndarray) -> None:
        """Fill the lanes by ``shares`` [G, SHADES, W] of their height."""
        for height in set(self._talls):
            same = [number for number, tall in enumerate(self._talls) if tall == height]
            for number, shades in zip(same, stacked(shares[same], height), strict=True):
                table = np.append(code(self.lanes[number].kind, np.arange(SHADES)), 0).astype(np.uint8)
                self._rows(self._codes, number)[:] = table.take(shades)

    def _covered(self, picked: slice | np.ndarray) -> np.ndarray:
        """How much of each pixel the picked slices cover, [G, SHADES, W]."""
        lane, shade, (x0, x1) = self._lane[picked], self._shade[picked], snapped(self._x0[picked], self._x1[picked])
        joined = np.flatnonzero(shade == FATED + Fate.JOINED)
        if len(joined):  # from the moment it was wanted on it is a read on demand like any other
            wanted, end = np.clip(np.round(self._wanted[picked][joined]), x0[joined], x1[joined]), x1[joined]
            x1[joined] = wanted
            lane, shade = np.append(lane, lane[joined]), np.append(shade, np.full(len(joined), Outcome.LATE))
            x0, x1 = np.append(x0, wanted), np.append(x1, end)
        covered = coverage(lane * SHADES + shade, x0, x1, len(self.lanes) * SHADES, self.width)
        return covered.reshape(len(self.lanes), SHADES, self.width)

    def _part(self, lane: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> None:
        """Leave a gap at the right of slices that are large enough."""
        last = np.round(x1).astype(np.int64) - 1
        large = (x1 - x0 >= SEPARATE) & (last >= 0) & (last < self.width)
        for number, column in zip(lane[large].tolist(), last[large].tolist(), strict=True):
            self._rows(self._codes, number)[:, column] = 0

    def _texture(self, codes: np.ndarray) -> None:
        """What was read ahead looks like its fate, not only by colour."""
        for number, lane in enumerate(self.lanes):
            if lane.kind == "slot" and self._textured:
                rows = self._rows(codes, number)
                for fate in Fate:
                    recedes = (rows == code("slot", FATED + fate)) & receding(fate, *rows.shape, self.ratio)
                    if fate == Fate.WASTED:
                        recedes[:, self._sides(number)] = False
                    rows |= recedes.view(np.uint8) * np.uint8(DIMMED)

    def _sides(self, number: int) -> np.ndarray:
        """The columns at which outlines of a lane begin and end."""
        if not self.detailed:
            return np.empty(0, np.int64)
        mine = np.flatnonzero((self._lane == number) & (self._shade == FATED + Fate.WASTED))
        mine = mine[self._x1[mine] - self._x0[mine] >= SEPARATE]
        sides = np.concatenate([np.round(self._x0[mine]), np.round(self._x1[mine]) - 2]).astype(np.int64)
        return sides[(sides >= 0) & (sides < self.width)]

    def _of(self, expert: tuple[int, int] | None) -> np.ndarray:
        """The slices of an expert."""
        if expert is None or not self.detailed:
            return np.empty(0, np.int64)
        rows = (self.rows["layer"] == expert[0]) & (self.rows["expert"] == expert[1])
        return np.flatnonzero(rows[self._source])

    def _parts(self, totals: SpanTotals) -> np.ndarray:
        """ns of each token by shade, [tokens, SHADES]: the table counts what is shared as attention."""
        attention, *others = (self.recording.tokens.column(name, self.low, self.high) for name in PARTS)
        shared = self._some(totals.shared)
        return np.stack([attention - shared, shared, *others], axis=1)

    def _reads(self, totals: SpanTotals, preloads: Preloads) -> np.ndarray:
        """ns of each token by I/O slot and shade, [tokens, slots, FATED + fates]: what is not settled is pending."""
        reads, fates = self._some(totals.reads[:, : totals.slots]), self._some(preloads.time[:, : totals.slots])
        self._textured = bool(reads[..., Outcome.PRELOADED].any())
        pending = np.maximum(0, reads[..., Outcome.PRELOADED] - fates.sum(axis=-1))
        return np.concatenate([reads[..., :FATED], pending[..., None], fates[..., Fate.USED :]], axis=-1)

    def _some(self, sums: np.ndarray) -> np.ndarray:
        """Rows of the totals for the tokens shown; zeros for those not counted yet."""
        values = sums[self.low : self.high]
        return np.concatenate([values, np.zeros((self.high - self.low - len(values), *values.shape[1:]), values.dtype)])

    def _slice(self, number: int) -> Slice:
        span = self.rows[self._source[number]]
        token = int(span["token"]) if span["token"] >= 0 else None
        return Slice(self.lanes[self._lane[number]], int(span["start"]), int(span["start"] + span["duration"]), token, span)

    def _pass(self, lane: Lane, number: int) -> Slice:
        return Slice(lane, int(self._starts[number]), int(self._ends[number]), self.low + number)
