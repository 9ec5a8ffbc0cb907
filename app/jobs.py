"""Long work on files beside the event loop: saving and exporting a session from a reader of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, QRunnable, QThreadPool, Signal

from engine.errors import EngineError
from engine.recording.recording import Recording


class Jobs(QObject):
    """Work by title, one after the other. ``finished``: title, and one line on what went wrong or nothing."""

    finished = Signal(str, str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool = QThreadPool(self)
        self._pool.setMaxThreadCount(1)

    def start(self, title: str, work: Callable[[], None]) -> None:
        self._pool.start(_Job(self, title, work))

    def wait(self) -> None:
        self._pool.waitForDone()


class _Job(QRunnable):
    def __init__(self, jobs: Jobs, title: str, work: Callable[[], None]) -> None:
        super().__init__()
        self._jobs, self._title, self._work = jobs, title, work

    def run(self) -> None:
        try:
            self._work()
        except EngineError as error:
            trouble = str(error)
        except OSError as error:
            trouble = f"{self._title} cannot be written: {error.strerror or error}"
        except Exception as error:  # it must reach the user, and the thread has nobody else to tell
            trouble = f"{self._title} was not written: {type(error).__name__}: {error}"
        else:
            trouble = ""
        self._jobs.finished.emit(self._title, trouble)


def copy_session(source: Path, target: Path) -> None:
    """Copy a session file, whole or not at all."""
    partial = target.with_name(target.name + ".part")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def export_session(source: Path, target: Path, exporter: Callable[[Recording, Path], object]) -> None:
    """Open the session anew, so that nothing is shared with the one being filled, and export it."""
    recording = Recording.open(source)
    try:
        exporter(recording, target)
    finally:
        recording.close()
