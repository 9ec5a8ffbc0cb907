"""The newest of many values, passed on only so often."""

from __future__ import annotations

from PySide6.QtCore import QElapsedTimer, QObject, QTimer, Signal, Slot


class Throttle(QObject):
    """``offer`` a value; ``ready`` gives the first at once and then the newest every ``interval`` ms while there are any."""

    ready = Signal(object)

    def __init__(self, interval: int, parent: QObject) -> None:
        super().__init__(parent)
        self.interval = interval
        self._clock = QElapsedTimer()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.flush)
        self._waiting: list[object] = []

    def offer(self, value: object) -> None:
        self._waiting = [value]
        if self._timer.isActive():
            return
        rest = self.interval - self._clock.elapsed() if self._clock.isValid() else 0
        if rest <= 0:
            self.flush()
        else:
            self._timer.start(int(rest))

    def drop(self) -> None:
        """Forget what waits."""
        self._waiting.clear()

    @property
    def busy(self) -> bool:
        """A value waits to be passed on."""
        return bool(self._waiting)

    @Slot()
    def flush(self) -> None:
        """Pass on what waits, now."""
        if self._waiting:
            value = self._waiting.pop()
            self._clock.start()
            self.ready.emit(value)
