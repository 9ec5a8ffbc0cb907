"""The base of the panels that lie on the time axis: which window, range and token to show, and when to repaint."""

from __future__ import annotations

from PySide6.QtCore import QPointF, Slot
from PySide6.QtWidgets import QWidget

from engine.recording.recording import Recording
from views.navigator import Navigator
from views.panel import Panel
from views.selection import Selection
from views.theme import Theme
from views.timeaxis import FOLLOW, Mark, Window, mark_beside, mark_of, newest, token_at, token_window
from views.tuning_model import TuningModel


class TimePanel(Panel):
    """Everything the selection changes is drawn with the next tick, so that ten events in one frame cost one repaint.

    Concrete panels give ``time_at`` and ``refresh``; ``point`` draws what is hovered and must be cheap.
    """

    follow_tokens = FOLLOW

    def __init__(
        self, recording: Recording, selection: Selection, settings: TuningModel, theme: Theme, parent: QWidget | None = None
    ) -> None:
        super().__init__(recording, selection, settings, theme, parent)
        self._stale = True
        self._pointing = False
        self._hovering = False  # the pointer is here
        self._marks: list[Mark] = []
        self.navigator = Navigator(selection, self._current, self.time_at, self.window, self)
        self.navigator.hovered.connect(self._hover_at)
        self.navigator.left.connect(self._hover_nothing)
        self.navigator.clicked.connect(self.click_at)
        self.navigator.drafted.connect(self._note_hover)
        selection.changed.connect(self._note_change)
        selection.view_changed.connect(self._note_change)
        selection.hovered.connect(self._note_hover)

    # --- for concrete panels -------------------------------------------------------------------------------------------

    def time_at(self, x: float) -> int:
        """The session time, ns, under an x of the plotting widget."""
        raise NotImplementedError

    def point(self) -> None:
        """Draw the hovered token and the range being dragged."""

    def hover_at(self, place: QPointF) -> None:
        """The pointer rests at ``place`` of the plotting widget: point at the token there."""
        self.selection.hover(token=token_at(self.recording, self.time_at(place.x())))

    def click_at(self, place: QPointF) -> None:
        """Pin the token at ``place``; the same token again lets go."""
        token = token_at(self.recording, self.time_at(place.x()))
        self.selection.pick(token=None if token == self.selection.picked.token else token)

    def window(self) -> Window:
        """What is to be seen, ns."""
        return self.selection.view or newest(self.recording, self.follow_tokens)

    def range(self) -> Window | None:
        """The selected range, also while it is being dragged; None for no range."""
        if self.navigator.draft is not None:
            return self.navigator.draft
        picked = self.selection.picked
        if picked.start is None or picked.end is None or picked.end <= picked.start:
            return None
        return picked.start, picked.end

    def marks(self) -> list[Mark]:
        """The setting changes, and from when to when a calibration ran beside, in order."""
        changes, besides = self.recording.changes, self.recording.besides
        if len(changes) + len(besides) != len(self._marks):
            told = [*(mark_of(change) for change in changes), *(mark_beside(beside) for beside in besides)]
            self._marks = sorted(told, key=lambda mark: mark.time)
        return self._marks

    # --- Panel -----------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        super().reset()
        self._marks = []
        self._stale = True

    def tick(self, force: bool = False) -> None:
        if not force and not self.isVisible():
            return
        self.navigator.flush()
        force, self._stale, seen = force or self._stale, False, self._seen
        super().tick(force)
        if self._hovering and self._seen != seen:
            self._let_go_of_what_passed()
        if self._pointing or force or self._seen != seen:
            self._pointing = False
            self.point()

    def _current(self) -> Recording:
        return self.recording

    @Slot()
    def _note_change(self) -> None:
        self._stale = True

    @Slot()
    def _note_hover(self) -> None:
        self._pointing = True

    @Slot(QPointF)
    def _hover_at(self, place: QPointF) -> None:
        self._hovering = True
        self.hover_at(place)

    @Slot()
    def _hover_nothing(self) -> None:
        self._hovering = False
        self.selection.hover()

    def _let_go_of_what_passed(self) -> None:
        """A token that has run out of sight under a resting pointer is pointed at no more."""
        when = token_window(self.recording, self.selection.hover_token)
        if when is not None and when[1] < self.window()[0]:
            self.selection.hover()
