"""One expert or one token in full: its figures, its history, and the events behind them."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPointF, QSize, Qt, Slot
from PySide6.QtGui import QKeyEvent, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from engine.recording.history import ExpertHistory
from engine.recording.reasons import reason_of
from engine.recording.recording import Recording
from views.expert_strip import ExpertStrip
from views.facts import SWATCH, Facts
from views.fonts import smaller
from views.inspector_facts import experts_of_token, facts_of_expert, facts_of_token, shares_of_token, state_of, token_text
from views.inspector_key import keys_of_bits, keys_of_expert, keys_of_outcomes
from views.inspector_reasons import why
from views.inspector_tables import EventsModel, PathDelegate, PathModel, plain_table, style_headers
from views.key_legend import KeyLegend
from views.panel import pages
from views.segments import Segments
from views.selection import Selection
from views.shares import SharesBar
from views.theme import Theme
from views.timeaxis import token_window
from views.timepanel import TimePanel
from views.tuning_model import TuningModel

STEP = 1 << 15  # rows of each table looked at in one go, so that a long session never blocks
EVENTS = 200
HINT = ("Click an expert in the grid or a token in the text to see what happened to it.\n\n"
        "While nothing is pinned, pointing at one is enough.")  # fmt: skip
Subject = tuple[str, int, int] | None  # ("expert", layer, expert) or ("token", row, -1)


class InspectorPanel(TimePanel):
    """Shows what is pinned, of an expert and a token the one pinned last; else what is pointed at."""

    key = "inspector"
    title = "Inspector"
    every = 3
    keys = (("↑  ↓", "Walk through the events or experts"), ("Enter", "Pin the token or the expert"), ("Esc", "Let go of what is pinned"))

    def __init__(
        self, recording: Recording, selection: Selection, settings: TuningModel, theme: Theme, parent: QWidget | None = None
    ) -> None:
        super().__init__(recording, selection, settings, theme, parent)
        self.history: ExpertHistory | None = None
        self.subject: Subject = None
        self._preferred = "expert"
        self._picked = selection.picked
        self._own = False  # the panel itself is pinning: it goes on showing what it shows
        self.build()
        self.restyle(theme)
        selection.changed.connect(self._prefer_newest)

    def build(self) -> None:
        self.heading, self.state = QLabel(self), QLabel(self)
        self.heading.setTextFormat(Qt.TextFormat.PlainText)
        font = self.heading.font()
        font.setBold(True)
        self.heading.setFont(font)
        for label in (self.heading, self.state):
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.choice = Segments((("expert", "Expert", "The pinned expert"), ("token", "Token", "The pinned token")), self)
        self.choice.changed.connect(self._choose)
        titles = QVBoxLayout()
        titles.setSpacing(0)
        titles.addWidget(self.heading)
        titles.addWidget(self.state)
        head = QHBoxLayout()
        head.addLayout(titles, 1)
        head.addWidget(self.choice, 0, Qt.AlignmentFlag.AlignTop)
        self.facts, self.strip = Facts(self.theme, self), ExpertStrip(self.theme, self.navigator, self)
        self.shares, self.reason, self.legend = SharesBar(self.theme), QLabel(self), KeyLegend(self.theme, self)
        self.legend.setFont(smaller(self.font()))
        self.reason.setWordWrap(True)
        self.reason.setTextFormat(Qt.TextFormat.PlainText)
        self.reason.setFont(smaller(self.font()))
        self.events, self.path, self.cells = EventsModel(self.theme, self), PathModel(self), PathDelegate(self.theme, self)
        self.event_table, self.path_table = plain_table(QTableView(self)), plain_table(QTableView(self))
        self._build_tables()
        body = QWidget(self)
        column = QVBoxLayout(body)
        column.setContentsMargins(8, 6, 8, 4)
        column.setSpacing(5)
        column.addLayout(head)
        for widget in (self.reason, self.facts, self.shares, self.strip, self.legend):
            column.addWidget(widget)
        column.addWidget(self.event_table, 1)
        column.addWidget(self.path_table, 1)
        self._hint = QLabel(HINT, self)
        self.area = QScrollArea(self)  # so that the panel can be made low
        self.area.setWidgetResizable(True)
        self.area.setFrameShape(QFrame.Shape.NoFrame)
        self.area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.area.setWidget(body)
        self._pages = pages(self, self._hint, self.area)

    def _build_tables(self) -> None:
        events, path = self.event_table, self.path_table
        events.setModel(self.events)
        events.verticalHeader().hide()
        events.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        events.setIconSize(QSize(SWATCH, SWATCH))
        width = events.fontMetrics().horizontalAdvance
        for section, text in enumerate((" 000.000 s ", " 00000 ")):
            events.setColumnWidth(section, width(text) + 8)
        events.horizontalHeader().setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        path.setModel(self.path)
        path.setItemDelegate(self.cells)
        path.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        for table, pin in ((events, self._pin_event), (path, self._pin_cell)):
            table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
            table.clicked.connect(pin)
            table.activated.connect(pin)

    # --- which one -----------------------------------------------------------------------------------------------------

    def subject_now(self) -> Subject:
        """What is to be shown."""
        picked, hovered = self.selection.picked, self.selection.hover_expert
        pinned = {"expert": self._expert(picked.layer, picked.expert), "token": self._token(picked.token)}
        other = "token" if self._preferred == "expert" else "expert"
        return (pinned[self._preferred] or pinned[other] or (self._expert(*hovered) if hovered else None)
                or self._token(self.selection.hover_token))  # fmt: skip

    def _expert(self, layer: int | None, expert: int | None) -> Subject:
        layers, experts = self.recording.grid.shape
        known = layer is not None and expert is not None and 0 <= layer < layers and 0 <= expert < experts
        return ("expert", layer, expert) if known else None  # type: ignore[return-value]

    def _token(self, token: int | None) -> Subject:
        return ("token", token, -1) if token is not None and 0 <= token < len(self.recording.tokens) else None

    def _is_pinned(self, subject: Subject) -> bool:
        picked = self.selection.picked
        return subject in (("expert", picked.layer, picked.expert), ("token", picked.token, -1))

    # --- TimePanel -----------------------------------------------------------------------------------------------------

    def time_at(self, x: float) -> int:
        return self.strip.time_at(x)

    def click_at(self, place: QPointF) -> None:
        self._own = True
        super().click_at(place)
        self._own = False

    def reset(self) -> None:
        super().reset()
        self.history = self.subject = None

    def refresh(self) -> None:
        subject = self.subject_now()
        changed, self.subject = subject != self.subject, subject
        self._pages.setCurrentIndex(0 if subject is None else 1)
        if subject is None:
            self.history = None
            return
        kind = subject[0]
        picked = self.selection.picked
        self.choice.setVisible(picked.token is not None and picked.expert is not None)
        self.choice.choose(kind)
        for place, widgets in (("expert", (self.reason, self.strip, self.event_table)), ("token", (self.shares, self.path_table))):
            for widget in widgets:
                widget.setVisible(kind == place)
        if kind == "expert":
            self._show_expert(subject[1], subject[2], changed)
        elif changed:
            self._show_token(subject[1])

    def point(self) -> None:
        if self.subject_now() != self.subject:
            self.refresh()
        if self.subject is None or self.subject[0] != "expert":
            return
        bands = []
        if (span := self.range()) is not None:
            bands.append((span, self.strip.band_color(0.16, "accent")))
        for token, share in ((self.selection.picked.token, 0.34), (self.selection.hover_token, 0.24)):
            if (when := token_window(self.recording, token)) is not None:
                bands.append((when, self.strip.band_color(share)))
        self.strip.show_bands(bands)

    def restyle(self, theme: Theme) -> None:
        self.theme = self.shares.theme = self.legend.theme = theme
        for part in (self.facts, self.strip, self.choice, self.cells):
            part.restyle(theme)
        self._hint.setStyleSheet(f"color: {theme.muted}")
        self.state.setStyleSheet(f"color: {theme.muted}")
        for table in (self.event_table, self.path_table):
            style_headers(table, theme)
        self.events.restyle(theme, self.selection.picked.token)
        self.shares.update()
        self._stale = True
        self.tick(force=True)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_path()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape and self._is_pinned(self.subject):
            expert = self.subject is not None and self.subject[0] == "expert"
            self.selection.pick(**(dict(layer=None, expert=None) if expert else dict(token=None)))
        else:
            super().keyPressEvent(event)

    # --- an expert -----------------------------------------------------------------------------------------------------

    def _show_expert(self, layer: int, expert: int, changed: bool) -> None:
        if changed or self.history is None:
            self.history = ExpertHistory(self.recording, layer, expert)
        share = self.history.follow(STEP)
        # A long session is read over several ticks.
        self._stale = self._stale or share < 1
        role, text = state_of(self.recording, layer, expert)
        self.heading.setText(f"Layer {layer}, expert {expert}")
        more = f"reading the session, {100 * share:.0f}%" if share < 1 else self._how(("expert", layer, expert))
        color, sign = (self.theme.muted, "□") if role == "absent" else (getattr(self.theme, role), "■")
        self.state.setText(f'<span style="color:{color}">{sign}</span> {text} · {more}')
        lines, scores = why(reason_of(self.history)) if share == 1 else ([], "")
        self.reason.setText("\n".join(lines))
        self.reason.setToolTip(scores)
        self.facts.show_facts(facts_of_expert(self.recording, layer, expert, self.history.account()))
        self.legend.set_keys(keys_of_expert(self.history, self.theme))
        self.strip.show_history(self.history, self.window(), [mark.time for mark in self.marks()])
        self.events.restyle(self.theme, self.selection.picked.token)
        scroll = self.event_table.verticalScrollBar()
        place = scroll.value()
        added = self.events.show_events(self.history.events(EVENTS))
        if place and added:  # someone reads further down: what he reads stays where it is
            scroll.setValue(place + added)

    # --- a token -------------------------------------------------------------------------------------------------------

    def _show_token(self, token: int) -> None:
        self.heading.setText(f"Token {token}  “{token_text(self.recording, token)}”")
        start = token_window(self.recording, token)
        at = f"began at {start[0] / 1e9:.3f} s" if start else ""
        self.state.setText(f"{at} · {self._how(('token', token, -1))}")
        self.facts.show_facts(facts_of_token(self.recording, token))
        self.shares.show_shares(shares_of_token(self.recording, token))
        accesses = experts_of_token(self.recording, token)
        self.path.show_accesses(accesses)
        self.legend.set_keys([*keys_of_outcomes(accesses["outcome"], self.theme), *keys_of_bits(accesses["bits"], self.theme)])
        self._fit_path()

    def _fit_path(self) -> None:
        """Columns as wide as there is room, never narrower than a cell."""
        count = max(1, self.path.columnCount())
        table = self.path_table
        room = self.area.viewport().width() - 16 - table.verticalHeader().sizeHint().width() - 12
        table.horizontalHeader().setDefaultSectionSize(max(self.cells.fit(table.fontMetrics()), min(140, room // count)))

    def _how(self, subject: Subject) -> str:
        return "pinned" if self._is_pinned(subject) else "pointed at"

    # --- slots ---------------------------------------------------------------------------------------------------------

    @Slot()
    def _prefer_newest(self) -> None:
        former, picked = self._picked, self.selection.picked
        self._picked = picked
        if self._own:
            return
        if picked.token is not None and picked.token != former.token:
            self._preferred = "token"
        if picked.expert is not None and (picked.layer, picked.expert) != (former.layer, former.expert):
            self._preferred = "expert"

    @Slot(str)
    def _choose(self, kind: str) -> None:
        self._preferred = kind
        self._stale = True

    @Slot(QModelIndex)
    def _pin_event(self, index: QModelIndex) -> None:
        token = self.events.events[index.row()].token
        if token >= 0:
            self._own = True
            self.selection.pick(token=token)
            self._own = False

    @Slot(QModelIndex)
    def _pin_cell(self, index: QModelIndex) -> None:
        access = self.path.access(index)
        if access is not None:
            self.selection.pick(layer=int(access["layer"]), expert=int(access["expert"]))
