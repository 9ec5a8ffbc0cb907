"""Bitwidth plans in the window: edits on the undo stack, files in and out, and what the calibrator finds out."""

from __future__ import annotations

import re
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import platformdirs
import xxhash
from PySide6.QtCore import QObject, Slot
from PySide6.QtWidgets import QFileDialog

from app.demo import sample_text_path
from engine.bitwidth.messages import Compare, Drop, Find, Study, Weigh
from engine.bitwidth.plan import Plan
from engine.errors import EngineError
from engine.events import Stop
from views.plan_model import TOKENS, Draft

if TYPE_CHECKING:
    from app.window import Window

PAUSE_S = 2.0  # of quiet after which the plan in force is measured
KINDS = "Bitwidth plans (*.json)"
TEXTS = "Texts (*.txt *.md *.py *.gz);;All files (*)"


def folder() -> Path:
    """Where plans lie that were applied without being saved, by what is in them: undo finds the former one."""
    return platformdirs.user_data_path("edgemoe-studio", appauthor=False) / "plans"


class Planning(QObject):
    """Fulfils the wishes of the plan model for what the window shows."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._window, self.plans = window, window.tuning.plans
        self.plans.proposed.connect(self._propose)
        self.plans.taken.connect(self._take)
        self.plans.asked_for.connect(self._ask)
        self.plans.wished.connect(self._wish)
        self.plans.preferred.connect(self._prefer)
        calibrator = window.calibrator
        for told, hear in (
            (calibrator.studied, self.plans.hear_studied), (calibrator.weighed, self.plans.hear_weighed),
            (calibrator.progressed, self.plans.hear_progress), (calibrator.troubled, self.plans.hear_trouble),
            (calibrator.compared, self.plans.hear_compared), (calibrator.covered, self.plans.hear_covered),
        ):  # fmt: skip
            told.connect(hear)
        calibrator.changed.connect(lambda: self.plans.hear_state(calibrator.busy, calibrator.held))
        self._free_since = 0.0  # ``time.monotonic`` since which neither the model nor the calibrator has worked; 0 while one does
        self._metered: tuple[object, bytes] = None, b""  # the study, and the plan
        self._model = ("", "")  # path and hash of the one that the engine has loaded
        tokens, beside = window.preferences.get("calibration_tokens"), window.preferences.get("beside") == "yes"
        self.plans.use_tokens(int(tokens) if tokens.isdecimal() else TOKENS)
        self.plans.let_beside(beside)
        listed = [Path(text) for text in window.preferences.get("calibration_texts").split("\n") if text]
        self.plans.hear_texts(tuple(path for path in listed if path.is_file()) or (sample_text_path(),))

    def follow(self) -> None:
        """Tell the plan model which model is shown, and the bits that are in force."""
        shown = self._window.shown
        self.plans.hear_model(shown.model, shown.wanted().tobytes())
        info = self._window.live.info
        model = (info.store, info.model_hash) if info else ("", "")
        if info and model != self._model:
            self._model = model
            self._window.calibrator.forget()  # it knows the former model

    def meter(self) -> None:
        """In a pause of the model, have the plan in force measured, once, where a text was studied. Called by the window's timer."""
        window, plans = self._window, self.plans
        busy = window.live.state not in ("idle", "paused") or window.calibrator.busy or not window.is_live
        self._free_since = 0.0 if busy else self._free_since or monotonic()
        studied = plans.known.studied
        if window.live.state == "running":
            self._metered = None, b""
        if busy or monotonic() - self._free_since < PAUSE_S or studied is None or plans.subject is None:
            return
        wanted = studied.study, plans.in_force
        if plans.in_force not in plans.known.weighed and wanted != self._metered:
            self._metered = wanted  # once a pause: what was cancelled or cannot be measured is not asked again and again
            window.calibrator.weigh(plans.in_force)

    def open(self, path: Path) -> None:
        """Edit the plan in a file; one that does not fit leaves the draft and says why."""
        if self.plans.subject is None:
            self._refuse("Load a model first: a plan is read for the model that it was made for.")
            return
        try:
            plan = Plan.read(path, self.plans.subject)
        except EngineError as error:
            self._refuse(str(error))
            return
        self._window.banners.clear("plan")
        self.plans.propose(Draft(bytes(plan.bits), path.name, plan.origin.tolerance or None if plan.origin else None))
        self._window.area.turn_to("bitwidth")

    def save(self, path: Path) -> None:
        """Keep the draft in a file."""
        if self._write(path):
            self._window.banners.say("plan", "info", f"Written: {path}")

    @Slot(object)
    def _wish(self, command: Study | Weigh | Find | Compare | Drop | Stop) -> None:
        """Pass a wish on to the calibrator."""
        calibrator = self._window.calibrator
        match command:
            case Study():
                calibrator.study(Path(command.model), [Path(text) for text in command.texts], command.tokens, command.number)
            case Weigh():
                calibrator.weigh(command.plan, command.method)
            case Find():
                calibrator.find(command.tolerance, command.objective, command.method, command.setup)
            case Compare():
                calibrator.compare(command)
            case Drop(request):
                calibrator.drop(request)
            case Stop():
                calibrator.stop()

    @Slot(str, str)
    def _prefer(self, key: str, value: str) -> None:
        """Remember it, and heed it."""
        self._window.preferences.set(key, value)
        if key == "beside":
            self._window.calibrator.beside = bool(value)

    @Slot(object)
    def _propose(self, draft: Draft) -> None:
        if self._window.is_live:
            self._window.live.undo.edit(self.plans.accept, self.plans.draft, draft)
        else:
            self.plans.accept(draft)  # a recorded session's settings have no undo

    @Slot(object)
    def _take(self, draft: Draft) -> None:
        """Run with it: one width for all needs no file."""
        tuning, subject = self._window.tuning, self.plans.subject
        if subject is None:
            return
        if len(set(draft.plan)) == 1:
            tuning.request_all(f"plan: {draft.plan[0]} bits for all", {"bits": draft.plan[0], "plan": ""})
            return
        name = re.sub(r"[^A-Za-z0-9.]+", "-", subject.name).strip("-")
        path = folder() / f"{name}-{xxhash.xxh3_64_hexdigest(draft.plan + subject.model_hash.encode())}.json"
        if self._write(path):
            tuning.request("plan", str(path))

    def _write(self, path: Path) -> bool:
        assert self.plans.subject is not None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            Plan(list(self.plans.draft.plan), self.plans.origin).write(path, self.plans.subject)
        except EngineError as error:
            self._refuse(str(error))
        except OSError as error:
            self._refuse(f"{path.parent} cannot be made ({error.strerror}); save the plan elsewhere")
        else:
            return True
        return False

    def _refuse(self, line: str) -> None:
        self._window.banners.say("plan", "error", line)

    @Slot(str)
    def _ask(self, what: str) -> None:
        """Show a dialog: of a plan to open or save, or of texts."""
        window = self._window
        if what == "open":
            text, _ = QFileDialog.getOpenFileName(window, "Open a bitwidth plan", str(Path.home()), KINDS)
            if text:
                self.open(Path(text))
        elif what == "save" and self.plans.subject is not None:
            start = Path.home() / f"{re.sub(r'[^A-Za-z0-9.]+', '-', self.plans.subject.name).strip('-')}-plan.json"
            text, _ = QFileDialog.getSaveFileName(window, "Save this bitwidth plan", str(start), KINDS)
            if text:
                self.save(Path(text if text.endswith(".json") else f"{text}.json"))
        elif what == "sample":
            self.use_texts((sample_text_path(),))
        elif what == "texts":
            texts, _ = QFileDialog.getOpenFileNames(window, "Texts to calibrate on", str(self.plans.texts[0].parent), TEXTS)
            if texts:
                self.use_texts(tuple(Path(text) for text in texts))

    def use_texts(self, texts: tuple[Path, ...]) -> None:
        """Calibrate on these from now on, also after a restart."""
        self.plans.hear_texts(texts)
        own = texts == (sample_text_path(),)  # where that lies is no wish of the user
        self._window.preferences.set("calibration_texts", "" if own else "\n".join(map(str, texts)))
