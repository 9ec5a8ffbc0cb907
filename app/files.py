"""Files in and out of the window: models, sessions, exports. What goes wrong is a banner, never a box in the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Slot
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QMessageBox

from app import jobs, sessions
from app.demo import resolve_model
from engine.errors import EngineError
from engine.recording.recording import Recording

if TYPE_CHECKING:
    from app.window import Window

SESSIONS = f"Sessions (*{sessions.SUFFIX});;All files (*)"


class Files(QObject):
    """Each ``ask_…`` shows the dialog of what the method beside it does with a path."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._window = window
        self._jobs = jobs.Jobs(self)
        self._jobs.finished.connect(self._on_job)
        self._jobs.progressed.connect(self._on_progress)
        self._jobs.cancelled.connect(self._on_cancelled)

    def open_path(self, path: Path) -> None:
        """A folder is a model, a .json file a bitwidth plan, any other a session."""
        if path.is_dir():
            self.open_model(path)
        elif path.suffix == ".json":
            self._window.planning.open(path)
        else:
            self.open_session(path)

    def open_model(self, path: Path) -> None:
        """Load a checkpoint or store in a fresh engine."""
        try:
            path = resolve_model(str(path))
        except EngineError as error:
            self._window.banners.say("open", "error", str(error), {"Open model…": self.ask_model})
            return
        self._window.banners.clear("open")
        self._window.preferences.remember(path)
        self._window.begin(path, autorun=False)

    def open_session(self, path: Path) -> bool:
        """Show a recorded session; one that cannot be read leaves what is shown and says why."""
        live = self._window.live.recording
        if live.path is not None and path.exists() and live.path.exists() and path.samefile(live.path):
            self._window.show_live()
            return True
        QGuiApplication.setOverrideCursor(Qt.CursorShape.WaitCursor)
        try:
            recording = Recording.open(path)
        except EngineError as error:
            self._window.banners.say("open", "error", str(error), {"Open session…": self.ask_session})
            return False
        finally:
            QGuiApplication.restoreOverrideCursor()
        self._window.banners.clear("open")
        self._window.preferences.remember(path)
        self._window.show_recording(recording)
        return True

    def save_session_as(self, path: Path) -> None:
        """Keep a copy of the session shown, as far as it goes now."""
        self._window.shown.flush()
        source = self._window.shown.path
        if source is not None:
            self._start("Saving the session", path, lambda report: jobs.copy_session(source, path, report))

    def export(self, path: Path) -> None:
        """Write the session shown in the format that the name asks for, in the background, from a copy of its own."""
        self._window.shown.flush()
        source = self._window.shown.path
        if source is None:
            self._window.banners.say("export", "error", "This session is not on disk, so it cannot be exported.")
        else:
            self._start("Exporting", path, lambda report: jobs.export_session(source, path, report))

    def ask_model(self) -> None:
        text = QFileDialog.getExistingDirectory(self._window, "Open the folder of a checkpoint or store")
        if text:
            self.open_model(Path(text))

    def ask_session(self) -> None:
        text, _ = QFileDialog.getOpenFileName(self._window, "Open a recorded session", str(sessions.folder()), SESSIONS)
        if text:
            self.open_session(Path(text))

    def save_session(self) -> None:
        self._ask("Save session", sessions.SUFFIX, SESSIONS, self.save_session_as)

    def export_trace(self) -> None:
        self._ask("Export trace", ".json.gz", "Chrome trace (*.json.gz)", self.export)

    def export_csv(self) -> None:
        self._ask("Export CSV", ".csv", "One row a token (*.csv)", self.export)

    def about(self) -> None:
        machine = self._window.shown.machine
        on = f"<p>Engine: torch {machine.torch}, transformers {machine.transformers}, Python {machine.python}</p>" if machine else ""
        QMessageBox.about(
            self._window, "EdgeMoE Studio",
            "<p><b>EdgeMoE Studio</b></p><p>See, tune and understand how a mixture-of-experts language model runs on a machine "
            f"too small to hold it.</p>{on}",
        )  # fmt: skip

    def _ask(self, title: str, suffix: str, kinds: str, then: Callable[[Path], None]) -> None:
        stem = self._window.shown.path.stem if self._window.shown.path else "session"
        text, _ = QFileDialog.getSaveFileName(self._window, title, str(Path.home() / f"{stem}{suffix}"), kinds)
        if text:
            then(Path(text if text.endswith(suffix) else text + suffix))

    def _start(self, what: str, path: Path, work: Callable[[jobs.Report], None]) -> None:
        self._window.banners.say("export", "info", f"{what} to {path}…", {"Cancel": self._jobs.cancel}, closable=False)
        self._jobs.start(str(path), work)

    @Slot(str, int, int)
    def _on_progress(self, path: str, done: int, total: int) -> None:
        banner = self._window.banners.banner("export")
        if banner is not None and total:
            banner.label.setText(f"Writing {path}… {done / total:.0%}")

    @Slot(str)
    def _on_cancelled(self, path: str) -> None:
        self._window.banners.say("export", "info", f"Not written: {path}")

    @Slot(str, str)
    def _on_job(self, path: str, trouble: str) -> None:
        if trouble:
            self._window.banners.say("export", "error", trouble)
        else:
            self._window.banners.say("export", "info", f"Written: {path}")

    def wait(self) -> None:
        """Let exports under way come to their end."""
        self._jobs.wait()
