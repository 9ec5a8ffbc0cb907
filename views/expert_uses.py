"""Which tokens used one expert, looked up for as many tokens as are on the screen."""

from __future__ import annotations

import numpy as np

from engine.recording.recording import Recording

_KEPT = 50_000  # tokens looked up for one expert before all is forgotten


class ExpertUses:
    """Remembers what was looked up, so that a running text costs one look at each new token."""

    def __init__(self) -> None:
        self._expert: tuple[int, int] | None = None
        self._known: dict[int, bool] = {}

    def clear(self) -> None:
        """Another recording is shown."""
        self._expert = None
        self._known.clear()

    def rows(self, recording: Recording, expert: tuple[int, int] | None, first: int, stop: int) -> set[int]:
        """Those of the token rows ``first`` to ``stop`` that used ``expert`` (layer, index)."""
        if expert is None:
            return set()
        if expert != self._expert or len(self._known) > _KEPT:
            self._expert, self._known = expert, {}
        missing = [row for row in range(first, stop) if row not in self._known]
        if missing:
            self._look_up(recording, expert, missing[0], missing[-1] + 1)
        return {row for row in range(first, stop) if self._known[row]}

    def _look_up(self, recording: Recording, expert: tuple[int, int], first: int, stop: int) -> None:
        table = recording.accesses
        low, high = table.search("token", first), table.search("token", stop)
        layers, experts = table.column("layer", low, high), table.column("expert", low, high)
        used = table.column("token", low, high)[(layers == expert[0]) & (experts == expert[1])]
        self._known.update(dict.fromkeys(range(first, stop), False))
        self._known.update(dict.fromkeys(np.unique(used).tolist(), True))
