"""What if: hit rate and tokens/s against the budget, a curve a policy and the oracle's, replayed from the session so far."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import Qt, Slot
from PySide6.QtGui import QHideEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from engine.residency import DEFAULT, POLICIES
from engine.settings import Value, parse_budget
from engine.simulate.replay import ORACLE
from views import whatif_words as words
from views.fonts import smaller
from views.legend import Entry, Legend
from views.panel import Panel, pages
from views.segments import Segments
from views.theme import Theme
from views.timeaxis import rows_within
from views.units import format_bytes
from views.whatif_model import Answer, Curve, Progress, WhatIf, knee
from views.whatif_plot import ROLES, BudgetPlot, Line, Point
from views.whatif_question import Asker

NAMES = {DEFAULT: f"{DEFAULT} (default)", ORACLE: "oracle"}


class WhatIfPanel(Panel):
    """Computed when a request ends, or when asked for: a replay takes a core, so that it is not begun by itself while the model runs."""

    key = "whatif"
    title = "What if"
    every = 6
    keys = (("←  →", "Another budget"), ("↑  ↓", "Another policy"), ("Enter", "Take budget and policy, in one step"), ("Esc", "Let go"))

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.model = WhatIf(self)
        self.model.answered.connect(self._answered)
        self.model.progressed.connect(self._progressed)
        self.model.ended.connect(self._ended)
        self._asker, self._answer = Asker(self.recording), None  # type: Asker, Answer | None
        self._asked = (-1, -1)
        self._cancelled: Progress | None = None
        self._progress: Progress | None = None
        self.build()
        self.selection.changed.connect(self._tell)
        self.settings.changed.connect(self._note_setting)

    def build(self) -> None:
        self.legend = Legend(self.theme, tuple(
            Entry(NAMES.get(policy, policy), role, "100.0% · 0000 t/s", line=True,
                  help="Hit rate and predicted tokens/s at the budget pointed at, else at the one in force")
            for policy, role in ROLES.items()
        ))  # fmt: skip
        self.note, self.progress, self.button = QLabel(), QLabel(), QPushButton("Compute")
        for label in (self.note, self.progress):
            label.setFont(smaller(self.font()))
        self.note.setWordWrap(True)
        self.progress.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.progress.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.button.clicked.connect(self._pressed)
        self.plot = BudgetPlot(self)
        self.plot.chosen.connect(self._point)
        self.plot.taken.connect(self._take)
        self.choice = Segments((
            ("rate", "Hits", "Hit rate of decoded tokens, %"),
            ("speed", "Tokens/s", "Decode speed by a cost model calibrated on this session"),
        ))  # fmt: skip
        self.choice.changed.connect(self._draw)
        foot = QHBoxLayout()
        foot.setContentsMargins(8, 2, 6, 4)
        foot.addWidget(self.choice, 0)
        foot.addWidget(self.progress, 1)
        foot.addWidget(self.button, 0)
        full, body = QWidget(), QVBoxLayout()
        body.setContentsMargins(4, 4, 4, 0)
        body.setSpacing(2)
        body.addWidget(self.legend)
        body.addWidget(self.plot, 1)
        body.addWidget(self.note)
        body.addLayout(foot)
        full.setLayout(body)
        hint = QLabel("Run a prompt: once it is done, what other budgets and policies would have made of it appears here.")
        self._pages = pages(self, hint, full)
        for before, after in ((self.plot, self.choice), (self.choice, self.button)):
            self.setTabOrder(before, after)
        self._show_button()
        self.restyle(self.theme)

    # --- Panel --------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        self._stop()
        self._asker, self._answer, self._asked, self._cancelled = Asker(self.recording), None, (-1, -1), None
        self._draw()

    def refresh(self) -> None:
        self._pages.setCurrentIndex(int(len(self.recording.tokens) > 1))
        state = (len(self.recording.finished), len(self.recording.changes))
        running = len(self.recording.requests) > len(self.recording.finished)
        if state != self._asked and not running and len(self.recording.tokens) > 1:
            self.compute()
        self._tell()

    def restyle(self, theme: Theme) -> None:
        self.theme = theme
        self.legend.restyle(theme)
        self.plot.restyle(theme)
        self.choice.restyle(theme)
        self.progress.setStyleSheet(f"color: {theme.muted}")
        self._draw()

    def hideEvent(self, event: QHideEvent) -> None:
        if self.model.busy:
            self._asked = (-1, -1)  # goes on where it was as soon as it is seen again
        self._stop()
        super().hideEvent(event)

    # --- the question and the answer ----------------------------------------------------------------------------------

    def compute(self) -> None:
        """Replay the session so far, but for what has been replayed of it already."""
        self._asked = (len(self.recording.finished), len(self.recording.changes))
        self._cancelled = None
        question = self._asker.question()
        if question is not None:
            self.model.ask(question, hurried=self._answer is None)
        self._show_button()

    @Slot()
    def _pressed(self) -> None:
        if self.model.busy:
            self._cancelled = self._progress
            self._stop()
        else:
            self.compute()

    def _stop(self) -> None:
        self.model.stop()
        self._show_button()
        self._tell()

    @Slot(object)
    def _answered(self, answer: Answer) -> None:
        """Curves stay until those of a newer question, or of more tokens, reach over the whole range."""
        if answer.coarse or self._answer is None or answer.question.basis == self._answer.question.basis:
            self._answer = answer
            self._draw()

    @Slot(object)
    def _progressed(self, progress: Progress) -> None:
        self._progress = progress
        self._show_button()
        self._tell()

    @Slot()
    def _ended(self) -> None:
        self._show_button()
        self._tell()

    def _show_button(self) -> None:
        """Compute or Cancel, and how far it is."""
        busy, told = self.model.busy, self._progress
        self.button.setText("Cancel" if busy else "Compute")
        self.button.setToolTip(
            "Stop replaying. The curves stay, and Compute goes on from there" if busy else
            "Replay the session so far with other budgets and policies. It takes a core, also from a running model"
        )  # fmt: skip
        told = told if busy else self._cancelled
        self.progress.setText(f"{'' if busy else 'cancelled after '}{told.done} of {told.total} replays" if told is not None else "")
        if not busy:
            self._progress = None

    # --- what is drawn and said ---------------------------------------------------------------------------------------

    def _values(self, curve: Curve) -> list[float]:
        return [100 * rate for rate in curve.hit_rates] if self.choice.key == "rate" else curve.tok_s

    def _between(self, curve: Curve) -> tuple[np.ndarray, np.ndarray] | None:
        """LRU's hits at every budget, where one pass told them."""
        if self._answer is None or self._answer.lru is None or curve.policy != "lru" or self.choice.key != "rate":
            return None
        records, least = self._answer.question.records, self._answer.question.top_k
        return np.arange(least, len(self._answer.lru)) * float(records.sizes[0]), 100 * self._answer.lru[least:]

    @Slot()
    def _draw(self) -> None:
        curves = self._answer.curves if self._answer is not None else []
        rate = self.choice.key == "rate"
        lines = [Line(curve.policy, curve.budgets, self._values(curve), self._between(curve)) for curve in curves]
        top = 100.0 if rate else max((max(line.values) for line in lines), default=1.0)
        self.plot.show_lines(lines, top, "%" if rate else " t/s", self.theme)
        self.plot.setAccessibleName(f"{'Hit rate' if rate else 'Tokens/s'} over the budget")
        self.plot.home = Point(str(self.settings.effective.get("eviction", DEFAULT)), self._here())
        if self._answer is not None:
            question = self._answer.question
            self.plot.show_marks(self._here(), question.cycle, knee(curves), question.records.full)
        self._point()

    @Slot()
    def _point(self) -> None:
        """Read out what is pointed at: beside it, in the legend, and below what a click would do."""
        point, curves = self.plot.point, self._answer.curves if self._answer is not None else []
        budget = point.budget if point is not None else self._here()
        told = {}
        for curve in curves:
            if budget in curve.budgets:
                at = curve.budgets.index(budget)
                told[curve.policy] = f"{curve.hit_rates[at]:.1%} · {curve.tok_s[at]:.0f} t/s"
        self.legend.set_values({NAMES.get(policy, policy): text for policy, text in told.items()})
        text = ""
        if point is not None:
            size = f"{words.share(point.budget, self._full())} · {format_bytes(point.budget)}"
            text = f"{point.policy} at {size}\n{told[point.policy].replace(' ·', ' hits ·')}"
        self.plot.tell(text)
        self.plot.setAccessibleDescription(text.replace("\n", ": "))
        self._tell()

    @Slot(str)
    def _note_setting(self, name: str) -> None:
        if name in ("budget", "eviction"):
            self._draw()

    def _here(self) -> int:
        """The budget in force, in bytes; 0 where there is none."""
        return self.recording.budget.granted if self.recording.budget is not None else 0

    def _full(self) -> int:
        return max(1, self.recording.budget.full if self.recording.budget is not None else 1)

    @Slot()
    def _tell(self) -> None:
        """One line: what a click would take; else what was replayed, or for a range what the oracle would have missed in it."""
        self.plot.usable = not self.settings.read_only
        if self._answer is None:
            self.note.setText(words.BEGUN if self.model.busy else words.WAITING)
            return
        if self.plot.point is not None:
            point = self.plot.point
            self.note.setText(words.RECORDED if self.settings.read_only else words.offer(point, self._wanted(point), self._full()))
            return
        question, picked = self._answer.question, self.selection.picked
        oracle = next((curve for curve in self._answer.curves if curve.policy == ORACLE), None)
        if picked.start is not None and picked.end is not None and oracle is not None and oracle.misses:
            self.note.setText(words.of_range(self.recording, rows_within(self.recording, (picked.start, picked.end)), oracle))
            return
        busy, told = self.model.busy, self._progress
        more = words.HINT if self.plot.usable else words.READ
        if busy and told is not None:
            more = words.under_way(told, question, self._full())
        self.note.setText(f"{words.replayed(question)}. {more}")

    # --- taking -------------------------------------------------------------------------------------------------------

    def _wanted(self, point: Point) -> dict[str, Value]:
        """The settings that a point stands for, as far as they are not in force."""
        wanted: dict[str, Value] = {}
        if point.budget != self._here():
            share = f"{100 * point.budget / self._full():.4g}%"
            wanted["budget"] = share if parse_budget(share, self._full(), 0) == point.budget else f"{point.budget}B"
        if point.policy in POLICIES and self.settings.effective.get("eviction") != point.policy:
            wanted["eviction"] = "default" if point.policy == DEFAULT else point.policy
        return wanted

    @Slot()
    def _take(self) -> None:
        """Ask for the budget and the policy of the chosen point, to be taken back together."""
        point = self.plot.point
        if point is not None:
            self.settings.request_all(f"what-if choice: {point.policy} at {words.share(point.budget, self._full())}", self._wanted(point))
