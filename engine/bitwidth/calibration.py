"""From a tolerated loss to a plan: estimate, pack, measure, correct.

N experts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.bitwidth import importance
from engine.bitwidth.blocks import Texts
from engine.bitwidth.dense import DenseExperts
from engine.bitwidth.fidelity import Loss, Yardstick
from engine.bitwidth.knapsack import Choice, Floats, Packed, cheapest
from engine.bitwidth.messages import OBJECTIVES, Setup
from engine.bitwidth.notebook import Notebook
from engine.bitwidth.objective import Objective, Sum
from engine.bitwidth.routed import routing_of
from engine.bitwidth.sensitivity import Sensitivity, estimate
from engine.bitwidth.speed import MOST_REPLAYS, Speed
from engine.errors import Cancelled, EngineError
from engine.models.skeleton import Skeleton
from engine.simulate.routing import Routing

LEARN, VERIFY = "learn", "verify"
_ROUNDS = 8  # corrections at most
_SHARES = (0.25, 0.5, 0.75)  # of the experts, at the lower width: measured beside the paper's plan
_NEAR = 0.03  # a plan that uses all but this share of the tolerance is not improved further
Report = Callable[[str, int, int, str], object]
"""Told the stage, and how much of how much is done, in what."""
Weighed = Callable[[tuple[int, ...], Loss], object]
"""Told a plan and what it loses on the text to verify on."""


@dataclass(frozen=True)
class Delivered:
    """A plan [N], what it loses on the text it was verified on, and the cost and bound of the packing where one made it."""

    bits: tuple[int, ...]
    loss: Loss
    packed: Packed | None = None
    seconds: float = 0.0


class Calibration:
    """One model and one choice of text; whatever is found out is kept, and an interrupted one goes on where it was.

    ``widths`` are those that a plan gives: 16 bits is what they are held against. A plan is within a tolerance if the upper end of the 95%
    interval of its loss is: what is delivered should hold on text nobody measured. ``weighed`` is told every plan whose loss on the text to
    verify on was asked for, measured now or before.
    """

    def __init__(
        self, skeleton: Skeleton, texts: Texts, notebook: Notebook, report: Report = lambda stage, done, of, unit: None,
        cancelled: Callable[[], bool] = lambda: False, weighed: Weighed = lambda bits, loss: None,
    ) -> None:  # fmt: skip
        self.skeleton, self.store, self.texts, self.notebook = skeleton, skeleton.store, texts, notebook
        self.count = self.store.spec.layers * self.store.spec.experts
        self.widths = tuple(bits for bits in self.store.widths if bits < 16) or self.store.widths
        self._report, self._cancelled, self._weighed = report, cancelled, weighed
        self._yardsticks: dict[str, Yardstick] = {}
        self._stage: tuple[str, int, int] | None = None  # whose blocks are told, how many are done before, and of how many
        self._place = 0, 1  # of the plan that is measured, among how many
        self.experts = DenseExperts(self.store, [max(self.store.widths)] * self.count, before=lambda number: self._heed())

    def __enter__(self) -> Calibration:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files in which references are kept."""
        for yardstick in self._yardsticks.values():
            yardstick.close()

    def uniform(self, bits: int) -> tuple[int, ...]:
        """The plan of one width for all."""
        return (bits,) * self.count

    def bytes_of(self, bits: Sequence[int]) -> int:
        """What the experts of a plan take on storage."""
        return sum(map(self.store.record_bytes, bits))

    def measure(self, side: str, bits: Sequence[int], stage: str = "measuring a plan") -> Loss:
        """What a plan loses on the text of a side."""
        loss = self._loss(side, bits, stage)
        if side == VERIFY:
            self._weighed(tuple(bits), loss)
        return loss

    def cover(self, plans: Iterable[tuple[int, ...]]) -> None:
        """Measure several plans on the text to verify on, each once, and tell how far all of them are."""
        every = list(dict.fromkeys(plans))
        fresh = [plan for plan in every if self.notebook.loss(VERIFY, plan) is None]
        try:
            for plan in every:
                self._place = (fresh.index(plan), len(fresh)) if plan in fresh else self._place
                self.measure(VERIFY, plan, "measuring plans")
        finally:
            self._place = 0, 1

    def reference(self) -> Loss:
        """The model at its highest width, on the text to verify on."""
        return self._loss(VERIFY, self.uniform(max(self.store.widths)))

    def _loss(self, side: str, bits: Sequence[int], stage: str = "measuring a plan") -> Loss:
        loss = self.notebook.loss(side, bits)
        if loss is None:
            loss = self._measured(side, bits, stage)
            self.notebook.keep_loss(side, bits, loss)
        return loss

    def _measured(self, side: str, bits: Sequence[int], stage: str) -> Loss:
        yardstick = self._yardstick(side)
        if set(bits) == {max(self.store.widths)}:
            return yardstick.reference()
        self.experts.bits = list(bits)
        number, count = self._place
        self._stage = (stage, number * len(yardstick), count * len(yardstick)) if stage else None
        self._step(0)
        return yardstick.measure(self.experts)

    def sensitivity(self) -> Sensitivity:
        """The fast estimate, on the text to learn from."""
        known = self.notebook.sensitivity(self.store)
        if known is not None:
            return known
        blocks = self.texts.learn
        self._stage = "estimating every expert at every width", 0, len(blocks)
        found = estimate(self.skeleton, blocks, self._step, before=lambda number: self._heed())
        self.notebook.keep_sensitivity(found)
        return found

    def importance(self) -> list[float]:
        """The paper's: what it costs, nats a token on the text to learn from, to lower each expert by itself."""
        found, plans = list[float](), importance.trials(self.count)
        for number, plan in enumerate(plans, 1):
            found.append(float(self.measure(LEARN, plan, stage="").rise.mean()))
            self._report("lowering one expert after the other", number, self.count, "experts")
        return found

    def estimated(self, bits: Sequence[int]) -> float:
        """What a plan is estimated to lose, nats a token."""
        at = [self.store.widths.index(width) for width in bits]
        return float(self.sensitivity().losses[np.arange(self.count), at].sum())

    def spread(self, count: int) -> list[tuple[int, ...]]:
        """``count`` plans that the estimate likes best for their bytes, which grow by the same factor from those of the lowest width to
        those of the highest that plans give; none where that is one."""
        widths, costs = self.widths, self.storage_costs()
        if len(widths) < 2:
            return []
        losses = self.sensitivity().losses[:, [self.store.widths.index(bits) for bits in widths]]
        sizes = np.geomspace(costs.min(1).sum(), costs.max(1).sum(), count + 2)[1:-1]
        packed = (cheapest(losses, costs, float(size)) for size in sizes)  # the least loss for these bytes
        return [tuple(widths[at] for at in found.choice) for found in packed if found is not None]

    def routing(self) -> Routing:
        """What the routers chose on the text to learn from, each block a request."""
        known = self.notebook.routing()
        if known is not None:
            return known
        self._stage = "noting what routers choose", 0, len(self.texts.learn)
        found = routing_of(self.skeleton, self.texts.learn, self._step)
        self.notebook.keep_routing(found)
        return found

    def objective(self, name: str, setup: Setup | None = None) -> Objective:
        """What plans are to make least, by its name in ``OBJECTIVES``; speed is that under a ``setup``, of the text's own routing.

        Raises:
            EngineError: the budget or the policy of the setup cannot be.
        """
        assert name in OBJECTIVES
        if name == "storage":
            return Sum(self.storage_costs())
        if name == "traffic":
            return Sum(self.traffic_costs())
        assert setup is not None, "speed is under some budget"
        return self.speed(setup)

    def speed(self, setup: Setup, routing: Routing | None = None) -> Speed:
        """The objective of most tokens/s under a ``setup``, of the text's own routing where no other is given.

        Raises:
            EngineError: the budget or the policy of the setup cannot be.
        """
        sizes = {bits: self.store.record_bytes(bits) for bits in self.store.widths}
        routing = routing or self.routing()

        def step(done: int) -> None:
            self._report("replaying plans", min(done, MOST_REPLAYS), MOST_REPLAYS, "replays")
            self._heed()

        return Speed(routing, setup.costs, setup.budget, setup.eviction, sizes, self.widths, step)

    def places(self, bits: Sequence[int]) -> Choice:
        """A plan's widths by their places among ``widths``, [N]."""
        return np.searchsorted(self.widths, bits)

    def plan(self, tolerance: float, objective: Objective | None = None) -> Delivered:
        """The plan of least cost (bytes on storage, or what ``objective`` says) whose measured loss is within ``tolerance`` (0.02 is 2%).

        Estimates are too low by a factor that depends on how much is lost; it is found by measuring, and corrected for, until little of the
        tolerance is left. A plan for speed is never slower than the one of the fewest bytes, on storage or a token.

        Raises:
            EngineError: no width is good enough.
        """
        began, widths = time.monotonic(), self.widths
        losses = self.sensitivity().losses[:, [self.store.widths.index(bits) for bits in widths]]
        objective = objective or self.objective("storage")
        best: Delivered | None = None
        wanted = float(np.log1p(tolerance)) * (1 - _NEAR / 2)
        passed, failed, allowed = (0.0, 0.0), None, wanted / 2  # what was allowed by estimate, and what it came to, in nats
        if isinstance(objective, Speed):
            others = [self.plan(tolerance, self.objective(name)) for name in ("storage", "traffic")]
            best = min(others, key=lambda other: objective.cost(self.places(other.bits)))
            allowed = float(losses[np.arange(self.count), self.places(best.bits)].sum())
            best = best if np.isfinite(objective.cost(self.places(best.bits))) else None
        for _ in range(_ROUNDS):
            packed = objective.pack(losses, allowed)
            if packed is None:
                break
            bits = tuple(widths[at] for at in packed.choice)
            loss = self.measure(VERIFY, bits)
            reached = float(np.log1p(loss.share_range[1]))
            if reached <= np.log1p(tolerance):
                passed = allowed, reached
                if best is None or packed.cost < objective.cost(self.places(best.bits)):
                    best = Delivered(bits, loss, packed)
                if reached > wanted * (1 - _NEAR / 2) or set(bits) == {min(widths)}:
                    break
            else:
                failed = allowed, reached
            allowed = _between(passed, failed, wanted) if failed else allowed * min(4.0, wanted / max(reached, wanted / 4))
        best = self._or_uniform(best, tolerance, objective)
        if best is None and isinstance(objective, Speed):  # there are some, of other objectives
            raise EngineError(f"No plan of {self.store.name} that loses at most {tolerance:.3%} runs in a budget of {objective.budget:,} "
                              "bytes; tolerate more, or give a larger one")  # fmt: skip
        if best is None:
            raise EngineError(self._refusal(tolerance))
        return replace(best, seconds=time.monotonic() - began)

    def _or_uniform(self, best: Delivered | None, tolerance: float, objective: Objective) -> Delivered | None:
        """One width for all, where that is within the tolerance and costs less: of little text the estimate may mislead."""
        for width in reversed(self.widths):
            bits = self.uniform(width)
            least = objective.cost(self.places(best.bits)) if best else np.inf
            if objective.cost(self.places(bits)) >= least:
                continue
            loss = self.measure(VERIFY, bits)
            if loss.share_range[1] > tolerance:
                break
            best = Delivered(bits, loss)
        return best

    def paper_plan(self, tolerance: float) -> Delivered:
        """The paper's procedure with the loss measured on the text to learn from, as there; the loss told is that on the other text.

        Raises:
            EngineError: no width is good enough.
        """
        began = time.monotonic()

        def loss(plan: tuple[int, ...]) -> float:
            return self.measure(LEARN, plan).share

        pair = importance.bounds(self.count, self.widths, tolerance, loss)
        if pair is None:
            raise EngineError(self._refusal(tolerance))
        found = self.importance()
        bits = importance.search(found, *pair, tolerance, loss)
        if pair[0] != pair[1]:  # how loss grows on the way
            for share in _SHARES:
                self.measure(VERIFY, importance.lowered(found, round(share * self.count), *pair))
        return Delivered(bits, self.measure(VERIFY, bits), None, time.monotonic() - began)

    def storage_costs(self) -> Floats:
        """Bytes of a record at every width, [N, widths]."""
        return np.tile([float(self.store.record_bytes(bits)) for bits in self.widths], (self.count, 1))

    def traffic_costs(self) -> Floats:
        """Bytes that a token uses of each expert at every width, [N, widths]."""
        return self.storage_costs() * np.maximum(self.sensitivity().uses, 1e-6)[:, None]

    def _refusal(self, tolerance: float) -> str:
        best = min((self.measure(VERIFY, self.uniform(bits)).share_range[1], bits) for bits in self.widths)
        return (f"No plan of {self.store.name} loses at most {tolerance:.3%}: at best, all experts at {best[1]} bits lose up to "
                f"{best[0]:.3%}; tolerate more, or convert it at a higher width")  # fmt: skip

    def _yardstick(self, side: str) -> Yardstick:
        if side not in self._yardsticks:
            blocks = self.texts.learn if side == LEARN else self.texts.verify
            self.experts.bits = [max(self.store.widths)] * self.count
            self._stage = f"running at {max(self.store.widths)} bits", 0, len(blocks)
            self._yardsticks[side] = Yardstick(self.skeleton, blocks, self.experts, self._step)
        return self._yardsticks[side]

    def _step(self, done: int) -> None:
        if self._stage:
            stage, before, total = self._stage
            self._report(stage, before + done, total, "blocks")
        self._heed()

    def _heed(self) -> None:
        if self._cancelled():
            raise Cancelled


def _between(passed: tuple[float, float], failed: tuple[float, float], wanted: float) -> float:
    """What to allow next, where one allowance came to too little and another to too much: on the line between them."""
    (low, reached_low), (high, reached_high) = passed, failed
    share = (wanted - reached_low) / max(reached_high - reached_low, 1e-12)
    return low + (high - low) * float(np.clip(share, 0.05, 0.95))
