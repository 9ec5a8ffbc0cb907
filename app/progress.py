"""How far long work is, on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from views.pace import Pace

if TYPE_CHECKING:
    from engine.store import Progress

_REDRAW_SECONDS = 0.1


class Bar:
    """One line, redrawn; on no terminal, one line a stage. Leaves the line behind it free on exit."""

    def __init__(self) -> None:
        self._stage, self._drawn, self._open = "", 0.0, False
        self._pace = Pace()
        self._terminal = sys.stderr.isatty()

    def show(self, stage: str, done: int, total: int, unit: str = "bytes") -> None:
        """``done`` of ``total`` in ``unit``; nothing is shown of work whose size is not known."""
        if total == 0:
            return
        now = time.monotonic()
        self._pace.note(stage, done, total)
        if stage == self._stage and (not self._terminal or (now - self._drawn < _REDRAW_SECONDS and done < total)):
            return
        if stage != self._stage and self._terminal:
            self.end()
        self._stage, self._drawn = stage, now
        line = f"{stage}: {done / 1e6:,.1f} of {total / 1e6:,.1f} MB" if unit == "bytes" else f"{stage}: {done:,} of {total:,} {unit}"
        line = ", ".join(filter(None, (line, self._pace.left())))
        if self._terminal:
            print(f"\r{line:<90}", end="", file=sys.stderr, flush=True)
            self._open = True
        else:
            print(line, file=sys.stderr)

    def show_conversion(self, progress: Progress) -> None:
        self.show(progress.stage, progress.done, progress.total)

    def end(self) -> None:
        if self._open:
            print(file=sys.stderr)
            self._open = False

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

