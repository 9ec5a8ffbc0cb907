"""The inspector's two tables: the newest events of an expert, and the experts of a token by layer and rank."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QRect, Qt
from PySide6.QtGui import QBrush, QColor, QFontMetrics, QPainter, QPixmap
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QHeaderView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
)

from engine.events import WIDTHS, Phase
from engine.recording.history import Event
from engine.recording.outcomes import OUTCOME_NAMES
from views.colors import mix
from views.facts import SWATCH, draw_swatch
from views.fonts import smaller
from views.grid_shades import OUTCOMES
from views.inspector_facts import line_of_event
from views.theme import Theme
from views.units import format_time

Index = QModelIndex
NONE = QModelIndex()
DISPLAY, TIP, COLOR = Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.DecorationRole
ALIGN, BACK = Qt.ItemDataRole.TextAlignmentRole, Qt.ItemDataRole.BackgroundRole


class EventsModel(QAbstractTableModel):
    """Events, newest first."""

    headers = ("Time", "Token", "What happened")

    def __init__(self, theme: Theme, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.theme = theme
        self.events: list[Event] = []
        self.pinned: int | None = None
        self._swatches: dict[str, QPixmap] = {}

    def show_events(self, events: list[Event]) -> int:
        """Take the newest events; returns how many came on top of those shown, which stay as they are."""
        if events == self.events:
            return 0
        known = events.index(self.events[0]) if self.events and self.events[0] in events else 0
        if not known or events[known:] != self.events[: len(events) - known]:
            self.beginResetModel()
            self.events = events
            self.endResetModel()
            return 0
        self.beginInsertRows(NONE, 0, known - 1)
        self.events = events[:known] + self.events
        self.endInsertRows()
        if len(self.events) > len(events):
            self.beginRemoveRows(NONE, len(events), len(self.events) - 1)
            self.events = events
            self.endRemoveRows()
        return known

    def restyle(self, theme: Theme, pinned: int | None) -> None:
        """Colours, and the token whose events are marked."""
        if (theme, pinned) != (self.theme, self.pinned):
            self.theme, self.pinned = theme, pinned
            self._swatches.clear()
            if self.events:
                self.dataChanged.emit(self.index(0, 0), self.index(len(self.events) - 1, 2))

    def _swatch(self, color: str) -> QPixmap:
        found = self._swatches.get(color)
        if found is None:
            found = self._swatches[color] = QPixmap(SWATCH, SWATCH)
            painter = QPainter(found)
            draw_swatch(painter, found.rect(), color, self.theme)
            painter.end()
        return found

    def rowCount(self, parent: Index = NONE) -> int:
        return 0 if parent.isValid() else len(self.events)

    def columnCount(self, parent: Index = NONE) -> int:
        return 0 if parent.isValid() else len(self.headers)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = DISPLAY) -> object:
        if orientation == Qt.Orientation.Horizontal and role == DISPLAY:
            return self.headers[section]
        if role == ALIGN:
            return Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft
        return None

    def data(self, index: Index, role: int = DISPLAY) -> object:
        event, column = self.events[index.row()], index.column()
        if role == DISPLAY:
            if column == 0:
                return format_time(event.time)
            return (str(event.token) if event.token >= 0 else "–") if column == 1 else line_of_event(event)[1]
        if role == COLOR and column == 2:
            return self._swatch(getattr(self.theme, line_of_event(event)[0]))
        if role == BACK and event.token == self.pinned and event.token >= 0:
            return QBrush(QColor(mix(self.theme.base, self.theme.accent, 0.2)))
        if role == TIP:
            return f"{line_of_event(event)[1]}\nClick to pin token {event.token}" if event.token >= 0 else line_of_event(event)[1]
        return None


class PathModel(QAbstractTableModel):
    """The experts of one pass: a row a layer, a column a rank (a prefill: by how many tokens were routed there)."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.accesses = np.empty(0)
        self.layers: list[int] = []
        self.places = np.zeros((0, 0), np.int64)  # row of ``accesses`` by layer shown and rank, -1 for none

    def show_accesses(self, accesses: np.ndarray) -> None:
        """``accesses`` in order of layer and rank."""
        self.beginResetModel()
        self.accesses = accesses
        layers, first, counts = np.unique(accesses["layer"], return_index=True, return_counts=True)
        self.layers = layers.tolist()
        self.places = np.full((len(layers), int(counts.max(initial=0))), -1)
        rows = np.arange(len(accesses))
        layer = np.repeat(np.arange(len(layers)), counts)
        self.places[layer, rows - first[layer]] = rows
        self.endResetModel()

    def access(self, index: Index) -> np.void | None:
        """The row of ``accesses`` under a cell."""
        place = self.places[index.row(), index.column()]
        return self.accesses[place] if place >= 0 else None

    def rowCount(self, parent: Index = NONE) -> int:
        return 0 if parent.isValid() else self.places.shape[0]

    def columnCount(self, parent: Index = NONE) -> int:
        return 0 if parent.isValid() else self.places.shape[1]

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = DISPLAY) -> object:
        if role == DISPLAY:
            return f"rank {section + 1}" if orientation == Qt.Orientation.Horizontal else f"L{self.layers[section]}"
        return None

    def data(self, index: Index, role: int = DISPLAY) -> object:
        access = self.access(index)
        if access is None:
            return None
        if role == DISPLAY:
            return f"E{access['expert']} {access['weight']:.2f}"
        if role == TIP:
            routed = f", {access['tokens']} prompt tokens" if access["phase"] == Phase.PREFILL else ""
            outcome = {int(key): name for key, name in OUTCOME_NAMES.items()}.get(int(access["outcome"]), "unknown")
            return (f"Layer {access['layer']}, expert {access['expert']}{routed}\ngate weight {access['weight']:.3f}, "
                    f"{access['bits']} bits, {outcome}\nClick to pin the expert")  # fmt: skip
        return None


class PathDelegate(QStyledItemDelegate):
    """A cell: a stroke coloured by outcome, the expert, its gate weight, a swatch coloured by bits with their number."""

    def __init__(self, theme: Theme, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._weight_x = self._bits_x = self._rise = 0
        self.restyle(theme)

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        self._text, self._muted, self._chosen = QColor(theme.text), QColor(theme.muted), QColor(mix(theme.base, theme.accent, 0.25))
        self._outcomes = {int(outcome): QColor(getattr(theme, role)) for outcome, (role, _) in OUTCOMES.items()}

    def fit(self, metrics: QFontMetrics) -> int:
        """Lay the cells out for a font; returns the width one needs, px."""
        self._weight_x = 10 + metrics.horizontalAdvance("E000 ")
        self._bits_x = self._weight_x + metrics.horizontalAdvance("0.00 ") + 2
        self._rise = metrics.ascent() // 2
        return self._bits_x + SWATCH + 5 + metrics.horizontalAdvance("16")

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        model = index.model()
        access = model.access(index) if isinstance(model, PathModel) else None
        if access is None:
            return
        _, _, _, expert, bits, outcome, _, _, _, weight = access.item()
        box = option.rect
        if option.state & QStyle.StateFlag.State_Selected:
            painter.fillRect(box, self._chosen)
        left, middle = box.left(), box.center().y()
        base = middle + self._rise
        painter.fillRect(left + 2, box.top() + 2, 4, box.height() - 4, self._outcomes.get(outcome, self._muted))
        painter.setPen(self._text)
        painter.drawText(left + 10, base, f"E{expert}")
        painter.setPen(self._muted)
        painter.drawText(left + self._weight_x, base, f"{weight:.2f}")
        if bits in WIDTHS:
            draw_swatch(painter, QRect(left + self._bits_x, middle - SWATCH // 2, SWATCH, SWATCH), self.theme.bits(bits), self.theme)
        painter.drawText(left + self._bits_x + SWATCH + 3, base, str(bits))


def plain_table(view: QTableView) -> QTableView:
    """A table without a grid, in a small font, its rows as low as that allows."""
    font = smaller(view.font())
    for part in (view, view.horizontalHeader(), view.verticalHeader()):
        part.setFont(font)
    row = view.fontMetrics().height() + 4
    view.setCornerButtonEnabled(False)
    view.setShowGrid(False)
    view.setWordWrap(False)
    view.setFrameShape(QTableView.Shape.NoFrame)
    view.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    view.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
    view.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
    view.verticalHeader().setDefaultSectionSize(row)
    view.verticalHeader().setMinimumSectionSize(row)
    view.horizontalHeader().setHighlightSections(False)
    view.horizontalHeader().setFixedHeight(row + 2)
    view.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
    view.setMinimumHeight(3 * row)
    return view


def style_headers(view: QTableView, theme: Theme) -> None:
    """Flat headers. The cells take the application's palette: a style sheet would make each cost twice as much to paint."""
    plain = f"background: {theme.base}; color: {theme.muted}; border: none;"
    for header in (view.horizontalHeader(), view.verticalHeader()):
        header.setStyleSheet(f"QHeaderView {{ {plain} }} QHeaderView::section {{ {plain} padding: 0 4px; }}")
    for corner in view.findChildren(QAbstractButton):
        corner.setStyleSheet(f"QTableCornerButton::section {{ {plain} }}")
