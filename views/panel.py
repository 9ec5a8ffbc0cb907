"""The base of every panel: the four collaborators, and when to repaint."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QLabel, QStackedLayout, QWidget

from engine.recording.recording import Recording
from views.selection import Selection
from views.theme import Theme
from views.tuning_model import TuningModel


def pages(panel: QWidget, hint: QLabel, full: QWidget) -> QStackedLayout:
    """A panel of two pages: the ``hint`` what to do, centred, as long as there is nothing to show, and then the ``full`` one."""
    hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
    hint.setWordWrap(True)
    hint.setMargin(16)
    layout = QStackedLayout(panel)
    layout.addWidget(hint)
    layout.addWidget(full)
    return layout


class Panel(QWidget):
    """A view of one recording. The window calls ``tick`` from its 30 Hz timer for visible panels; ``refresh`` runs only when there is news.

    ``key`` names the panel in saved layouts, ``title`` is its dock's title, ``every`` repaints only each n-th tick (tables: 4).
    """

    key = ""
    title = ""
    every = 1

    def __init__(
        self, recording: Recording, selection: Selection, settings: TuningModel, theme: Theme, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.recording, self.selection, self.settings, self.theme = recording, selection, settings, theme
        self._seen = -1
        self._ticks = 0

    def build(self) -> None:
        """Create the widgets, once; called by the concrete panel's constructor."""

    def show_recording(self, recording: Recording) -> None:
        """Show another recording from the start."""
        self.recording = recording
        self._seen = -1
        self.reset()
        self.tick(force=True)

    def tick(self, force: bool = False) -> None:
        """Repaint if the recording has news and the panel can be seen."""
        self._ticks += 1
        if not force and (self._ticks % self.every or not self.isVisible()):
            return
        if force or self.recording.revision != self._seen:
            self._seen = self.recording.revision
            self.refresh()

    def shows(self, revision: int) -> bool:
        """Whether it has drawn its recording as it was then, or later."""
        return self._seen >= revision

    def reset(self) -> None:
        """Forget what was drawn from the former recording."""

    def refresh(self) -> None:
        """Draw what is new in the recording."""

    def restyle(self, theme: Theme) -> None:
        """Take another theme; panels with own colours extend this."""
        self.theme = theme
        self.refresh()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.tick(force=True)
