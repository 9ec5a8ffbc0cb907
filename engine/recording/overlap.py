"""How much of the reading from storage was overlapped by computing."""

from __future__ import annotations

from bisect import bisect_left
from math import nan

import numpy as np

from engine.events import SpanKind
from engine.recording.recording import Recording

CHUNK = 1 << 15  # spans taken in at once, so that a reopened session holds up no frame
COMPUTING = (SpanKind.ATTENTION, SpanKind.SHARED, SpanKind.ROUTER, SpanKind.EXPERT, SpanKind.HEAD, SpanKind.SAMPLE)
"""What counts as computing: not waiting for a read (STALL), not the engine's bookkeeping (ACCOUNT), nor what no span names."""


class Stretches:
    """A set of moments, as stretches of time that do not touch, in order: the union of all that were added."""

    def __init__(self) -> None:
        self._count = 0
        self._arrays = np.zeros((3, 256), np.int64)  # start, end, and how much lies before the start

    def __len__(self) -> int:
        return self._count

    def add(self, starts: np.ndarray, ends: np.ndarray) -> None:
        """Take in some stretches, [n] ns each, in any order; it costs as much as there is from the earliest of them on."""
        if not len(starts):
            return
        kept = bisect_left(self._arrays[1, : self._count], int(starts.min()))
        old = self._arrays[:, kept : self._count]
        starts, ends = np.concatenate([old[0], starts]), np.concatenate([old[1], ends])
        order = np.argsort(starts, kind="stable")
        starts, reached = starts[order], np.maximum.accumulate(ends[order])
        first = np.append(True, starts[1:] > reached[:-1])
        starts, ends = starts[first], reached[np.append(first[1:], True)]
        before = self._length(kept)
        self._reserve(kept + len(starts))
        self._count = kept + len(starts)
        self._arrays[:, kept : self._count] = starts, ends, before + np.cumsum(ends - starts) - (ends - starts)

    def within(self, starts: np.ndarray | int, ends: np.ndarray | int) -> int:
        """How much of the time from each of ``starts`` to its one of ``ends`` belongs to it, ns in all."""
        return int(np.maximum(0, self._until(np.atleast_1d(ends)) - self._until(np.atleast_1d(starts))).sum())

    def _until(self, times: np.ndarray) -> np.ndarray:
        start, end, before = self._arrays[:, : self._count]
        if not self._count:
            return np.zeros(len(times), np.int64)
        index = np.searchsorted(start, times, "right") - 1
        return np.where(index >= 0, before[index] + np.minimum(times, end[index]) - start[index], 0)

    def _length(self, count: int) -> int:
        """How long the first ``count`` stretches are together."""
        if not count:
            return 0
        start, end, before = self._arrays[:, count - 1].tolist()
        return int(before + end - start)

    def _reserve(self, count: int) -> None:
        if count > self._arrays.shape[1]:
            larger = np.zeros((3, 2 * count), np.int64)
            larger[:, : self._count] = self._arrays[:, : self._count]
            self._arrays = larger


class Overlap:
    """When reads were in flight, when the token loop computed, and when either was so, kept up with a recording."""

    def __init__(self) -> None:
        self.reading, self.computing, self._either = Stretches(), Stretches(), Stretches()
        self._seen = 0

    def catch_up(self, recording: Recording) -> bool:
        """Take in what is new, at most CHUNK spans of it; False while there is more."""
        table = recording.spans
        stop = min(len(table), self._seen + CHUNK)
        if stop > self._seen:
            kind, start, duration = (table.column(name, self._seen, stop) for name in ("kind", "start", "duration"))
            read, computing = kind == SpanKind.READ, np.isin(kind, COMPUTING)
            for stretches, picked in ((self.reading, read), (self.computing, computing), (self._either, read | computing)):
                stretches.add(start[picked], (start + duration)[picked])
            self._seen = stop
        return stop == len(table)

    def share(self, start: int, end: int) -> float:
        """Of the time from ``start`` to ``end`` ns in which at least one read was in flight, the share (0..1) in which the token loop
        computed too; nan where nothing was read."""
        reading = self.reading.within(start, end)
        both = reading + self.computing.within(start, end) - self._either.within(start, end)
        return both / reading if reading else nan
