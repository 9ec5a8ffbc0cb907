"""A recorded routing, run again through the engine's own stream, buffer, policy and predictor (replay.h), on modelled time and storage.

S MoE layers, E experts a layer, N = S · E; an expert's number is layer · E + expert.
"""

from __future__ import annotations

from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int32, c_int64, c_void_p, sizeof
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine.binding import bind
from engine.errors import EngineError
from engine.events import Outcome
from engine.preload.predictor import Learned
from engine.residency import POLICIES, policy_name
from engine.simulate.cost import Costs
from engine.simulate.routing import Routing

ORACLE = "oracle"


class _Tape(Structure):
    _fields_ = [
        ("layers", c_int32), ("experts_a_layer", c_int32), ("top_k", c_int32), ("requests", c_int32), ("experts", c_void_p),
        ("lengths", c_void_p), ("prefill", c_void_p), ("prefill_uses", c_int64),
    ]  # fmt: skip


class _Setup(Structure):
    _fields_ = [
        ("policy", c_char_p), ("predictor", c_void_p),
        *((name, c_int32) for name in ("clairvoyant", "depth", "width", "balanced", "widths", "initial_count")),
        ("budget", c_int64), ("bits", c_void_p), ("bytes", c_void_p), ("wanted", c_void_p), ("initial", c_void_p), ("expected", c_void_p),
        ("heard", POINTER(_Tape)), ("bandwidth", c_double),
        *((name, c_int64) for name in ("latency", "wake", "lanes", "layer_ns", "token_ns")), ("expert_ns", c_void_p),
        ("misses", c_void_p),
    ]  # fmt: skip


class _Outcomes(Structure):
    _fields_ = [
        ("tokens", c_int64), ("uses", c_int64 * len(Outcome)),
        *((name, c_int64) for name in (
            "demand_bytes", "useful_bytes", "wasted_bytes", "guessed", "guessed_right", "evictions", "ns", "stall_ns", "peak_bytes",
        )),
    ]  # fmt: skip


@dataclass(frozen=True)
class Records:
    """What a record weighs: ``bytes_by_bits``, and the width of every expert, ``bits`` [N]."""

    bytes_by_bits: dict[int, int]
    bits: npt.NDArray[np.int64]

    @property
    def full(self) -> int:
        """Bytes of all experts."""
        return int(sum(self.bytes_by_bits[int(bits)] for bits in self.bits))

    def cycle(self, shape: tuple[int, int], top_k: int) -> int:
        """Bytes of one token's experts in all layers, the largest of each: under that, LRU hits nothing."""
        sizes = np.array([self.bytes_by_bits[int(bits)] for bits in self.bits]).reshape(shape)
        return int(np.sort(sizes, axis=1)[:, -top_k:].sum())


@dataclass(frozen=True)
class Cell:
    """What to replay: ``budget`` in bytes, a policy's name or "oracle", and how far a predictor reads ahead.

    ``clairvoyant`` predicts by the routing itself. ``initial`` experts are resident to begin with, ``expected`` [N] is what
    the policy is told before, ``heard`` the routing it may learn from.
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
    heard: Routing | None = None


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


def lru_curve(routing: Routing) -> npt.NDArray[np.float64]:
    """The hit rate of LRU with room for 0 to N experts of one size, [N + 1], from one pass (stack.h)."""
    native = bind({"lru_hits": (c_int64, (POINTER(_Tape), c_void_p))})
    tape, kept = _tape_of(routing)
    hits = np.zeros(routing.shape.total + 1, np.int64)
    uses = native.lru_hits(byref(tape), hits.ctypes.data)
    del kept
    curve: npt.NDArray[np.float64] = hits / max(1, uses)
    return curve


class Replay:
    """One routing to be replayed with many settings. ``stop`` ends what is running, from another thread."""

    def __init__(self, routing: Routing, records: Records, costs: Costs) -> None:
        if len(records.bits) != routing.shape.total:
            raise EngineError(f"The routing is of {routing.shape.total} experts, the widths are of {len(records.bits)}")
        self._native = bind({
            "replay": (c_int32, (POINTER(_Tape), POINTER(_Setup), POINTER(c_int32), POINTER(_Outcomes))),
            "replay_size": (c_int64, (c_int32,)),
        })
        assert [self._native.replay_size(i) for i in range(3)] == [sizeof(kind) for kind in (_Tape, _Setup, _Outcomes)]
        self.routing, self.records, self.costs = routing, records, costs
        self._tape, self._kept = _tape_of(routing)
        self._stopped = c_int32(0)
        self._widths = sorted(records.bytes_by_bits)
        self._wanted = np.searchsorted(self._widths, records.bits).astype(np.uint8)

    def stop(self) -> None:
        self._stopped.value = 1

    def run(self, cell: Cell) -> Replayed | None:
        """What would have happened; None where ``stop`` was called.

        Raises:
            EngineError: a budget that one layer of one token does not fit, or a policy that is not known.
        """
        policy = ORACLE if cell.eviction == ORACLE else policy_name(cell.eviction)
        routing, costs = self.routing, self.costs
        least = routing.top_k * max(self.records.bytes_by_bits[int(bits)] for bits in np.unique(self.records.bits))
        if cell.budget < least:
            raise EngineError(f"A budget of {cell.budget:,} bytes cannot hold one layer's experts of one token; the smallest is {least:,}")
        heard, kept = _tape_of(cell.heard) if cell.heard else (None, [])
        bits, sizes = np.array(self._widths, np.int32), np.array([self.records.bytes_by_bits[b] for b in self._widths], np.int64)
        expert_ns = np.array([costs.expert_ns.get(b, 0) for b in self._widths], np.int64)
        initial = np.ascontiguousarray(cell.initial, np.int32)
        device, out, misses = costs.device, _Outcomes(), np.zeros(routing.tokens, np.int32)
        setup = _Setup(
            policy=policy.encode(), predictor=cell.predictor.handle if cell.predictor else None, clairvoyant=cell.clairvoyant,
            depth=cell.depth if cell.predictor or cell.clairvoyant else 0, width=cell.width or cell.depth * routing.top_k,
            balanced=cell.balanced, widths=len(bits), initial_count=len(initial), budget=cell.budget, bits=bits.ctypes.data,
            bytes=sizes.ctypes.data, wanted=self._wanted.ctypes.data, initial=initial.ctypes.data,
            expected=None if cell.expected is None else cell.expected.ctypes.data, bandwidth=device.bandwidth,
            latency=int(device.latency * 1e9), wake=costs.wake_ns, lanes=costs.lanes, layer_ns=costs.layer_ns, token_ns=costs.token_ns,
            expert_ns=expert_ns.ctypes.data, misses=misses.ctypes.data,
        )  # fmt: skip
        if heard is not None:
            setup.heard.contents = heard
        done = self._native.replay(byref(self._tape), byref(setup), byref(self._stopped), byref(out))
        del kept
        assert done >= 0, "the policy is known"
        return _replayed(out, misses) if done else None


def _tape_of(routing: Routing) -> tuple[_Tape, list[object]]:
    """The native view of a routing, and what keeps its memory."""
    experts, lengths = np.ascontiguousarray(routing.experts, np.int16), np.ascontiguousarray(routing.lengths, np.int32)
    prefill = np.ascontiguousarray(routing.prefill, np.int32)
    arrays = experts.ctypes.data, lengths.ctypes.data, prefill.ctypes.data
    return _Tape(*routing.shape, routing.top_k, len(lengths), *arrays, len(prefill)), [experts, lengths, prefill]


def _replayed(out: _Outcomes, misses: npt.NDArray[np.int32]) -> Replayed:
    uses = {outcome: int(out.uses[outcome]) for outcome in Outcome}
    return Replayed(
        out.tokens, uses, out.demand_bytes, out.useful_bytes, out.wasted_bytes, out.guessed, out.guessed_right, out.evictions, out.ns,
        out.stall_ns, out.peak_bytes, misses,
    )  # fmt: skip


__all__ = ["ORACLE", "POLICIES", "Cell", "Records", "Replay", "Replayed", "lru_curve"]
