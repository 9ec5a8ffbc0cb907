"""Work in a thread of its own, looked at by a timer; newer work takes the place of what is under way."""

from __future__ import annotations

import threading

from PySide6.QtCore import QObject, QTimer, Slot


class Work(threading.Thread):
    """What is done. ``stop`` makes ``run`` return soon."""

    def stop(self) -> None:
        raise NotImplementedError


class Background(QObject):
    """One piece of work at a time. Every ``interval`` ms ``look`` takes what is new; ``ended`` when it is over, not when it was stopped."""

    def __init__(self, interval: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._work: Work | None = None
        self._timer = QTimer(self, interval=interval)
        self._timer.timeout.connect(self._look)

    @property
    def busy(self) -> bool:
        return self._work is not None

    def begin(self, work: Work) -> None:
        """Let go of what is under way, and start."""
        self.stop()
        self._work = work
        work.start()
        self._timer.start()

    def stop(self) -> None:
        """Let what is under way go, and wait until it has."""
        work, self._work = self._work, None
        self._timer.stop()
        if work is not None:
            work.stop()
            work.join()

    def look(self, work: Work) -> None:
        """Take what is new."""
        raise NotImplementedError

    def over(self) -> None:
        """The work came to its end."""

    @Slot()
    def _look(self) -> None:
        work = self._work
        if work is None:
            return
        done = not work.is_alive()  # asked before looking: what came in between is not lost
        self.look(work)
        if done and work is self._work:
            self.stop()
            self.over()
