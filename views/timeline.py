"""The event timeline: every token, every stretch of work by kind and layer, and every read on its I/O slot, as they were."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QSize, Qt, Slot
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from engine.recording.overlap import Overlap
from engine.recording.preloads import Preloads
from engine.recording.recording import Recording
from views.colors import mix, readable
from views.panel import pages
from views.plotitems import Band
from views.selection import Selection
from views.spancache import SpanCache
from views.spantotals import SpanTotals
from views.theme import Theme
from views.throttle import Throttle
from views.timeaxis import Window, token_at, token_ends, token_window
from views.timeline_arrows import Sought, arrows
from views.timeline_canvas import TimelineCanvas
from views.timeline_picture import Picture
from views.timeline_stats import TimelineStats
from views.timeline_text import token_told, told
from views.timepanel import TimePanel
from views.tuning_model import TuningModel

MOST_SPANS = 30_000  # in a window; where there are more, tokens are drawn as totals
STATS_INTERVAL = 200  # ms: figures must be readable while they change
HINT = "Point at a slice. Wheel zooms, drag moves, Shift-drag selects a range, click pins."
EMPTY = "Run a prompt to see where its time goes: every token, every layer's work, every read from storage."


class Line(QLabel):
    """One line of text of fixed height, with an ellipsis where it is too long."""

    def __init__(self) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.full = self.color = ""

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self.fontMetrics().height())

    def say(self, text: str, color: str) -> None:
        if color != self.color:
            self.setStyleSheet(f"color: {color}")
        self.full, self.color = text, color
        self.setText(self.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, max(0, self.width() - 2)))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.say(self.full, self.color)


class TimelinePanel(TimePanel):
    """Lanes of slices under a time axis. The selection's window, range, token and expert are shown and set."""

    key = "timeline"
    title = "Timeline"
    every = 4
    follow_tokens = 20
    keys = (
        ("W / S", "Zoom in, out"), ("A / D", "Earlier, later"), ("F", "Fit the range, then all"), ("L", "Follow the newest"),
        ("R", "Drag selects a range"), ("Esc", "Drop the range"), ("E", "One lane a layer"), ("↑ / ↓", "Scroll the layers"),
    )  # fmt: skip

    def __init__(
        self, recording: Recording, selection: Selection, settings: TuningModel, theme: Theme, parent: QWidget | None = None
    ) -> None:
        super().__init__(recording, selection, settings, theme, parent)
        self.spans, self.totals, self.preloads, self.overlap = SpanCache(), SpanTotals(), Preloads(), Overlap()
        self._inside = False  # the pointer is over the canvas
        self.build()
        self._style()
        self.navigator.left.connect(self._left)

    def build(self) -> None:
        self.canvas = TimelineCanvas(self.navigator, self.theme)
        self.stats, self.line = TimelineStats(self.theme, self), Line()
        self._figures = Throttle(STATS_INTERVAL, self)
        self._figures.ready.connect(self._show_figures)
        self.canvas.resized.connect(self._note_change)
        self.canvas.folded.connect(self._note_change)
        self.canvas.scrolled.connect(self._note_change)
        self.follow = self._button("Follow", "Follow the newest tokens (L)", lambda: self.navigator.follow(self.follow.isChecked()))
        self.follow.setCheckable(True)
        buttons = [
            self.follow,
            self._button("Fit", "Show the selected range, or all of the session (F)", self.navigator.fit),
            self._button("−", "Zoom out (S)", lambda: self.navigator.zoom(0.5)),
            self._button("+", "Zoom in (W)", lambda: self.navigator.zoom(2.0)),
        ]
        head = QHBoxLayout()
        head.setSpacing(4)
        for button in buttons:
            head.addWidget(button)
        head.addSpacing(6)
        head.addWidget(self.stats.figures, 1)
        top = QVBoxLayout()
        top.setContentsMargins(8, 4, 8, 3)
        top.setSpacing(2)
        top.addLayout(head)
        top.addWidget(self.stats.ahead)
        top.addWidget(self.stats.work)
        foot = QHBoxLayout()
        foot.setContentsMargins(8, 2, 8, 3)
        foot.addWidget(self.line)
        full, self._empty = QWidget(), QLabel(EMPTY)
        body = QVBoxLayout(full)
        body.setContentsMargins(0, 0, 0, 0)
        body.setSpacing(0)
        body.addLayout(top)
        body.addWidget(self.canvas, 1)
        body.addLayout(foot)
        self._pages = pages(self, self._empty, full)
        self.setFocusProxy(self.canvas)

    # --- TimePanel -----------------------------------------------------------------------------------------------------

    def time_at(self, x: float) -> int:
        return self.canvas.time_at(x)

    def window(self) -> Window:
        """While the newest are followed, a pinned token stays in sight: what came since goes by behind it."""
        window = super().window()
        pinned = token_window(self.recording, self.selection.picked.token)
        if self.selection.view is not None or pinned is None or pinned[0] >= window[0]:
            return window
        last = min(self.selection.picked.token + self.follow_tokens, len(self.recording.tokens)) - 1  # type: ignore[operator]
        return pinned[0], int(token_ends(self.recording, last, last + 1)[0])

    def reset(self) -> None:
        super().reset()
        self.spans.forget()
        self.totals, self.preloads, self.overlap = SpanTotals(), Preloads(), Overlap()
        self.canvas.pointed = self.canvas.picture = None
        self.canvas.lanes.first = 0

    def refresh(self) -> None:
        recording = self.recording
        if not len(recording.tokens):
            self._pages.setCurrentIndex(0)
            return
        self._pages.setCurrentIndex(1)
        layers = recording.grid.shape[0]
        if layers != self.totals.layers:
            self.totals = SpanTotals(layers)
        caught_up = [sums.catch_up(recording) for sums in (self.totals, self.preloads, self.overlap)]
        if not all(caught_up):
            self._note_change()  # the rest with the next tick
        self.follow.setChecked(self.selection.view is None)
        self.canvas.marks = [(mark.time, mark.short) for mark in self.marks()]
        self.canvas.arrange(layers, self.totals.slots)
        window = self.window()
        picture = Picture(recording, self.canvas.lanes.shown, window, int(self.canvas.span * self.canvas.ratio), self.canvas.ratio)
        if self._count(picture.low, picture.high) <= MOST_SPANS:
            self.spans.show(recording, window)
            picture.draw_spans(self.spans.rows, self.preloads)
        else:
            picture.draw_totals(self.totals, self.preloads)
        self.canvas.show_picture(picture, window, self._lit())
        self._figures.offer(self.range() or window)

    def point(self) -> None:
        """Draw what is hovered, pinned and selected over the lanes, and tell what is under the pointer."""
        if self.canvas.picture is None:
            return
        theme, picked = self.theme, self.selection.picked
        bands, edges = [], []
        if (span := self.range()) is not None:
            bands.append(Band(*span, mix(theme.base, theme.accent, 0.16)))
            edges += [(edge, theme.accent) for edge in span]
        for token, share in ((picked.token, 0.34), (self.selection.hover_token, 0.24)):
            if (when := token_window(self.recording, token)) is not None:
                bands.append(Band(*when, mix(theme.base, theme.text, share)))
                edges += [(edge, theme.text) for edge in when]
        pinned = (picked.layer, picked.expert) if picked.layer is not None and picked.expert is not None else None
        self.canvas.bands, self.canvas.edges = bands, edges
        self.canvas.marked = self.selection.hover_expert or pinned
        experts = tuple(expert for expert in (pinned, self._lit()) if expert is not None)
        tokens = tuple(token for token in (picked.token, self.selection.hover_token) if token is not None)
        self.canvas.arrows = arrows(self.canvas.picture, self.preloads, Sought(self.canvas.pointed, experts, tokens))
        if self.canvas.lit != (lit := self._lit()):
            self.canvas.light(lit)
        self.canvas.update()
        self._tell()
        self._figures.offer(span or self.canvas.window_shown)

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        self._style()
        self._note_change()
        self.tick(force=True)

    def hover_at(self, place: QPointF) -> None:
        """Point at the slice at ``place``, its token and its expert; beside all slices at the token of that time."""
        self._inside = True
        found = self.canvas.pointed = self.canvas.slice_at(place)
        token = found.token if found else token_at(self.recording, self.time_at(place.x()))
        self.selection.hover(token=token, expert=found.expert if found else None)
        time = self.time_at(place.x())
        near = abs(self.time_at(place.x() + 5) - time)
        self.canvas.setToolTip("\n".join(mark.full for mark in self.marks() if abs(mark.time - time) <= near))
        self._note_hover()

    def click_at(self, place: QPointF) -> None:
        """Pin the slice's token and expert; the same again lets go."""
        found, picked = self.canvas.slice_at(place), self.selection.picked
        if found is None or found.expert is None:
            super().click_at(place)
        elif (picked.layer, picked.expert, picked.token) == (*found.expert, found.token):
            self.selection.pick(layer=None, expert=None, token=None)
        else:
            self.selection.pick(layer=found.expert[0], expert=found.expert[1], token=found.token)

    # --- inside --------------------------------------------------------------------------------------------------------

    def _count(self, low: int, high: int) -> int:
        """How many spans the tokens ``low`` to ``high`` have; a guess while they are not counted yet."""
        counted = int(self.totals.spans[low:high].sum())
        return max(counted, len(self.recording.spans) * (high - low) // max(1, len(self.recording.tokens)))

    def _lit(self) -> tuple[int, int] | None:
        """The expert that is pointed at in another panel: here, where the pointer is, nothing may flicker."""
        return None if self._inside else self.selection.hover_expert

    def _tell(self) -> None:
        pointed, token = self.canvas.pointed, self.selection.hover_token
        if pointed is not None and pointed.span is not None:
            text = told(self.recording, pointed.span, self.preloads)
        elif token is not None and token < len(self.recording.tokens):
            text = token_told(self.recording, token)
        else:
            text = HINT
        self.line.say(text, self.theme.muted if text == HINT else self.theme.text)

    @Slot(object)
    def _show_figures(self, scope: object) -> None:
        self.stats.show_scope(self.recording, self.totals, self.preloads, self.overlap, scope, scope == self.range())  # type: ignore[arg-type]

    @Slot()
    def _left(self) -> None:
        self.canvas.pointed, self._inside = None, False
        self._note_hover()

    def _button(self, text: str, tip: str, action: object) -> QToolButton:
        button = QToolButton()
        button.setText(text)
        button.setToolTip(tip)
        button.setAccessibleName(tip.partition(" (")[0])
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        button.clicked.connect(action)
        return button

    def _style(self) -> None:
        theme = self.theme
        self.canvas.theme = theme
        self.stats.restyle(theme)
        self._empty.setStyleSheet(f"color: {theme.muted}")
        self.setStyleSheet(
            f"QToolButton {{ border: 1px solid {theme.border}; border-radius: 4px; background: {theme.raised}; color: {theme.text};"
            " padding: 1px 6px; }"
            f"QToolButton:hover {{ border-color: {theme.muted}; }}"
            f"QToolButton:checked {{ background: {theme.accent}; border-color: {theme.accent}; color: {readable(theme.accent)}; }}"
            f"QToolButton:focus {{ border-color: {theme.text}; }}"
        )
