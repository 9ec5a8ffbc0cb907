"""A recorded routing, run again through the engine's own stream, buffer, policy and predictor (replay.h), on modelled time and storage.

S MoE layers, E experts a layer, N = S · E; an expert's number is layer · E + expert.
"""

from __future__ import annotations

from ctypes import byref, c_int32
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.errors import Cancelled, EngineError
from engine.events import Outcome
from engine.preload.predictor import Learned
from engine.residency import POLICIES, policy_name
from engine.simulate.cost import Costs
from engine.simulate.native import OutcomesView, SetupView, Tape, native
from engine.simulate.routing import Routing

ORACLE = "oracle"


@dataclass(frozen=True, eq=False)
class Records:
    """What a record weighs: ``bytes_by_bits``, and the width of every expert, ``bits`` [N]."""

    bytes_by_bits: dict[int, int]
    bits: npt.NDArray[np.int64]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each, [N]."""
        return np.array([self.bytes_by_bits[int(bits)] for bits in self.bits], np.int64)

    @property
    def full(self) -> int:
        """Bytes of all experts."""
        return int(self.sizes.sum())

    def cycle(self, shape: tuple[int, int], top_k: int) -> int:
        """Bytes of one token's experts in all layers, the largest of each: under that, LRU hits nothing."""
        return int(np.sort(self.sizes.reshape(shape), axis=1)[:, -top_k:].sum())

    def least(self, top_k: int) -> int:
        """The smallest budget that works: one layer's experts of one token."""
        return int(self.sizes.max()) * top_k


@dataclass(frozen=True)
class Cell:
    """What to replay: ``budget`` in bytes, a policy's name or "oracle", and how far a predictor reads ahead.

    ``clairvoyant`` predicts by the routing itself. ``initial`` experts are resident to begin with, ``expected`` [N] is what
    the policy is told before, ``lesson`` what it learned from other requests.
    """

    budget: int
    eviction: str
    predictor: Learned | None = None
    clairvoyant: bool = False
    depth: int = 4
    width: int = 0  # 0: depth · k
    balanced: bool = True
    initial: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    expected: npt.NDArray[np.float64] | None = None
    lesson: Lesson | None = None


@dataclass(frozen=True)
class Replayed:
    """Counts over decoded tokens; ``ns`` and ``stall_ns`` of all of them, by the cost model."""

    tokens: int
    uses: dict[Outcome, int]
    demand_bytes: int
    useful_bytes: int
    wasted_bytes: int
    guessed: int
    guessed_right: int
    evictions: int
    ns: int
    stall_ns: int
    peak_bytes: int
    misses: npt.NDArray[np.int32]  # of each token
    expert_misses: npt.NDArray[np.int32]  # of each expert
    held: npt.NDArray[np.int32]  # tokens at whose end each expert was resident

    @property
    def hit_rate(self) -> float:
        """Share of the uses found in memory, read ahead or not."""
        found = self.uses[Outcome.HIT] + self.uses[Outcome.PRELOADED]
        return found / max(1, sum(self.uses.values()))

    @property
    def misses_covered(self) -> float:
        """Share of what would have been misses that was read ahead in time."""
        would = sum(self.uses.values()) - self.uses[Outcome.HIT]
        return self.uses[Outcome.PRELOADED] / would if would else 0.0

    @property
    def recall(self) -> float:
        """Share of the k likeliest experts of the layers predicted that were chosen."""
        return self.guessed_right / self.guessed if self.guessed else 0.0

    @property
    def mb_per_token(self) -> float:
        return (self.demand_bytes + self.useful_bytes + self.wasted_bytes) / max(1, self.tokens) / 1e6

    @property
    def tok_s(self) -> float:
        return self.tokens / self.ns * 1e9 if self.ns else 0.0

    @property
    def stall_ms_per_token(self) -> float:
        return self.stall_ns / max(1, self.tokens) / 1e6


@dataclass(frozen=True, eq=False)
class LruHits:
    """LRU's ``hits`` with room for 0 to N experts of one size, [N + 1], of so many ``uses`` by decoded tokens, ``first`` of them of experts
    never loaded before."""

    hits: npt.NDArray[np.int64]
    uses: int
    first: int

    @property
    def rates(self) -> npt.NDArray[np.float64]:
        """Hit rates by room, [N + 1]."""
        rates: npt.NDArray[np.float64] = self.hits / max(1, self.uses)
        return rates


class Lesson:
    """What a policy learned from the routing of other requests; policies that learn nothing take nothing from it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __del__(self) -> None:
        native().lesson_free(self.handle)


class Replay:
    """One routing to be replayed with many settings, also in several threads at once. ``stop`` ends what is running, for good.

    Raises:
        EngineError: the widths are not of so many experts.
    """

    def __init__(self, routing: Routing, records: Records, costs: Costs) -> None:
        if len(records.bits) != routing.shape.total:
            raise EngineError(f"The routing is of {routing.shape.total} experts, the widths are of {len(records.bits)}")
        self.routing, self.records, self.costs = routing, records, costs
        self._native, self._tape, self._stopped = native(), Tape(routing), c_int32(0)
        self._widths = sorted(records.bytes_by_bits)
        self._wanted = np.searchsorted(self._widths, records.bits).astype(np.uint8)
        self._running: list[OutcomesView] = []
        self._done = 0

    @property
    def done(self) -> int:
        """Tokens replayed so far, of all cells together."""
        return self._done + sum(int(out.tokens) for out in list(self._running))

    def stop(self) -> None:
        self._stopped.value = 1

    def check(self, budget: int) -> None:
        """Raises EngineError where one layer's experts of one token do not fit."""
        least = self.records.least(self.routing.top_k)
        if budget < least:
            raise EngineError(
                f"A budget of {budget:,} bytes cannot hold one layer's experts of one token; the smallest is {least:,}, "
                f"{100 * least / self.records.full:.1f}% of all experts"
            )

    def learn(self, eviction: str, heard: Routing) -> Lesson | None:
        """What a policy learns from other requests; None for the oracle, which knows all.

        Raises:
            EngineError: a policy that is not known.
            Cancelled: ``stop`` was called.
        """
        if eviction == ORACLE:
            return None
        tape = Tape(heard)  # named, so that it lives until all is learned
        handle = self._native.lesson_new(byref(tape.view), policy_name(eviction).encode(), byref(self._stopped))
        if not handle:
            raise Cancelled
        return Lesson(handle)

    def lru_hits(self) -> LruHits:
        """LRU of all budgets from one pass (stack.h): a replay's exactly where records are of one size and those of a pass and layer fit.

        Raises:
            Cancelled: ``stop`` was called.
        """
        counts = np.zeros(self.routing.shape.total + 3, np.int64)
        if not self._native.lru_hits(byref(self._tape.view), counts.ctypes.data, byref(self._stopped)):
            raise Cancelled
        return LruHits(counts[:-2], int(counts[-2]), int(counts[-1]))

    def run(self, cell: Cell) -> Replayed | None:
        """What would have happened; None where ``stop`` was called.

        Raises:
            EngineError: a budget that one layer of one token does not fit, or a policy that is not known.
        """
        policy = ORACLE if cell.eviction == ORACLE else policy_name(cell.eviction)
        self.check(cell.budget)
        out = OutcomesView()
        misses, of_experts = np.zeros(self.routing.tokens, np.int32), np.zeros((2, self.routing.shape.total), np.int32)
        self._running.append(out)
        try:
            done = self._replay(cell, policy, out, misses, of_experts)
        finally:
            self._running.remove(out)
            self._done += out.tokens
        return _replayed(out, misses, of_experts) if done else None

    def fitting(self, experts: npt.NDArray[np.int32], budget: int) -> npt.NDArray[np.int32]:
        """The first of these experts, as many as a budget holds."""
        return experts[np.cumsum(self.records.sizes[experts]) <= budget]

    def least_mb_per_token(self, budget: int, initial: npt.NDArray[np.int32] | None = None) -> float:
        """What any policy must read on demand at the least (bound.h), in MB a decoded token, ``initial`` being resident to begin with.

        Raises:
            Cancelled: ``stop`` was called.
        """
        sizes, held = self.records.sizes, np.ascontiguousarray([] if initial is None else initial, np.int32)
        read = self._native.least_bytes(
            byref(self._tape.view), sizes.ctypes.data, budget, held.ctypes.data, len(held), byref(self._stopped)
        )  # fmt: skip
        if read < 0:
            raise Cancelled
        return float(read / max(1, self.routing.tokens) / 1e6)

    def _replay(
        self, cell: Cell, policy: str, out: OutcomesView, misses: npt.NDArray[np.int32], of_experts: npt.NDArray[np.int32],
    ) -> bool:  # fmt: skip
        costs, device, top_k = self.costs, self.costs.device, self.routing.top_k
        bits, sizes = np.array(self._widths, np.int32), np.array([self.records.bytes_by_bits[b] for b in self._widths], np.int64)
        expert_ns = np.array([costs.expert_ns.get(b, 0) for b in self._widths], np.int64)
        initial = np.ascontiguousarray(cell.initial, np.int32)
        expected = None if cell.expected is None else np.ascontiguousarray(cell.expected, np.float64)
        setup = SetupView(
            policy=policy.encode(), predictor=cell.predictor.handle if cell.predictor else None, clairvoyant=cell.clairvoyant,
            depth=cell.depth if cell.predictor or cell.clairvoyant else 0, width=cell.width or cell.depth * top_k,
            balanced=cell.balanced, widths=len(bits), initial_count=len(initial), budget=cell.budget, bits=bits.ctypes.data,
            bytes=sizes.ctypes.data, wanted=self._wanted.ctypes.data, initial=initial.ctypes.data,
            expected=None if expected is None else expected.ctypes.data, lesson=cell.lesson.handle if cell.lesson else None,
            bandwidth=device.bandwidth, latency=int(device.latency * 1e9), wake=costs.wake_ns, lanes=costs.lanes,
            layer_ns=costs.layer_ns, token_ns=costs.token_ns, predict_ns=costs.predict_ns,
            expert_ns=expert_ns.ctypes.data, misses=misses.ctypes.data,
            expert_misses=of_experts[0].ctypes.data, held=of_experts[1].ctypes.data,
        )  # fmt: skip
        done = self._native.replay(byref(self._tape.view), byref(setup), byref(self._stopped), byref(out))
        assert done >= 0, "the policy is known"
        return bool(done)


def _replayed(out: OutcomesView, misses: npt.NDArray[np.int32], of_experts: npt.NDArray[np.int32]) -> Replayed:
    uses = {outcome: int(out.uses[outcome]) for outcome in Outcome}
    return Replayed(
        out.tokens, uses, out.demand_bytes, out.useful_bytes, out.wasted_bytes, out.guessed, out.guessed_right, out.evictions, out.ns,
        out.stall_ns, out.peak_bytes, misses, *of_experts,
    )  # fmt: skip


__all__ = ["ORACLE", "POLICIES", "Cell", "Lesson", "LruHits", "Records", "Replay", "Replayed"]
