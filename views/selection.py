"""What the user points at: one object that every view reads and writes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from PySide6.QtCore import QObject, Signal

HISTORY = 100


@dataclass(frozen=True)
class Picked:
    """``start``/``end`` in ns of session time (None: everything). ``layer``/``expert``: the pinned expert. ``token``: the pinned row."""

    start: int | None = None
    end: int | None = None
    layer: int | None = None
    expert: int | None = None
    token: int | None = None


class Selection(QObject):
    """Range, expert and token that are selected (with history), and those merely hovered (without)."""

    changed = Signal()
    hovered = Signal()
    view_changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.picked = Picked()
        self.hover_token: int | None = None
        self.hover_expert: tuple[int, int] | None = None
        self.view: tuple[int, int] | None = None  # visible time window in ns shared by the time-axis views; None follows the newest
        self._past: list[Picked] = []
        self._future: list[Picked] = []

    def pick(self, **fields: int | None) -> None:
        """Change some fields of the selection; the others stay."""
        new = replace(self.picked, **fields)
        if new == self.picked:
            return
        self._past = [*self._past[-HISTORY:], self.picked]
        self._future.clear()
        self.picked = new
        self.changed.emit()

    def clear(self) -> None:
        self.pick(start=None, end=None, layer=None, expert=None, token=None)

    def reset(self) -> None:
        """Forget everything, history too: another recording is shown."""
        self.picked, self._past, self._future = Picked(), [], []
        self.hover_token = self.hover_expert = self.view = None
        self.changed.emit()
        self.hovered.emit()
        self.view_changed.emit()

    def back(self) -> None:
        if self._past:
            self._future.append(self.picked)
            self.picked = self._past.pop()
            self.changed.emit()

    def forward(self) -> None:
        if self._future:
            self._past.append(self.picked)
            self.picked = self._future.pop()
            self.changed.emit()

    def hover(self, token: int | None = None, expert: tuple[int, int] | None = None) -> None:
        """Point at a token or at one expert (layer, index), or at nothing."""
        if (token, expert) != (self.hover_token, self.hover_expert):
            self.hover_token, self.hover_expert = token, expert
            self.hovered.emit()

    def show(self, view: tuple[int, int] | None) -> None:
        """Set the visible time window of all time axes; None follows the newest."""
        if view != self.view:
            self.view = view
            self.view_changed.emit()
