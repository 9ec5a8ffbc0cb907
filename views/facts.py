"""Facts in two columns: what it is, muted, and the value, painted so that many of them cost little and none jumps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QHelpEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from views.colors import mix
from views.fonts import smaller
from views.theme import Theme

SWATCH = 8
GAP = 8


@dataclass(frozen=True)
class Fact:
    """``role`` colours a swatch before the name. ``marked`` values, (role, text), follow ``value``. ``wide`` takes both columns."""

    name: str
    value: str
    help: str = ""
    role: str = ""
    marked: tuple[tuple[str, str], ...] = ()
    wide: bool = False

    @property
    def text(self) -> str:
        """All of the value as text."""
        return ", ".join(filter(None, (self.value, *(text for _, text in self.marked))))


class Facts(QWidget):
    """Shows facts row by row; what does not fit is cut with an ellipsis and told whole by the tooltip."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.theme = theme
        self.facts: tuple[Fact, ...] = ()
        self._places: list[QRect] = []
        self._names = [0, 0]
        self.setFont(smaller(self.font()))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def show_facts(self, facts: tuple[Fact, ...]) -> None:
        if facts != self.facts:
            self.facts = facts
            self._arrange()
            self.update()

    def value(self, name: str) -> str:
        """What the fact of that name says.

        Raises:
            StopIteration: there is no such fact.
        """
        return next(fact.text for fact in self.facts if fact.name == name)

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        self.update()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def event(self, event: object) -> bool:
        if isinstance(event, QHelpEvent):
            found = next((fact for fact, place in zip(self.facts, self._places, strict=True) if place.contains(event.pos())), None)
            if found is not None and found.help:
                QToolTip.showText(event.globalPos(), f"{found.name}: {found.text}\n{found.help}", self)
            else:
                QToolTip.hideText()
            return True
        return super().event(event)  # type: ignore[arg-type]

    def _arrange(self) -> None:
        metrics, half = self.fontMetrics(), (self.width() - GAP) // 2
        height = metrics.height() + 3
        self._names = [0, 0]
        self._places = []
        column, y = 0, 0
        for fact in self.facts:
            if fact.wide and column:
                column, y = 0, y + height
            swatch = SWATCH + 5 if fact.role else 0
            self._names[column] = max(self._names[column], swatch + metrics.horizontalAdvance(fact.name))
            self._places.append(QRect(column * (half + GAP), y, self.width() if fact.wide else half, height))
            column = 0 if fact.wide else 1 - column
            y += height if not column else 0
        self.setFixedHeight(max(1, y + (height if column else 0)))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter, metrics, theme = QPainter(self), self.fontMetrics(), self.theme
        for fact, place in zip(self.facts, self._places, strict=True):
            x, end = place.left(), place.right()
            if fact.role:
                self._swatch(painter, x, place, fact.role)
                x += SWATCH + 5
            painter.setPen(QColor(theme.muted))
            painter.drawText(QRect(x, place.top(), end - x, place.height()), Qt.AlignmentFlag.AlignVCenter, fact.name)
            x = place.left() + self._names[1 if place.left() else 0] + GAP
            for role, text in (("", fact.value), *fact.marked):
                if not text or x >= end:
                    continue
                if role:
                    self._swatch(painter, x, place, role)
                    x += SWATCH + 4
                shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, end - x)
                painter.setPen(QColor(theme.text))
                painter.drawText(QRect(x, place.top(), end - x, place.height()), Qt.AlignmentFlag.AlignVCenter, shown)
                x += metrics.horizontalAdvance(text) + GAP
        painter.end()

    def _swatch(self, painter: QPainter, x: int, place: QRect, role: str) -> None:
        draw_swatch(painter, QRect(x, place.center().y() - SWATCH // 2, SWATCH, SWATCH), getattr(self.theme, role), self.theme)


@lru_cache(maxsize=64)
def _inks(color: str, muted: str) -> tuple[QColor, QColor]:
    return QColor(mix(color, muted, 0.5)), QColor(color)


def draw_swatch(painter: QPainter, box: QRect, color: str, theme: Theme) -> None:
    """A square of a colour with a thin edge, so that colours near the background's show too."""
    edge, ink = _inks(color, theme.muted)
    painter.fillRect(box, edge)
    painter.fillRect(box.adjusted(1, 1, -1, -1), ink)
