"""How long work will take that tells how far it is. No Qt here."""

from __future__ import annotations

import time

_LEAST_S = 1.0  # before which the pace says little


class Pace:
    """Of one stage after the other; a stage that was held goes on anew by ``forget``."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """What comes next is the beginning."""
        self._stage, self._began, self._first, self._last, self._total, self._spent = "", 0.0, 0, 0, 0, 0.0

    def note(self, stage: str, done: int, total: int) -> None:
        """``done`` of ``total`` of a stage, now."""
        now = time.monotonic()
        if (stage, total) != (self._stage, self._total) or done < self._last:
            self._stage, self._total, self._began, self._first = stage, total, now, done
        self._last, self._spent = done, now - self._began

    def left(self) -> str:
        """``about 40 s left``; empty until there is a pace, and when all is done."""
        done, rest = self._last - self._first, self._total - self._last
        if done <= 0 or rest <= 0 or self._spent < _LEAST_S:
            return ""
        seconds = self._spent / done * rest
        return f"about {seconds:.0f} s left" if seconds < 100 else f"about {seconds / 60:.0f} min left"
