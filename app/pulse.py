"""Which panels repaint in which beat, so that no beat is long."""

from __future__ import annotations

import time
from collections.abc import Sequence

from views.panel import Panel

BUDGET_S = 0.006  # painting follows, and takes about as long again


class Pulse:
    """Ticks the panels in turn; what does not fit into a beat comes first in the next."""

    def __init__(self, panels: Sequence[Panel], budget: float = BUDGET_S) -> None:
        self.panels = list(panels)
        self.budget = budget
        self.beats = 0
        self._next = 0

    def beat(self) -> None:
        """Tick panels until all had their turn or the time is up; at least one."""
        self.beats += 1
        start = time.perf_counter()
        for _ in self.panels:
            panel = self.panels[self._next]
            self._next = (self._next + 1) % len(self.panels)
            panel.tick()
            if time.perf_counter() - start > self.budget:
                break
