"""Mouse and keys on a time axis: zoom, pan, fit, follow, ranges. Charts and timeline behave the same because they share this."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QElapsedTimer, QObject, QPointF, Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent, QWheelEvent

from engine.recording.recording import Recording
from views.selection import Selection
from views.timeaxis import Window, bounds, within, zoomed

DRAG = 4  # px from which a press is a drag
HOVER_EVERY = 25  # ms
STEP = 1.25


class Navigator(QObject):
    """Turns events of one widget into changes of the selection's view and range. The widget forwards its events here.

    ``time_at`` tells the ns under an x of the widget; ``shown`` the window it shows now.
    """

    hovered = Signal(QPointF)  # at most every 25 ms
    left = Signal()
    clicked = Signal(QPointF)
    drafted = Signal()  # the range being dragged is another: ``draft``
    ranging = Signal(bool)

    def __init__(
        self, selection: Selection, recording: Callable[[], Recording], time_at: Callable[[float], int], shown: Callable[[], Window],
        parent: QObject | None = None,
    ) -> None:  # fmt: skip
        super().__init__(parent)
        self.selection, self._recording, self._time_at, self._shown = selection, recording, time_at, shown
        self.range_mode = False
        self.draft: Window | None = None
        self._press: QPointF | None = None
        self._grip: tuple[Window, float] = ((0, 1), 0.0)
        self._moved = self._choosing = False
        self._pointer: QPointF | None = None
        self._clock = QElapsedTimer()
        self._clock.start()

    # --- what the widget forwards --------------------------------------------------------------------------------------

    def wheel(self, event: QWheelEvent) -> None:
        """Zoom at the cursor; sideways or with shift, pan."""
        turn, side = event.angleDelta().y(), event.angleDelta().x()
        if event.modifiers() & Qt.KeyboardModifier.ShiftModifier or abs(side) > abs(turn):
            self.pan(-(side or turn) / 1200)
        elif turn:
            self.zoom(STEP ** (turn / 120), self._time_at(event.position().x()))
        event.accept()

    def press(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return
        self._press, self._moved = event.position(), False
        self._choosing = self.range_mode or bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        self._grip = (self._shown(), event.position().x())
        event.accept()

    def move(self, event: QMouseEvent, width: float) -> None:
        """``width`` is how many pixels the shown window takes."""
        place = event.position()
        if self._press is None:
            self._pointer = place
            if self._clock.elapsed() >= HOVER_EVERY:
                self.flush()
            return
        if not self._moved and abs(place.x() - self._press.x()) < DRAG:
            return
        self._moved = True
        if self._choosing:
            ends = sorted((self._time_at(self._press.x()), self._time_at(place.x())))
            self.draft = (ends[0], ends[1])
            self.drafted.emit()
        else:
            (start, end), x = self._grip
            shift = int((x - place.x()) * (end - start) / max(1.0, width))
            self._show((start + shift, end + shift))

    def release(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self._press is None:
            return
        self._press = None
        if self.draft is not None:
            (start, end), self.draft = self.draft, None
            self.selection.pick(start=start, end=end)
            self.drafted.emit()
            self.leave()  # now the range's figures are to be read, not those of the token under the pointer
        elif not self._moved:
            self.clicked.emit(event.position())

    def leave(self) -> None:
        self._pointer = None
        self.left.emit()

    def flush(self) -> None:
        """Tell the last place of the pointer, if that is still due."""
        if self._pointer is not None:
            place, self._pointer = self._pointer, None
            self._clock.restart()
            self.hovered.emit(place)

    def key(self, event: QKeyEvent) -> bool:
        """Act on a key; False if it means nothing here."""
        if event.modifiers() & ~(Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.KeypadModifier):
            return False
        actions: dict[int, Callable[[], None]] = {
            Qt.Key.Key_W: lambda: self.zoom(STEP), Qt.Key.Key_S: lambda: self.zoom(1 / STEP),
            Qt.Key.Key_A: lambda: self.pan(-0.15), Qt.Key.Key_D: lambda: self.pan(0.15),
            Qt.Key.Key_F: self.fit, Qt.Key.Key_L: self.toggle_follow, Qt.Key.Key_R: lambda: self.set_ranging(not self.range_mode),
        }  # fmt: skip
        action = actions.get(event.key())
        if event.key() == Qt.Key.Key_Escape and (self.draft or self.selection.picked.start is not None or self.range_mode):
            action = self.drop_range
        if action is None:
            return False
        action()
        event.accept()
        return True

    # --- what buttons and menus call -----------------------------------------------------------------------------------

    def zoom(self, factor: float, at: int | None = None) -> None:
        """Zoom in (above 1) or out around ``at`` ns, else around the middle."""
        window = self._shown()
        self._show(zoomed(window, factor, (window[0] + window[1]) // 2 if at is None else at, bounds(self._recording())))

    def pan(self, share: float) -> None:
        """Move by a share of the window's width."""
        start, end = self._shown()
        shift = int(share * (end - start))
        self._show((start + shift, end + shift))

    def fit(self) -> None:
        """Show the selected range; all of the session where there is none or where it is shown already."""
        picked = self.selection.picked
        if picked.start is not None and picked.end is not None and picked.end > picked.start:
            margin = (picked.end - picked.start) // 50
            around = (picked.start - margin, picked.end + margin)
            if self.selection.view != around:
                self.selection.show(around)
                return
        self.selection.show(bounds(self._recording()))

    def follow(self, on: bool) -> None:
        """Follow the newest, or stay with what is shown."""
        self.selection.show(None if on else self._shown())

    def toggle_follow(self) -> None:
        self.follow(self.selection.view is not None)

    def set_ranging(self, on: bool) -> None:
        """Whether a plain drag selects a range instead of moving the view."""
        if on != self.range_mode:
            self.range_mode = on
            self.ranging.emit(on)

    def drop_range(self) -> None:
        self.draft, self._press = None, None
        self.set_ranging(False)
        self.drafted.emit()
        self.selection.pick(start=None, end=None)

    def _show(self, window: Window) -> None:
        self.selection.show(within(window, bounds(self._recording())))


class Navigable:
    """A widget on a time axis: mouse and keys go to its ``navigator``."""

    navigator: Navigator

    @property
    def span(self) -> float:
        """Pixels that the shown window takes."""
        raise NotImplementedError

    def wheelEvent(self, event: QWheelEvent) -> None:
        self.navigator.wheel(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self.navigator.press(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self.navigator.move(event, self.span)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self.navigator.release(event)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.navigator.fit()

    def leaveEvent(self, event: object) -> None:
        self.navigator.leave()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if not self.navigator.key(event):
            event.ignore()
