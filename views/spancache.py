"""The spans of the visible window: fetched once, continued by what is new, so that a frame reads only the tail."""

from __future__ import annotations

import numpy as np

from engine.events import SPAN
from engine.recording.recording import Recording
from views.timeaxis import Window

_RAW = np.dtype((np.void, SPAN.itemsize))  # numpy copies structured rows field by field, raw ones a hundred times faster


class SpanCache:
    """``rows`` holds every span that overlaps the window last asked for, and some around it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Another recording is shown."""
        self.rows = np.empty(0, SPAN)
        self._held: tuple[int, float] = (0, 0)  # ns that are complete; to infinity where the tail is taken in
        self._seen = 0  # rows of the table looked at

    def show(self, recording: Recording, window: Window) -> None:
        """Hold the spans of ``window``, ns."""
        start, end = self._held
        width = window[1] - window[0]
        if not (start <= window[0] and window[1] <= end):
            self._fetch(recording, (window[0] - width // 4, window[1] + width // 4))
            return
        count = len(recording.spans)
        if count > self._seen:
            fresh = recording.spans.rows(self._seen, count)
            fresh = fresh.take(np.flatnonzero(fresh["start"] <= end))
            self.rows = np.concatenate([self.rows.view(_RAW), fresh.view(_RAW)]).view(SPAN)
            self._seen = count
        if window[0] - start > width:
            kept = window[0] - width // 4
            self.rows = self.rows.take(np.flatnonzero(self.rows["start"] + self.rows["duration"] >= kept))
            self._held = kept, end

    def _fetch(self, recording: Recording, window: Window) -> None:
        self._seen = len(recording.spans)
        self.rows = recording.spans.between(*window)
        self._held = window[0], float("inf") if window[1] >= recording.duration else window[1]
