"""Drives the real window without a screen and takes its picture. What it waits for is what a user would wait for."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QEventLoop, QTimer, qInstallMessageHandler
from PySide6.QtWidgets import QApplication

from app import jobs
from app.demo import NAME
from app.live import Live
from app.preferences import Preferences
from app.window import Window
from engine.errors import EngineError

if TYPE_CHECKING:
    from app.commands.shot import Wanted

PATIENCE_S = 600.0
SETTLE_S = 0.4  # for panels to lay themselves out anew


class Photographer:
    """Opens a window with settings of its own, so that the user's layout stays as it is; closes it on leaving."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._folder = tempfile.TemporaryDirectory()
        self.window = Window(Live(), Preferences(Path(self._folder.name) / "window.json"))

    def __enter__(self) -> Photographer:
        qInstallMessageHandler(_pass_on)
        self.window.showNormal()  # at the size that is asked for, whatever the screen
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.window.close()
        self.window.deleteLater()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        qInstallMessageHandler(None)
        self._folder.cleanup()

    def tell_the_story(self, model: Path, wanted: Wanted) -> Iterator[Path]:
        """Empty, running, cut down to a smaller budget, looked into; then the session and its trace."""
        window, live = self.window, self.window.live
        yield from self.pictures("empty", wanted)
        window.begin(model, NAME if wanted.model == NAME else "", autorun=False)
        self.until(lambda: live.can_run)
        live.undo.change("max_tokens", wanted.tokens)
        live.undo.change("ignore_eos", True)
        self.until(lambda: live.values["max_tokens"] == wanted.tokens and live.values["ignore_eos"] is True)
        self._make(wanted.tokens // 2)
        live.undo.change("budget", wanted.cut)
        self._make(wanted.tokens // 4)
        yield from self.pictures("running", wanted)
        if live.busy:
            live.pause_or_resume()
            self.until(lambda: not live.busy)
        yield from self.pictures("looked-into", wanted, self._look_into)
        yield self._keep("session.edgemoe", jobs.copy_session)
        yield self._keep("trace.json.gz", jobs.export_session)

    def pictures(self, name: str, wanted: Wanted, arrange: Callable[[], None] = lambda: None) -> Iterator[Path]:
        """One picture a theme and size of the window as it is."""
        for theme in wanted.themes:
            self.window.apply_theme(theme)
            for width, height in wanted.sizes:
                self.window.resize(width, height)
                self._settle()
                self.window.area.arrange()
                arrange()
                self._settle()
                path = self._out / f"{name}-{theme}-{width}x{height}.png"
                if not self.window.grab().save(str(path)):
                    raise EngineError(f"{path} cannot be written; give another folder")
                yield path

    def until(self, condition: Callable[[], bool]) -> None:
        """Let the window live until ``condition`` holds.

        Raises:
            EngineError: the engine failed or died, or the wait was too long.
        """
        end = time.monotonic() + PATIENCE_S
        while not condition():
            live = self.window.live
            trouble = self.window.banners.text("died") or self.window.banners.text("failed")
            if live.state == "dead" or trouble:
                raise EngineError(trouble or "The engine stopped")
            if time.monotonic() > end:
                raise EngineError(f"Nothing more happened for {PATIENCE_S:.0f} s (the engine is {live.state})")
            self.wait(0.02)

    def wait(self, seconds: float) -> None:
        """Let the window live for a while."""
        loop = QEventLoop()
        QTimer.singleShot(int(seconds * 1000), loop.quit)
        loop.exec()

    def _make(self, count: int) -> None:
        """Have about ``count`` tokens made, and pause. A model that was done before it could be paused is run anew when more are wanted."""
        live = self.window.live
        tokens = live.recording.tokens
        before = len(tokens)
        if live.busy:
            live.pause_or_resume()
        else:
            live.run(self.window.prompt())
        self.until(lambda: len(tokens) > before)  # only then does its state tell of this run
        self.until(lambda: len(tokens) >= before + count or not live.busy)
        if live.busy:
            live.pause_or_resume()
            self.until(lambda: live.state != "running")

    def _settle(self) -> None:
        """Give panels the time to take a size, and wait until all that can be seen show what there is by then."""
        self.wait(SETTLE_S)
        revision = self.window.shown.revision
        self.until(lambda: all(panel.shows(revision) for panel in self.window.panels.values() if panel.isVisible()))

    def _look_into(self) -> None:
        """Select a range of tokens, and pin a token and the expert used most."""
        recording = self.window.shown
        starts, uses = recording.tokens.column("start"), recording.grid.uses
        layer, expert = divmod(int(uses.argmax()), uses.shape[1])
        first, last = len(starts) // 3, len(starts) // 2
        begin, end = int(starts[first]), int(starts[last])
        self.window.selection.pick(start=begin, end=end, token=first + 3, layer=layer, expert=expert)
        self.window.selection.show((begin - (end - begin) // 10, end + (end - begin) // 10))
        for key in ("inspector", "prediction", "whatif"):
            self.window.area.docks[key].raise_()

    def _keep(self, name: str, write: Callable[[Path, Path, jobs.Report], None]) -> Path:
        recording, path = self.window.live.recording, self._out / name
        if recording.path is None:
            raise EngineError(recording.trouble or "The session was not written to disk")
        recording.flush()
        write(recording.path, path, lambda done, total: None)
        return path


def _pass_on(kind: object, context: object, text: str) -> None:
    """Qt's messages to stderr, but for what every widget says where there is no screen."""
    if "propagateSizeHints" not in text:
        print(text, file=sys.stderr)
