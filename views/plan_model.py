"""The bitwidth plan under the user's hands, what is known about it, and the wishes that the application fulfils.

N = S · E experts, by number layer · E + expert. A plan is N bytes: a width each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PySide6.QtCore import QObject, Signal

from engine.bitwidth.messages import Compare, Compared, Drop, Find, Setup, Stop, Studied, Study, Weigh, Weighed
from engine.bitwidth.outlook import Outlook
from engine.bitwidth.plan import Origin, Subject
from engine.events import ModelInfo, Progress
from views.pace import Pace

TOKENS = 8_192
SIZES = (2_048, 8_192, 32_768)
"""Of tokens to learn from, and as many to verify on; the first is quick, the last has the narrowest intervals."""


@dataclass(frozen=True)
class Draft:
    """A plan, what it was made by, and the tolerance that it was made for (0.02 is 2%; None: for none)."""

    plan: bytes = b""
    label: str = ""
    tolerance: float | None = None


@dataclass(frozen=True)
class Known:
    """What calibration found out about the model that is loaded: nothing, or estimates and measured plans, and whether ``covered`` are all
    that make the curve."""

    covered: bool = False
    studied: Studied | None = None
    weighed: dict[bytes, Weighed] = field(default_factory=dict)
    outlook: Outlook | None = None


class PlanModel(QObject):
    """Views change the plan by ``propose`` and ask by ``study``, ``find``, ``weigh`` and ``compare``; the application answers through
    ``accept`` and the methods that begin with ``hear``."""

    changed = Signal()  # anything below is different
    proposed = Signal(object)  # Draft: the application puts it on the undo stack
    wished = Signal(object)  # a command for the calibrator
    taken = Signal(object)  # Draft: run with it from the next load of each expert on
    compared = Signal(object)  # Compared: the answer to a ``compare``
    asked_for = Signal(str)  # open, save or texts: the application shows the dialog; sample: it takes its own text
    preferred = Signal(str, str)  # a key and a value to remember

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.subject: Subject | None = None
        self.draft = Draft()
        self.in_force = b""
        self.known = Known()
        self.texts: tuple[Path, ...] = ()
        self.tokens = TOKENS
        self.beside = False  # measure also while the model runs
        self.objective = "storage"
        self.setup: Setup | None = None
        self.progress: Progress | None = None
        self.pace = Pace()
        self.busy = self.held = self.stopping = False
        self.trouble = ""
        self.selected = np.zeros(0, bool)  # [N]
        self._model = ""
        self._sought = 0.0  # the tolerance of the last Find
        self._comparisons = self._studies = 0  # asked for
        self._due = False  # the draft is to be weighed as soon as nothing else is
        self._of: Subject | None = None  # what ``known`` is of

    # --- the plan ------------------------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Bytes of the draft on storage."""
        return self.subject.bytes_of(self.draft.plan) if self.subject else 0

    @property
    def dirty(self) -> bool:
        """Whether the draft is another plan than the one in force."""
        return self.draft.plan != self.in_force

    @property
    def measured(self) -> Weighed | None:
        """What the draft was measured to lose, if it was."""
        return self.known.weighed.get(self.draft.plan)

    @property
    def origin(self) -> Origin | None:
        """How the draft came about, for its file; None while nobody has measured it."""
        told, studied = self.measured, self.known.studied
        if told is None or studied is None:
            return None
        return Origin(told.method, self.draft.tolerance or 0.0, studied.texts, told.loss, told.loss_ci, told.kl)

    def propose(self, draft: Draft) -> None:
        """Ask for another draft; one step of undo."""
        if self.subject and draft.plan != self.draft.plan:
            self.proposed.emit(draft)

    def accept(self, draft: Draft) -> None:
        """Work on this draft from now on."""
        self.draft, self.trouble = draft, ""
        self.changed.emit()

    def paint(self, bits: int) -> None:
        """Give the selected experts these bits."""
        plan = np.frombuffer(self.draft.plan, np.uint8).copy()
        if not self.selected.any():
            return
        plan[self.selected] = bits
        count = int(self.selected.sum())
        self.propose(Draft(plan.tobytes(), f"{count} expert{'s' * (count != 1)} to {bits} bits"))

    def tolerate(self, tolerance: float) -> None:
        """Propose the plan that is likely to be the cheapest within a tolerance, without measuring it."""
        if self.known.outlook is None or self.subject is None:
            return
        plan = self.known.outlook.cheapest(tolerance, self.subject.record_bytes, self.objective)
        if plan is None:
            self._tell(f"No plan is likely to lose less than {tolerance:.2%}: tolerate more")
        elif plan == self.draft.plan:
            self.accept(replace(self.draft, tolerance=tolerance))
        else:
            self.propose(Draft(plan, f"tolerance {tolerance:.2%}", tolerance))

    def take(self) -> None:
        """Run with the draft."""
        if self.subject and self.dirty:
            self.taken.emit(self.draft)

    def revert(self) -> None:
        """Go back to the plan in force."""
        self.propose(Draft(self.in_force, "the plan in force"))

    def select(self, selected: np.ndarray) -> None:
        """Choose the experts to paint, bool [N]."""
        if not np.array_equal(selected, self.selected):
            self.selected = selected
            self.changed.emit()

    # --- wishes --------------------------------------------------------------------------------------------------------

    def study(self) -> None:
        """Ask for estimates, and measurements of the plans that make the curve."""
        if self._model and self.texts:
            self._studies += 1
            self._begin(Study(self._model, [str(path) for path in self.texts], self.tokens, self._studies))

    def find(self, tolerance: float, method: str = "fast") -> None:
        """Ask for the plan that was measured to be within a tolerance."""
        if self.objective == "speed" and self.setup is None:
            self._tell("A plan is fast under a budget and on a device: run a prompt first, so that both are known")
            return
        self._sought = tolerance
        self._begin(Find(tolerance, self.objective, method, self.setup if self.objective == "speed" else None))

    def weigh(self) -> None:
        """Ask what the draft loses, after all else that is asked; one made for a tolerance is the fast estimate's."""
        self._due = self.busy
        if self.known.studied is not None and self.measured is None and not self.busy:
            self._begin(Weigh(self.draft.plan, "hand" if self.draft.tolerance is None else "fast"))

    def compare(self, token_ids: Sequence[int]) -> int:
        """Ask what the draft would have chosen in place of each of these tokens, and what the highest width; returns the answer's
        ``request``."""
        assert self.subject is not None
        self._comparisons += 1
        self._begin(Compare(self._comparisons, self.draft.plan, list(token_ids), self._model, self.subject.model_hash))
        return self._comparisons

    def use_tokens(self, tokens: int) -> None:
        """Calibrate on so many from now on; what was found out by others is let go, and asked again it comes back at once."""
        if tokens in SIZES and tokens != self.tokens:
            self.tokens = tokens
            self._forget()
            self.preferred.emit("calibration_tokens", str(tokens))
            self.changed.emit()

    def let_beside(self, beside: bool) -> None:
        """Whether to measure also while the model runs, which disturbs its figures and is marked on the time axes."""
        if beside != self.beside:
            self.beside = beside
            self.preferred.emit("beside", "yes" if beside else "")
            self.changed.emit()

    def drop(self, request: int) -> None:
        """Give up one comparison."""
        self.wished.emit(Drop(request))

    def cancel(self) -> None:
        self._due, self.stopping = False, True
        self.wished.emit(Stop())
        self.changed.emit()

    # --- what the application says -------------------------------------------------------------------------------------

    def hear_model(self, model: ModelInfo | None, wanted: bytes) -> None:
        """Another model, or another plan in force (empty where nothing is loaded). The draft follows while it is the same as that; it and
        what is known stay while a model is loaded again."""
        self._model = model.store if model else ""
        subject = Subject(model.name, model.model_hash, model.quantizer, model.layers, model.experts, model.record_bytes) if model else None
        if (subject, wanted) == (self.subject, self.in_force) or (subject is None and self.subject is None):
            return
        if subject is not None:
            if subject != self._of:
                self._of, self.setup, self.progress = subject, None, None
                self._forget()
                self.draft, self.selected = Draft(wanted, "in force"), np.zeros(len(wanted), bool)
            elif not self.dirty:
                self.draft = Draft(wanted, "in force")
            self.in_force = wanted
        self.subject = subject
        self.changed.emit()

    def hear_texts(self, texts: tuple[Path, ...]) -> None:
        """What to calibrate on; what was found out by other texts is let go."""
        if texts != self.texts:
            self.texts = texts
            self._forget()
            self.changed.emit()

    def hear_studied(self, studied: Studied) -> None:
        if self.subject and studied.study == self._studies:
            weighed = self.known.weighed if self.known.studied and self.known.studied.texts == studied.texts else {}
            self.known = Known(self.known.covered, studied, weighed, Outlook.of(studied, weighed.values()))
            self.changed.emit()

    def hear_covered(self, study: int) -> None:
        if study == self._studies:
            self.known = replace(self.known, covered=True)
            self.changed.emit()

    def hear_weighed(self, weighed: Weighed) -> None:
        """A measured plan; one that was to be found becomes the draft."""
        studied = self.known.studied
        if studied is None or weighed.study != self._studies:
            return
        every = {**self.known.weighed, weighed.plan: weighed}
        self.known = replace(self.known, weighed=every, outlook=Outlook.of(studied, every.values()))
        if weighed.delivered and weighed.plan != self.draft.plan:
            self.propose(Draft(weighed.plan, f"tolerance {self._sought:.2%}, measured", self._sought))
        elif weighed.delivered:
            self.draft = replace(self.draft, tolerance=self._sought)
        self.changed.emit()

    def hear_compared(self, compared: Compared) -> None:
        self.compared.emit(compared)

    def hear_progress(self, progress: Progress | None) -> None:
        self.progress = progress
        if progress is None:
            self.pace.forget()
        else:
            self.pace.note(progress.stage, progress.done, progress.total)
        self.changed.emit()

    def hear_state(self, busy: bool, held: bool) -> None:
        """Whether the calibrator is at work, and whether it stands still because the model runs."""
        if held != self.held:
            self.pace.forget()  # time that it stands still is not its pace
        self.busy, self.held, self.stopping = busy, held, self.stopping and busy
        if self._due and not busy:
            self.weigh()
        self.changed.emit()

    def hear_trouble(self, line: str) -> None:
        self._tell(line)

    def _forget(self) -> None:
        """Let go of what is known, and of what is asked about it."""
        self.known, self.trouble, self._due = Known(), "", False
        if self.busy:
            self._studies += 1  # what is still said of the former one is not heard
            self.wished.emit(Stop())

    def _begin(self, command: Study | Find | Weigh | Compare) -> None:
        self.trouble, self.progress, self.stopping = "", None, False
        self.wished.emit(command)
        self.changed.emit()

    def _tell(self, line: str) -> None:
        self.trouble = line
        self.changed.emit()
