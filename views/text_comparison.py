"""The strip under the tints that compares a request's text with what the highest width would have chosen: ask, step, and what was found."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QToolButton, QWidget

from engine.bitwidth.messages import Compared
from engine.recording.recording import Recording
from views import plan_words as words
from views.fonts import smaller
from views.plan_model import PlanModel
from views.text_fidelity import Fidelity
from views.text_requests import ids_of, rows_of
from views.theme import Theme

OLDER = "This session's prompts were recorded without their token ids (by an older version): they cannot be compared"


class ComparisonBar(QWidget):
    """Of the request that is shown. One comparison at a time; it is held while the model runs, as all that the calibrator does."""

    found = Signal()  # ``fidelity`` is another
    stepping = Signal(int)  # to the next (1) or former (-1) token that differs

    def __init__(self, plans: PlanModel, fidelity: Fidelity, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._plans, self._fidelity = plans, fidelity
        self._recording, self._request = Recording(), -1
        self._asked: tuple[int, int, int] | None = None  # the answer awaited, of which request, and how many tokens its prompt has
        self._begun = False  # the calibrator has heard of it
        self._brief = self._sentence = ""
        self.go, self.before, self.after, self.told = QToolButton(), QToolButton(), QToolButton(), QLabel()
        self.go.clicked.connect(self.compare_or_cancel)
        for button, mark, step, name in ((self.before, "◂", -1, "Former"), (self.after, "▸", 1, "Next")):
            button.setText(mark)
            button.setAccessibleName(f"{name} token that differs")
            button.setToolTip(f"{name} token that differs ({'Shift+N' if step < 0 else 'N'})")
            button.clicked.connect(lambda _=False, step=step: self.stepping.emit(step))
        self.told.setFont(smaller(self.font()))
        self.told.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        for widget in (self.go, self.before, self.after):
            row.addWidget(widget)
        row.addWidget(self.told, 1)
        plans.changed.connect(self.update_state)
        plans.compared.connect(self._take)

    def restyle(self, theme: Theme) -> None:
        self.told.setStyleSheet(f"color: {theme.muted}")

    def reset(self) -> None:
        """Another recording: what was asked of the former one is not awaited any more."""
        self._asked = None

    @property
    def waits(self) -> bool:
        """Whether an answer is awaited."""
        return self._asked is not None

    def show_request(self, recording: Recording, request: int) -> None:
        """Tell about this request from now on; -1: there is none."""
        self._recording, self._request = recording, request
        if self.isVisible():
            self.update_state()

    @Slot()
    def compare_or_cancel(self) -> None:
        """Compare as many of the request's tokens as there are, with the plan that the Bitwidth panel shows."""
        if self._asked is not None:
            self._plans.drop(self._asked[0])
            self._asked = None
            self.update_state()
            return
        if self._comparable():
            prompt = len(self._recording.requests[self._request].prompt_ids)
            self._asked = self._plans.compare(ids_of(self._recording, self._request)), self._request, prompt
            self.update_state()

    @Slot(object)
    def _take(self, told: Compared) -> None:
        if self._asked is None or told.request != self._asked[0]:
            return
        _, request, prompt = self._asked
        self._asked = None
        self._fidelity.take(request, self._recording.requests[request].first_token, told, prompt)
        self.found.emit()
        self.update_state()

    # --- what is told

    @Slot()
    def update_state(self) -> None:
        """Follow the calibrator and the plan."""
        plans = self._plans
        self._begun = self._asked is not None and (self._begun or plans.busy)
        if self._asked is not None and not plans.busy and (self._begun or plans.trouble):
            self._asked = None  # it was stopped, or failed
        self.go.setText("Cancel" if self._asked else "Compare")
        tip = "Stop comparing" if self._asked else (
            "Run this request's text at the highest width and at the plan of the Bitwidth panel, and mark the tokens in place of which\n"
            "the plan would have chosen another. At low priority, held while the model runs (D)"
        )  # fmt: skip
        self.go.setToolTip(tip)
        self.go.setEnabled(self._asked is not None or self._comparable())
        for button in (self.before, self.after):
            button.setEnabled(any(verdict.differ for verdict in self._fidelity.verdicts.values()))
        self._brief, self._sentence = self._told()
        self._elide()

    def _comparable(self) -> bool:
        if self._request < 0 or self._plans.subject is None:
            return False
        first, stop = rows_of(self._recording, self._request)
        return bool(self._recording.requests[self._request].prompt_ids) and stop > first

    def _told(self) -> tuple[str, str]:
        """In brief, and as a sentence."""
        plans, verdict, request = self._plans, self._fidelity.verdicts.get(self._request), self._request + 1
        if self._asked is not None:
            return (words.under_way(plans.progress, plans.held, plans.pace.left()),) * 2
        if not request:
            return "run a prompt first", "Run a prompt: its text can be compared with what the highest width would have chosen"
        if not self._recording.requests[self._request].prompt_ids:
            return (OLDER,) * 2
        if verdict is None and plans.trouble:
            return (plans.trouble,) * 2
        if verdict is None:
            return f"request {request}: not compared yet", f"Request {request} is not compared with the highest width yet"
        count, old = verdict.stop - verdict.first, verdict.plan not in (plans.in_force, plans.draft.plan)
        of = f"{verdict.differ:,} of {'' if verdict.stop >= rows_of(self._recording, self._request)[1] else 'the first '}{count:,}"
        share = f"{verdict.differ / max(1, count):.0%}"
        which = "a former plan" if old else "the plan in force" if verdict.plan == plans.in_force else "the edited plan"
        return (
            f"{'former plan: ' if old else ''}{of} differ ({share}) · KL {verdict.kl:.2g}",
            f"Request {request}: in place of {of} tokens ({share}) {which} would have chosen another than the highest width.\n"
            f"Mean divergence (KL) {verdict.kl:.3g} nats a token.{' The plan is another now: compare again.' if old else ''}",
        )  # fmt: skip

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        self.told.setText(self.told.fontMetrics().elidedText(self._brief, Qt.TextElideMode.ElideRight, max(0, self.told.width())))
        self.told.setToolTip(self._sentence)
