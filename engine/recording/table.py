"""One table of a recording: columnar, append-only."""

from __future__ import annotations

import numpy as np

from engine.events import TABLES, TIME_COLUMN
from engine.recording.columns import Columns


class Table:
    """The rows of one of ``engine.events.TABLES``. Row numbers never change; nothing is ever removed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dtype = TABLES[name]
        self._columns = Columns(self.dtype)

    def __len__(self) -> int:
        return len(self._columns)

    def append(self, rows: np.ndarray) -> None:
        """Add structured rows, [n] of this table's dtype."""
        self._columns.append(rows)

    def column(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Values of one column for rows ``start`` to ``stop``, contiguous and read-only; negative counts from the end."""
        return self._columns.column(name, start, stop)

    def rows(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Structured rows ``start`` to ``stop`` (a copy); negative counts from the end."""
        picked = slice(*slice(start, stop).indices(len(self)))
        out = np.empty(max(0, picked.stop - picked.start), self.dtype)
        self._columns.fill(out, 0, picked)
        return out

    def between(self, t0: int, t1: int) -> np.ndarray:
        """Structured rows that overlap [t0, t1] ns: by start and duration where the table has them, else by time."""
        begin = self._columns.column(TIME_COLUMN[self.name])
        end = begin + self._columns.column("duration") if "duration" in (self.dtype.names or ()) else begin
        found = np.flatnonzero((begin <= t1) & (end >= t0))
        out = np.empty(len(found), self.dtype)
        self._columns.fill(out, 0, found)
        return out
