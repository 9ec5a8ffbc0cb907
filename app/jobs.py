"""Long work on files beside the event loop: saving and exporting a session from a reader of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, QRunnable, QThreadPool, Signal

from engine.errors import Cancelled, EngineError
from engine.recording.output import whole_file
from engine.recording.recording import Recording

Report = Callable[[int, int], None]
_CHUNK = 1 << 22


class Jobs(QObject):
    """Work by title, one after the other. Its report of done and total, ``progressed``, is where a cancelled job ends.

    ``finished``: title, and one line on what went wrong or nothing; or else ``cancelled``: title.
    """

    progressed = Signal(str, int, int)
    finished = Signal(str, str)
    cancelled = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool = QThreadPool(self)
        self._pool.setMaxThreadCount(1)
        self.cancellations = 0

    def start(self, title: str, work: Callable[[Report], None]) -> None:
        self._pool.start(_Job(self, title, work))

    def cancel(self) -> None:
        """End what is under way, and what waits for it."""
        self.cancellations += 1

    def wait(self) -> None:
        self._pool.waitForDone()


class _Job(QRunnable):
    def __init__(self, jobs: Jobs, title: str, work: Callable[[Report], None]) -> None:
        super().__init__()
        self._jobs, self._title, self._work = jobs, title, work
        self._before = jobs.cancellations

    def run(self) -> None:
        try:
            self._work(self._report)
        except Cancelled:
            self._jobs.cancelled.emit(self._title)
            return
        except EngineError as error:
            trouble = str(error)
        except OSError as error:
            trouble = f"{self._title} cannot be written: {error.strerror or error}"
        except Exception as error:  # it must reach the user, and the thread has nobody else to tell
            trouble = f"{self._title} was not written: {type(error).__name__}: {error}"
        else:
            trouble = ""
        self._jobs.finished.emit(self._title, trouble)

    def _report(self, done: int, total: int) -> None:
        if self._jobs.cancellations != self._before:
            raise Cancelled
        self._jobs.progressed.emit(self._title, done, total)


def copy_session(source: Path, target: Path, report: Report) -> None:
    """Copy a session file, whole or not at all."""
    with source.open("rb") as file, whole_file(target) as copy:
        while data := file.read(_CHUNK):
            copy.write(data)
            report(copy.tell(), source.stat().st_size)


def export_session(source: Path, target: Path, report: Report) -> None:
    """Open the session anew, so that nothing is shared with the one being filled, and export it as its name asks."""
    from engine.recording.exports import export  # its readers and writers are slow to import

    recording = Recording.open(source)
    try:
        report(0, len(recording.spans))
        export(recording, target, report)
    finally:
        recording.close()
