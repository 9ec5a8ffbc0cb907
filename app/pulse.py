"""Which panels repaint in which beat, so that no beat is long and the engine keeps its cores."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from views.panel import Panel

BUDGET_S = 0.006  # painting follows, and takes about as long again
SHARE = 0.08 if (os.cpu_count() or 2) <= 2 else 0.4  # of a core, for all that the window does; the engine wants the rest
PATIENCE = 3  # beats left out in a row at most: what is pointed at must answer
SAVED_S = 0.03  # processor time that a quiet window can have in hand


class Pulse:
    """Ticks the panels in turn; what does not fit into a beat comes first in the next, and beats are left out where they cost too much."""

    def __init__(self, panels: Sequence[Panel], budget: float = BUDGET_S, share: float = SHARE) -> None:
        self.panels = list(panels)
        self.budget, self.share = budget, share
        self.beats = 0
        self._next = 0
        self._left_out = 0
        self._credit = 0.0
        self._seen = time.perf_counter(), time.thread_time()

    def beat(self) -> None:
        """Tick panels until all had their turn or the time is up; at least one."""
        self.beats += 1
        if not self._affordable():
            return
        start = time.perf_counter()
        for _ in self.panels:
            panel = self.panels[self._next]
            self._next = (self._next + 1) % len(self.panels)
            panel.tick()
            if time.perf_counter() - start > self.budget:
                break

    def _affordable(self) -> bool:
        """Whether this thread, painting included, has kept to its share of a core."""
        now = time.perf_counter(), time.thread_time()
        passed, spent = now[0] - self._seen[0], now[1] - self._seen[1]
        self._seen = now
        self._credit = min(SAVED_S, self._credit + self.share * passed - spent)
        if self._credit < 0 and self._left_out < PATIENCE:
            self._left_out += 1
            return False
        self._credit, self._left_out = max(self._credit, -SAVED_S), 0
        return True
