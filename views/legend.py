"""A legend that also reads out: swatch, name and current value of each series, in columns that do not jump."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QRect, QSize, Qt
from PySide6.QtGui import QColor, QHelpEvent, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from engine.recording.preloads import Fate
from views.fonts import smaller
from views.textures import swatch
from views.theme import Theme

SWATCH = 9
GAP, TIGHT = 12, 6


@dataclass(frozen=True)
class Entry:
    """One series. ``widest`` is the longest value to expect, which fixes the width; ``line`` draws a line instead of a box."""

    name: str
    color: str  # role of the theme; empty for none
    widest: str = "000.0 ms"
    line: bool = False
    help: str = ""
    fate: Fate | None = None  # draws a read ahead of that fate


class Legend(QWidget):
    """Entries in as few rows as the width allows. The last entries move down first; nothing is ever clipped."""

    def __init__(self, theme: Theme, entries: tuple[Entry, ...] = (), parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.theme = theme
        self.entries: tuple[Entry, ...] = ()
        self.values: dict[str, str] = {}
        self._places: list[QRect] = []
        self._rows = 1
        self.setFont(smaller(self.font()))
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setSizePolicy(policy)
        self.set_entries(entries)

    def set_entries(self, entries: tuple[Entry, ...]) -> None:
        """Show other series."""
        if entries != self.entries:
            self.entries = entries
            self._arrange()
            self.update()

    def set_values(self, values: dict[str, str]) -> None:
        """Values by name; what is not named reads as nothing."""
        if values != self.values:
            self.values = values
            self.update()

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(120, self._rows * (self.fontMetrics().height() + 2))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._arrange()

    def event(self, event: object) -> bool:
        if isinstance(event, QHelpEvent):
            for entry, place in zip(self.entries, self._places, strict=True):
                if place.contains(event.pos()) and entry.help:
                    QToolTip.showText(event.globalPos(), entry.help, self)
                    return True
            QToolTip.hideText()
        return super().event(event)  # type: ignore[arg-type]

    def _arrange(self) -> None:
        metrics = self.fontMetrics()
        height = metrics.height() + 2
        widths = [
            (SWATCH + 5 if entry.color else 0) + metrics.horizontalAdvance(" ".join(filter(None, (entry.name, entry.widest))))
            for entry in self.entries
        ]
        tight = GAP > (self.width() - sum(widths)) / max(1, len(widths) - 1) >= TIGHT  # one line, if it is a matter of the gaps
        x = y = 0
        self._places = []
        for width in widths:
            if x and x + width > self.width():
                x, y = 0, y + height
            self._places.append(QRect(x, y, width, height))
            x += width + (TIGHT if tight else GAP)
        wanted = y + height if self.entries else 0
        self._rows = wanted // height
        if wanted != self.height():
            self.setFixedHeight(wanted)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        metrics = self.fontMetrics()
        for entry, place in zip(self.entries, self._places, strict=True):
            x, middle = place.left(), place.center().y()
            if entry.color:
                thick = 3 if entry.line else SWATCH
                if entry.fate is None:
                    painter.fillRect(x, middle - thick // 2, SWATCH, thick, QColor(getattr(self.theme, entry.color)))
                else:
                    painter.drawImage(x, middle - SWATCH // 2, swatch(self.theme, entry.fate, SWATCH, self.devicePixelRatioF()))
                x += SWATCH + 5
            painter.setPen(QColor(self.theme.muted))
            width = metrics.horizontalAdvance(entry.name)
            painter.drawText(QRect(x, place.top(), width + 2, place.height()), Qt.AlignmentFlag.AlignVCenter, entry.name)
            painter.setPen(QColor(self.theme.text))
            rest = QRect(x + (width + metrics.horizontalAdvance(" ") if width else 0), place.top(), place.width(), place.height())
            painter.drawText(rest, Qt.AlignmentFlag.AlignVCenter, self.values.get(entry.name, ""))
        painter.end()
