"""The calibrator process: measures what plans lose, beside the engine. Started as ``python -m engine.calibrator --address ADDRESS``.

It makes itself harmless: it computes on cores that nobody else wants, with all of them but one, and reads when nobody else does. Whatever
it finds out is kept in a notebook (engine.bitwidth.notebook), so that nothing is lost when it is stopped or ended.

N experts, W widths.
"""

from __future__ import annotations

import queue
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine import machine
from engine.bitwidth import messages
from engine.bitwidth.messages import Command, Compare, Drop, Find, Rested, Study, Weigh
from engine.connection import Window, connected
from engine.errors import Cancelled, EngineError
from engine.events import Quit, Stop

if TYPE_CHECKING:
    from engine.bitwidth.calibration import Calibration
    from engine.bitwidth.fidelity import Loss
    from engine.bitwidth.objective import Objective
    from engine.models.skeleton import Skeleton

SPREAD = 6
"""Plans that are measured between the lowest and the highest width of a plan when a text is studied."""

_NO_MEMORY = "There is not enough memory to calibrate; close other programs or lower the expert budget"


class Calibrator:
    """Serves one window until it goes away: one model and one choice of text at a time."""

    def __init__(self, window: Window[Command]) -> None:
        self._window = window
        self._commands: queue.SimpleQueue[tuple[int, Command]] = queue.SimpleQueue()
        self._stops = 0  # that were heard
        self._served = 0  # of these, how many had been heard when the command under way was
        self._skeleton: Skeleton | None = None
        self._calibration: Calibration | None = None
        self._method = ""  # whence the plans are that are measured now
        self._number = 0  # of the study
        self._dropped: set[int] = set()  # comparisons that nobody wants any more
        self._comparing: int | None = None

    def run(self) -> None:
        """Serve commands until Quit or the end of the connection."""
        self._window.listen(self._hear)
        machine.be_harmless()  # only now: who hears a Stop gets its turn like others
        taken = 0
        while True:
            self._served, command = self._commands.get()
            taken += 1
            if isinstance(command, Quit):
                break
            if not isinstance(command, Stop) and not self._cancelled():
                self._serve(command)
            if self._commands.empty() or isinstance(command, Stop | Drop):  # these are answered, whatever waits
                self._rest(taken)
        self._close()

    def _hear(self, command: Command) -> None:
        """From the thread that receives: what ends work must not wait for it."""
        if isinstance(command, Drop):
            self._dropped.add(command.request)
        if isinstance(command, Stop | Quit):
            self._stops += 1
        self._commands.put((self._stops, command))

    def _cancelled(self) -> bool:
        """Whether a Stop came after the command under way, which ends, and so does all that waited with it; or it alone was dropped."""
        return self._stops > self._served or self._comparing in self._dropped

    def _serve(self, command: Command) -> None:
        try:
            self._obey(command)
        except Cancelled:
            pass
        except EngineError as error:
            self._window.fail(str(error))
        except MemoryError:
            self._window.fail(_NO_MEMORY)
        except RuntimeError as error:  # torch's word for it
            if "allocate memory" not in str(error):
                raise
            self._window.fail(_NO_MEMORY)
        finally:
            self._comparing = None

    def _rest(self, taken: int) -> None:
        if self._calibration is not None:
            self._calibration.experts.forget()
        machine.give_back()
        self._window.send(Rested(taken))

    def _obey(self, command: Command) -> None:
        match command:
            case Study(model, texts, tokens, number):
                self._number = number
                self._study(model, texts, tokens)
            case Weigh(plan, method):
                self._method = method
                self._studied().measure("verify", self._widths(plan))
            case Find():
                self._find(command)
            case Compare():
                self._compare(command)

    # --- the commands

    def _study(self, model: str, files: list[str], tokens: int) -> None:
        skeleton = self._open(model)
        from engine.bitwidth.blocks import texts_of
        from engine.bitwidth.calibration import VERIFY, Calibration
        from engine.bitwidth.notebook import Notebook
        from engine.corpus import read_documents

        self._forget_text()
        if not files or tokens < 1:
            raise EngineError("There is no text to calibrate on; choose one file at least and some tokens of it")
        texts = texts_of(skeleton.tokenizer, [read_documents(Path(file)) for file in files], tokens, skeleton.context)
        notebook = Notebook(skeleton.store, texts.digest)
        self._calibration = calibration = Calibration(skeleton, texts, notebook, self._window.show, self._cancelled, self._tell)
        found = calibration.sensitivity()
        highest = calibration.uniform(max(skeleton.store.widths))
        perplexity = calibration.reference().perplexity
        self._window.send(messages.Studied(
            skeleton.store.model_hash, texts.digest, texts.works, (texts.learn[:, 1:].numel(), texts.verify[:, 1:].numel()),
            list(skeleton.store.widths), found.losses.tobytes(), found.uses.tobytes(), perplexity, self._number,
        ))  # fmt: skip
        calibration.measure(VERIFY, highest)
        self._method = "fast"  # but for one width for all, which tells so itself
        uniform = [calibration.uniform(bits) for bits in reversed(calibration.widths)]
        calibration.cover([*uniform, *calibration.spread(SPREAD)])
        self._window.send(messages.Covered(self._number))

    def _find(self, command: Find) -> None:
        calibration = self._studied()
        if not 0 < command.tolerance < 10:
            raise EngineError(f"A tolerated loss of {command.tolerance:.3%} cannot be meant; give a share such as 2%")
        self._method = command.method
        if command.method == "paper":
            if command.objective != "storage":
                raise EngineError("The paper's method knows bytes on storage only; choose the fast one for another objective")
            made = calibration.paper_plan(command.tolerance)
        elif command.method == "fast":
            made = calibration.plan(command.tolerance, _objective(calibration, command))
        else:
            raise EngineError(f"There is no method {command.method!r}; choose fast or paper")
        self._tell(made.bits, made.loss, delivered=True)

    def _compare(self, command: Compare) -> None:
        if command.request in self._dropped:
            return
        self._comparing = command.request
        skeleton = self._open(command.model)
        if skeleton.store.model_hash != command.model_hash:
            raise EngineError(f"{command.model} holds another model now than the one that wrote this text; open that one again to compare")
        from engine.bitwidth.comparison import compare, steps_of
        from engine.bitwidth.dense import DenseExperts

        plan, done = self._widths(command.plan), 0
        total = 2 * skeleton.spec.layers * len(steps_of(skeleton, len(command.token_ids)))
        layer = 0

        def before(number: int) -> None:
            nonlocal done, layer
            if self._cancelled():
                raise Cancelled
            at = number // skeleton.spec.experts
            done, layer = done + (at != layer), at
            self._window.show("comparing with the highest width", min(done, total), total, "layers")

        experts = DenseExperts(skeleton.store, plan, before=before)
        try:
            found = compare(skeleton, experts, plan, command.token_ids)
        finally:
            experts.forget()  # the skeleton stays bound to them
        pieces = {token: str(skeleton.tokenizer.decode([token])) for token in {*found.reference, *found.chosen}}
        self._window.send(messages.Compared(
            command.request, command.plan, found.reference, found.chosen,
            [pieces[token] for token in found.reference], [pieces[token] for token in found.chosen], found.kl.tobytes(),
        ))  # fmt: skip

    # --- the model and the text

    def _open(self, model: str) -> Skeleton:
        """The model's skeleton; one already open stays, another takes its place, and the text goes with it."""
        self._window.show("Starting the calibrator", 0, 0, "")
        import torch

        from engine.models.skeleton import load_skeleton
        from engine.store import open_or_convert

        store = open_or_convert(
            Path(model), progress=lambda told: self._window.show(told.stage, told.done, told.total), cancel=self._cancelled
        )  # fmt: skip
        held = self._skeleton
        if held is not None and (held.store.path, held.store.digest) == (store.path, store.digest):
            return held
        self._close()
        self._window.show("Loading non-expert weights", 0, 0, "")
        torch.set_num_threads(machine.spare_cores())
        self._skeleton = load_skeleton(store, torch.float32)
        return self._skeleton

    def _studied(self) -> Calibration:
        if self._calibration is None:
            raise EngineError("No text was studied yet; choose one to calibrate on first")
        return self._calibration

    def _widths(self, plan: bytes) -> tuple[int, ...]:
        """The plan's widths, if the model has them.

        Raises:
            EngineError: it was made for another model.
        """
        assert self._skeleton is not None
        store = self._skeleton.store
        if len(plan) != store.spec.layers * store.spec.experts or not set(plan) <= set(store.widths):
            raise EngineError(f"This plan does not fit {store.name}: it names other experts or widths; make one for it")
        return tuple(plan)

    def _forget_text(self) -> None:
        if self._calibration is not None:
            self._calibration.close()
            self._calibration = None

    def _close(self) -> None:
        self._forget_text()
        self._skeleton = None

    # --- what is told

    def _tell(self, bits: tuple[int, ...], loss: Loss, delivered: bool = False) -> None:
        method = "uniform" if len(set(bits)) == 1 else self._method
        self._window.send(messages.Weighed(
            bytes(bits), method, self._studied().estimated(bits), loss.share, loss.share_range, loss.kl, loss.kl_range, delivered,
            self._number,
        ))  # fmt: skip


def _objective(calibration: Calibration, command: Find) -> Objective:
    """What the plan is to make least.

    Raises:
        EngineError: there is none of that name, or nobody said for which budget it is to be fast.
    """
    if command.objective not in messages.OBJECTIVES:
        raise EngineError(f"There is no objective {command.objective!r}; choose one of {', '.join(messages.OBJECTIVES)}")
    if command.objective == "speed" and command.setup is None:
        raise EngineError("A plan is fast under a budget and on a device: run a prompt first, so that both are known")
    return calibration.objective(command.objective, command.setup)


def main(argv: list[str]) -> int:
    """Connect and serve. Returns the exit status."""
    with connected(argv, "The calibrator", messages.decode_command) as window:
        Calibrator(window).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
