"""What the spans of each token add up to, by layer and by I/O lane: drawn where single spans are too small to be seen.

Shapes: T tokens, R = layers + 1 (the first row is what belongs to no layer), K shades of work, S I/O lanes, O outcomes.
"""

from __future__ import annotations

import numpy as np

from engine.events import Outcome, SpanKind
from engine.recording.recording import Recording
from views.timeline_shades import SHADE_OF, SHADES

CHUNK = 50_000  # spans taken in at once, so that a reopened session holds up no frame
SLOTS = 16


class SpanTotals:
    """Sums in ns, kept up with the recording: ``work`` [T, R, K], ``reads`` [T, S, O], ``spans`` [T] counted, and ``shared`` [T], which
    ``tokens`` has no column for."""

    def __init__(self, layers: int = 0) -> None:
        self.layers = layers
        self.slots = 1  # I/O lanes seen
        self._seen = 0
        self._arrays = self._allocate(256)

    @property
    def work(self) -> np.ndarray:
        return self._arrays[0]

    @property
    def reads(self) -> np.ndarray:
        return self._arrays[1]

    @property
    def spans(self) -> np.ndarray:
        return self._arrays[2]

    @property
    def shared(self) -> np.ndarray:
        return self._arrays[3]

    def catch_up(self, recording: Recording) -> bool:
        """Take in what is new, at most CHUNK spans of it; False while there is more."""
        stop = min(len(recording.spans), self._seen + CHUNK)
        if stop > self._seen:
            self._add(recording.spans.rows(self._seen, stop))
            self._seen = stop
        return stop == len(recording.spans)

    def _add(self, rows: np.ndarray) -> None:
        rows = rows.take(np.flatnonzero((rows["token"] >= 0) & (rows["layer"] < self.layers)))
        if not len(rows):
            return
        first, last = int(rows["token"].min()), int(rows["token"].max()) + 1
        self._reserve(last)
        token = rows["token"].astype(np.int64) - first
        self.spans[first:last] += np.bincount(token, minlength=last - first)
        shared = rows["kind"] == SpanKind.SHARED
        self.shared[first:last] += np.bincount(token[shared], rows["duration"][shared], last - first)
        read = rows["kind"] == SpanKind.READ
        work, reads = ~read, read & (rows["lane"] > 0)
        lane = np.minimum(rows["lane"][reads], SLOTS).astype(np.int64)
        if len(lane):
            self.slots = max(self.slots, int(lane.max()))
        for array, picked, row, kind in (
            (self.work, work, rows["layer"][work].astype(np.int64) + 1, SHADE_OF[rows["kind"][work]]),
            (self.reads, reads, lane - 1, np.minimum(rows["outcome"][reads], len(Outcome) - 1)),
        ):
            _, width, depth = array.shape
            index = (token[picked] * width + row) * depth + kind
            sums = np.bincount(index, rows["duration"][picked], (last - first) * width * depth)
            array[first:last] += sums.reshape(-1, width, depth)

    def _allocate(self, tokens: int) -> tuple[np.ndarray, ...]:
        work, reads = (tokens, self.layers + 1, SHADES), (tokens, SLOTS, len(Outcome))
        return np.zeros(work, np.float32), np.zeros(reads, np.float32), np.zeros(tokens, np.int64), np.zeros(tokens)

    def _reserve(self, tokens: int) -> None:
        old = self._arrays
        if tokens > len(old[0]):
            self._arrays = self._allocate(max(tokens, 2 * len(old[0])))
            for new, former in zip(self._arrays, old, strict=True):
                new[: len(former)] = former
