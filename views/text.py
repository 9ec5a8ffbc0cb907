"""The prompt, and the text that came of it: every token on a tint of what it cost."""

from __future__ import annotations

import math

from PySide6.QtCore import QPoint, QRect, Qt, Signal, Slot
from PySide6.QtGui import QColor, QGuiApplication, QIcon, QKeyEvent, QKeySequence, QPainter, QPen, QPixmap, QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QHBoxLayout, QLabel, QSplitter, QToolButton, QVBoxLayout, QWidget

from engine.recording.recording import Recording
from profiles.prompts import load_prompts
from views.expert_uses import ExpertUses
from views.key_legend import SCALE, KeyLegend
from views.panel import Panel
from views.prompt_box import FEWEST, LINES, PromptBox
from views.segments import Segments
from views.selection import Selection
from views.text_canvas import TextCanvas
from views.text_comparison import ComparisonBar
from views.text_requests import feed, heading, request_of, text_of
from views.text_status import choice_line, token_line, total_line
from views.text_tints import MODES, Tints, palette
from views.theme import Theme
from views.throttle import Throttle
from views.timeaxis import rows_within
from views.tuning_model import TuningModel

HOVER_INTERVAL = 33  # ms: every other panel redraws when the mouse moves here
EMPTY = "Run the prompt above (Ctrl+Return): its text appears here, token by token."
MARGIN, SPACING = 6, 4  # px
WIDEST = "0–000 misses"
ROOM = 400  # px of height from which on the prompt shows more of itself


class TextPanel(Panel):
    """Prompt editor over the text of all requests, with the modes of the tint and a line about the token pointed at."""

    key = "text"
    title = "Text"
    every = 3
    keys = [
        ("Ctrl+Return", "Run the prompt (in the editor)"),
        ("← →", "Pin the token before, after"),
        ("Home, End", "Pin the first, the last token"),
        ("Esc", "Let go of the token"),
        ("D", "Compare with the highest width: which tokens differ"),
        ("N, Shift+N", "Pin the next, the former token that differs"),
        ("Ctrl+C", "Copy the request's text"),
    ]
    submitted = Signal(str)

    def __init__(
        self, recording: Recording, selection: Selection, settings: TuningModel, theme: Theme, parent: QWidget | None = None
    ) -> None:
        super().__init__(recording, selection, settings, theme, parent)
        self.tints, self.uses = Tints(recording), ExpertUses()
        self._note = ""
        self._dragged = False  # the handle between prompt and text was moved: it stays where the user wants it
        self.build()
        self.restyle(theme)
        selection.changed.connect(self._selected)
        selection.hovered.connect(self._hovered)

    def build(self) -> None:
        self.box = PromptBox(load_prompts(), self)
        self.modes = Segments(MODES, self)
        self.legend = KeyLegend(self.theme, self)
        self.copy = QToolButton(self)
        self.copy.setAccessibleName("Copy")
        self.copy.setFixedWidth(24)
        self.copy.setAutoRaise(True)
        self.copy.setToolTip("Copy prompt and text of the request of the pinned token, else of the last (Ctrl+C)")
        self.comparison = ComparisonBar(self.settings.plans, self.tints.fidelity, self)
        self.comparison.hide()
        self.canvas = TextCanvas(self.theme, self.tints.steps, self._used, self._differing, self._heading, self)
        self.canvas.message = EMPTY
        self.status = QLabel(self)
        self.status.setWordWrap(True)
        self.status.setTextFormat(Qt.TextFormat.PlainText)
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self._hover = Throttle(HOVER_INTERVAL, self)
        self._arrange()
        self.setFocusProxy(self.box)
        self.box.submitted.connect(self.submitted)
        self.modes.changed.connect(self._mode_changed)
        self.copy.clicked.connect(self.copy_request)
        self.canvas.pointed.connect(self._hover.offer)
        self.canvas.clicked.connect(self._pin)
        self.comparison.found.connect(self._found)
        self.comparison.stepping.connect(self._step)
        self._hover.ready.connect(self._tell_hover)

    def prompt(self) -> str:
        """The prompt in the editor."""
        return self.box.text()

    # --- Panel ---------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        self.tints.show(self.recording)
        self.uses.clear()
        self.comparison.reset()
        self._note = ""
        self.canvas.text.clear()
        self.canvas.follow()
        self._explain()

    def refresh(self) -> None:
        if feed(self.canvas.text, self.recording):
            if self.tints.refit():
                self._explain()
            self.canvas.extend()
        self._point()
        self._describe()
        self.comparison.show_request(self.recording, self._request)

    def restyle(self, theme: Theme) -> None:
        self.theme = self.legend.theme = theme
        self.box.restyle(theme)
        self.modes.restyle(theme)
        self.comparison.restyle(theme)
        self.copy.setIcon(copy_icon(theme.text))
        self.status.setStyleSheet(f"color: {theme.text}")
        self._tint()
        self.refresh()

    # --- the text ------------------------------------------------------------------------------------------------------

    def _heading(self, request: int) -> str:
        return heading(self.recording, request)

    @property
    def _request(self) -> int:
        """Of the pinned token, else the last; -1: there is none."""
        return request_of(self.recording, self.selection.picked.token)

    @Slot()
    def copy_request(self) -> None:
        """Put prompt and text of one request on the clipboard."""
        request = self._request
        if request < 0:
            return
        text = text_of(self.recording, request)
        QGuiApplication.clipboard().setText(text)
        self._note = f"Copied request {request + 1}: {len(text):,} characters."
        self._describe()

    # --- pointing ------------------------------------------------------------------------------------------------------

    def _point(self) -> None:
        """Hand over to the canvas what is selected."""
        picked, canvas = self.selection.picked, self.canvas
        canvas.marked = range(0)
        if picked.start is not None and picked.end is not None:
            canvas.marked = range(*rows_within(self.recording, (picked.start, picked.end)))
        canvas.hovered = self.selection.hover_token
        if picked.token != canvas.pinned:
            canvas.pinned = picked.token
            if picked.token is not None:
                canvas.reveal(picked.token)
        canvas.viewport().update()

    def _used(self, first: int, stop: int) -> set[int]:
        """Which of these rows used the expert that is hovered, else the pinned one."""
        picked = self.selection.picked
        pinned = (picked.layer, picked.expert) if picked.layer is not None and picked.expert is not None else None
        return self.uses.rows(self.recording, self.selection.hover_expert or pinned, first, stop)

    def _differing(self, first: int, stop: int) -> set[int]:
        """Which of these rows are marked: those in place of which the plan would have chosen another."""
        return self.tints.fidelity.differing(first, stop) if self.tints.mode == "fidelity" else set()

    @Slot()
    def _found(self) -> None:
        self._tint()
        self._describe()

    @Slot(int)
    def _step(self, step: int) -> None:
        row = self.tints.fidelity.next(self.selection.picked.token, step)
        if row is not None:
            self.selection.pick(token=row)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        rows, pinned = self.canvas.text.rows, self.selection.picked.token
        moves = {
            Qt.Key.Key_Left: rows - 1 if pinned is None else pinned - 1, Qt.Key.Key_Right: rows - 1 if pinned is None else pinned + 1,
            Qt.Key.Key_Home: 0, Qt.Key.Key_End: rows - 1,
        }  # fmt: skip
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy_request()
        elif event.key() in moves and rows:
            self.selection.pick(token=min(max(moves[Qt.Key(event.key())], 0), rows - 1))
        elif event.key() == Qt.Key.Key_D and not event.modifiers():
            shown = self.tints.mode == "fidelity"
            self.modes.choose("fidelity")
            if shown or not self.comparison.waits:
                self.comparison.compare_or_cancel()
        elif event.key() == Qt.Key.Key_N and self.tints.mode == "fidelity":
            self._step(-1 if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else 1)
        elif event.key() == Qt.Key.Key_Escape and pinned is not None:
            self.selection.pick(token=None)
        else:
            super().keyPressEvent(event)

    @Slot(int)
    def _pin(self, row: int) -> None:
        again = row == self.selection.picked.token
        self.canvas.pinned = None if again else row  # it is in sight: nothing should scroll under the mouse
        self.selection.pick(token=self.canvas.pinned)

    @Slot(object)
    def _tell_hover(self, row: int | None) -> None:
        self.selection.hover(token=row)

    @Slot()
    def _selected(self) -> None:
        self._note = ""
        self._point()
        self._describe()
        self.comparison.show_request(self.recording, self._request)

    @Slot()
    def _hovered(self) -> None:
        self._selected()

    # --- tints and status ----------------------------------------------------------------------------------------------

    @Slot(str)
    def _mode_changed(self, mode: str) -> None:
        self.tints.mode = mode
        self.comparison.setVisible(mode == "fidelity")
        self.comparison.show_request(self.recording, self._request)
        self._tint()

    def _tint(self) -> None:
        self.tints.refit()
        self.canvas.restyle(self.theme, palette(self.tints.mode, self.theme))
        self._explain()

    def _explain(self) -> None:
        """The legend beside the modes: all of it where there is room, else the scale alone (with the corner, which nothing else explains),
        below them where even that is too wide."""
        room = self.width() - self.modes.sizeHint().width() - self.copy.width() - 2 * MARGIN - 2 * SPACING
        keys = self.tints.legend(self.theme)
        self.legend.set_keys(keys)
        needed = self.legend.sizeHint().width()
        if self.tints.mode != "fidelity":
            needed = SCALE + self.legend.fontMetrics().horizontalAdvance(WIDEST)  # of all scales: with each, the legend stays where it is
            if self.legend.sizeHint().width() > room:
                self.legend.set_keys(keys[:1])
        beside = needed <= room + 4
        self._scales.setDirection(QBoxLayout.Direction.LeftToRight if beside else QBoxLayout.Direction.TopToBottom)

    def _describe(self) -> None:
        token = self.selection.hover_token if self.selection.hover_token is not None else self.selection.picked.token
        if self._note:
            self.status.setText(self._note)
        elif token is not None and token < self.canvas.text.rows:
            choices = self.tints.fidelity.choices(token) if self.tints.mode == "fidelity" else None
            kl = float(self.tints.fidelity.kl(token, token + 1)[0]) if self.tints.mode == "fidelity" else math.nan
            self.status.setText(choice_line(token, *choices, kl) if choices else token_line(self.recording, token, kl))
        else:
            self.status.setText(total_line(self.recording, self.canvas.text.rows))

    # --- places --------------------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        """The editor over the rest, with a handle between."""
        line = QHBoxLayout()
        line.setSpacing(SPACING)
        self._scales = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._scales.setSpacing(SPACING)
        self._scales.addWidget(self.modes)
        self._scales.addWidget(self.legend, 1)
        line.addLayout(self._scales, 1)
        line.addWidget(self.copy, 0, Qt.AlignmentFlag.AlignTop)
        below = QWidget(self)
        column = QVBoxLayout(below)
        column.setContentsMargins(0, 2, 0, 0)
        column.setSpacing(5)
        column.addLayout(line)
        column.addWidget(self.comparison)
        column.addWidget(self.canvas, 1)
        column.addWidget(self.status)
        self.splitter = QSplitter(Qt.Orientation.Vertical, self)
        self.splitter.addWidget(self.box)
        self.splitter.addWidget(below)
        self.splitter.setStretchFactor(1, 1)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.splitterMoved.connect(self._keep)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(MARGIN, 6, MARGIN, 4)
        layout.addWidget(self.splitter)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.status.setFixedHeight(self.status.fontMetrics().lineSpacing() * (1 if self.width() >= 640 else 2))
        self._explain()
        if not self._dragged:
            wanted = self.box.height_of(LINES if self.height() >= ROOM else FEWEST)
            self.splitter.setSizes([wanted, max(1, self.splitter.height() - self.splitter.handleWidth() - wanted)])

    @Slot()
    def _keep(self) -> None:
        self._dragged = True


def copy_icon(color: str) -> QIcon:
    """One sheet before another."""
    picture = QPixmap(32, 32)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setPen(QPen(QColor(color), 2))
    painter.drawRect(QRect(5, 11, 15, 17))
    painter.drawPolyline([QPoint(11, 11), QPoint(11, 4), QPoint(27, 4), QPoint(27, 22), QPoint(20, 22)])
    painter.end()
    return QIcon(picture)
