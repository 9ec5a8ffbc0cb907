"""Recordings for tests: valid messages of a small simulated run, with an LRU buffer that truly hits, misses and evicts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.events import (
    MISSES,
    PROTOCOL,
    TABLES,
    Applied,
    Asked,
    Batch,
    Began,
    Budget,
    Finished,
    Machine,
    ModelInfo,
    Notice,
    Opened,
    Outcome,
    Phase,
    Ready,
    Residency,
    SpanKind,
    State,
)
from engine.recording.recording import Recording
from engine.settings import defaults

RECORD_BYTES = {2: 60_000, 4: 110_000, 8: 210_000, 16: 400_000}
WORDS = [" the", " model", " reads", " an", " expert", ",", " then", " naïve", " 数据", "\n", " <b>", ".", " and", " waits"]
PROMPT = ["Once", " upon", " a", " time"]
LANES = 4


def make_model(layers: int = 8, experts: int = 16, top_k: int = 2) -> ModelInfo:
    return ModelInfo(
        name="tiny", architecture="OlmoeForCausalLM", path="models/tiny", store="stores/tiny", model_hash=f"{layers}x{experts}",
        layers=layers, experts=experts, top_k=top_k, hidden=256, width=256, widths=list(RECORD_BYTES), record_bytes=RECORD_BYTES,
        skeleton_bytes=9_000_000, quantizer="group64", kernel="native", direct_io=True, dtype="float32", vocabulary=4096, context=4096,
    )  # fmt: skip


def make_machine() -> Machine:
    return Machine(system="Linux 6.1", processor="x86-64", cores=2, memory=24 << 30, python="3.11", torch="2.13", transformers="5.23")


@dataclass
class _Run:
    """The simulated engine: a clock, a buffer, and the rows not yet sent."""

    layers: int
    experts: int
    top_k: int
    seed: int
    native: bool = False
    now: int = 40_000_000
    resident: OrderedDict[tuple[int, int], int] = field(default_factory=OrderedDict)
    rows: dict[str, list[tuple]] = field(default_factory=lambda: {name: [] for name in TABLES})
    pieces: list[str] = field(default_factory=list)
    read: int = 0
    useful: int = 0
    wasted: int = 0
    in_flight: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.capacity = max(self.top_k + 1, self.layers * self.experts // 3)
        self.seen: set[tuple[int, int]] = set()
        popularity = 1 / np.arange(1, self.experts + 1)
        self.odds = [self.random.permutation(popularity / popularity.sum()) for _ in range(self.layers)]

    @property
    def budget(self) -> int:
        return self.capacity * RECORD_BYTES[4]

    def limits(self, bits: int) -> Budget:
        return Budget(self.budget, self.top_k * RECORD_BYTES[bits], self.layers * self.experts * RECORD_BYTES[bits])

    def batch(self) -> Batch:
        tables = {name: np.array(rows, TABLES[name]).tobytes() for name, rows in self.rows.items() if rows}
        message = Batch(tables=tables, pieces=self.pieces)
        self.rows, self.pieces = {name: [] for name in TABLES}, []
        return message

    def token(self, row: int, request: int, tokens: int, bits: int) -> None:
        """One forward pass over ``tokens`` tokens (1: decode)."""
        start, prefill, counts = self.now, tokens > 1, dict.fromkeys(Outcome, 0)
        self.useful = self.wasted = 0
        self.in_flight = []
        spent = dict.fromkeys(SpanKind, 0)
        evictions = demand = 0
        for layer in range(self.layers):
            self._work(spent, SpanKind.ATTENTION, row, layer, 80_000, 160_000, 1 + prefill)
            self._work(spent, SpanKind.ROUTER, row, layer, 9_000, 20_000)
            if self.native:
                self._work(spent, SpanKind.ACCOUNT, row, layer, 20_000, 60_000)
                self._work(spent, SpanKind.PREDICT, row, layer, 30_000, 60_000)
                self._work(spent, SpanKind.SHARED, row, layer, 60_000, 80_000)
            chosen = self._choose(layer, prefill)
            missed: dict[int, Outcome] = {}
            self._routed(row, layer, chosen)
            for rank, expert in enumerate(chosen.tolist()):
                outcome = self._find(row, layer, expert, bits, missed)
                counts[outcome] += 1
                weight = 1 / len(chosen)
                self.rows["accesses"].append(
                    (self.now, row, layer, expert, bits, outcome, 0 if prefill else rank, not prefill, max(1, tokens // 2), weight)
                )
            evictions += self._read(spent, row, layer, missed, bits)
            demand += sum(outcome != Outcome.LATE for outcome in missed.values()) * RECORD_BYTES[bits]
            self._look_ahead(row, layer, prefill, bits)
            for expert in chosen.tolist():
                self._work(spent, SpanKind.EXPERT, row, layer, 40_000, 60_000, 1, expert, bits)
        self._work(spent, SpanKind.HEAD, row, -1, 300_000, 300_001)
        self._work(spent, SpanKind.SAMPLE, row, -1, 60_000, 60_001)
        self.now += 10_000 if self.native else 50_000
        held = {width: sum(RECORD_BYTES[b] for b in self._held() if b == width) for width in (2, 4, 8, 16)}
        duration = self.now - start
        framework = duration - sum(spent[kind] for kind in SpanKind if kind not in (SpanKind.READ, SpanKind.ACCOUNT, SpanKind.PREDICT))
        self.rows["tokens"].append((
            request, int(self.random.integers(4096)), tokens, Phase.PREFILL if prefill else Phase.DECODE, start, duration,
            spent[SpanKind.ATTENTION] + spent[SpanKind.SHARED], spent[SpanKind.ROUTER], spent[SpanKind.EXPERT], spent[SpanKind.STALL],
            spent[SpanKind.HEAD], spent[SpanKind.SAMPLE], framework, covered(self.in_flight),
            counts[Outcome.HIT] + counts[Outcome.PRELOADED], counts[Outcome.PRELOADED], *(counts[Outcome[name.upper()]] for name in MISSES),
            evictions, demand, self.useful, self.wasted, self.budget, sum(held.values()),
            held[2], 0, held[4], held[8], held[16], 4096 * (row + len(PROMPT)),
            float(bits), float(-self.random.exponential()),
        ))  # fmt: skip
        self.rows["samples"].append((
            self.now, 500_000_000 + row * 1000, self.budget, sum(held.values()), self.budget, 4096 * row, self.read, 3, 8 << 30, 95.0,
        ))  # fmt: skip
        self.pieces.append(WORDS[row % len(WORDS)])

    def _work(
        self, spent: dict, kind: SpanKind, row: int, layer: int, least: int, most: int, times: int = 1, expert: int = -1, bits: int = 0
    ) -> None:
        """A span of ``least`` to ``most`` ns; a third of that where the decode is native."""
        duration = int(self.random.integers(least, most)) * times
        self._span(spent, kind, row, layer, duration // 3 if self.native else duration, expert, bits)

    def _span(self, spent: dict, kind: SpanKind, row: int, layer: int, duration: int, expert: int = -1, bits: int = 0) -> None:
        self.rows["spans"].append((self.now, duration, row, layer, expert, kind, 0, bits, 0, 0))
        spent[kind] += duration
        self.now += duration

    def _choose(self, layer: int, prefill: bool) -> np.ndarray:
        return self.random.choice(self.experts, min(self.experts, self.top_k * (1 + prefill)), replace=False, p=self.odds[layer])

    def _held(self) -> list[int]:
        """The widths of what is in memory."""
        return list(self.resident.values())

    def _routed(self, row: int, layer: int, chosen: np.ndarray) -> None:
        """The router has spoken."""

    def _look_ahead(self, row: int, layer: int, prefill: bool, bits: int) -> None:
        """Read ahead for the layers to come."""

    def _find(self, row: int, layer: int, expert: int, bits: int, missed: dict[int, Outcome]) -> Outcome:
        key = (layer, expert)
        if key in self.resident:
            self.resident.move_to_end(key)
            return Outcome.HIT
        missed[expert] = Outcome.CAPACITY if key in self.seen else Outcome.FIRST_TOUCH
        self.seen.add(key)
        return missed[expert]

    def _evict(self, row: int, newcomer: tuple[int, int]) -> int:
        """Make room for one more; returns how many were evicted."""
        evicted = 0
        while len(self.resident) >= self.capacity:
            (old_layer, old), _ = self.resident.popitem(last=False)
            self._change(row, (old_layer, old), Residency.ABSENT, 0, 0.5, newcomer=newcomer)
            evicted += 1
        return evicted

    def _change(self, row: int, key: tuple[int, int], state: Residency, bits: int, score: float = 0.0, time: int = 0,
                newcomer: tuple[int, int] | None = None) -> None:  # fmt: skip
        number = newcomer[0] * self.experts + newcomer[1] + 1 if newcomer else 0
        self.rows["residency"].append((time or self.now, row, *key, state, bits, score, number, 0.25 if newcomer else 0.0))

    def _read(self, spent: dict, row: int, layer: int, missed: dict[int, Outcome], bits: int) -> int:
        """Read what was missed, on several lanes at once; the token loop waits for all. Returns how many were evicted."""
        evicted, end, landed = 0, self.now, []
        for slot, (expert, outcome) in enumerate(missed.items()):
            evicted += self._evict(row, (layer, expert))
            self._change(row, (layer, expert), Residency.LOADING, bits)
            began, duration = self.now + 3_000 * slot, int(self.random.integers(250_000, 500_000))
            self._landed(row, (layer, expert), began, duration, 1 + slot % LANES, bits, outcome)
            end = max(end, began + duration)
            self.resident[layer, expert] = bits
            landed.append((began + duration, (layer, expert), bits))
        for time, key, width in sorted(landed):
            self._change(row, key, Residency.RESIDENT, width, time=time)
        if missed:
            self._span(spent, SpanKind.STALL, row, layer, end - self.now, next(iter(missed)), bits)
        return evicted

    def _landed(self, row: int, key: tuple[int, int], began: int, duration: int, lane: int, bits: int, outcome: Outcome) -> None:
        """A record was read."""
        self.rows["spans"].append((began, duration, row, *key, SpanKind.READ, lane, bits, outcome, RECORD_BYTES[bits]))
        self.in_flight.append((began, began + duration))
        self.read += RECORD_BYTES[bits]


@dataclass
class _AheadRun(_Run):
    """One that guesses the next layer's experts, two of three rightly, and reads ahead those it thinks likely and has not."""

    staged: OrderedDict[tuple[int, int], int] = field(default_factory=OrderedDict)
    flying: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)  # start, duration, lane
    asked: dict[tuple[int, int], Asked] = field(default_factory=dict)
    guesses: list[tuple[int, float]] = field(default_factory=list)
    coming: np.ndarray | None = None
    evicted: int = 0
    bits: int = 4

    def _choose(self, layer: int, prefill: bool) -> np.ndarray:
        chosen, self.coming = self.coming, None
        return super()._choose(layer, prefill) if chosen is None else chosen

    def _held(self) -> list[int]:
        return [*self.resident.values(), *self.staged.values(), *(self.bits for _ in self.flying)]

    def _look_ahead(self, row: int, layer: int, prefill: bool, bits: int) -> None:
        self.guesses, self.bits = [], bits
        if prefill or layer + 1 == self.layers:
            return
        self.coming = super()._choose(layer + 1, False)
        odds = 0.05 + 0.3 * self.random.random(self.experts)
        foreseen = self.coming[self.random.random(len(self.coming)) < 0.7]
        odds[foreseen] = 0.5 + 0.5 * self.random.random(len(foreseen))
        odds[self.random.integers(self.experts)] = 0.4 + 0.4 * self.random.random()
        likeliest = np.argsort(-odds, kind="stable")[: 2 * self.top_k]
        self.guesses = [(expert, float(odds[expert])) for expert in likeliest.tolist()]
        for expert, chance in self.guesses:
            self._read_ahead(row, (layer + 1, expert), bits, chance)

    def _read_ahead(self, row: int, key: tuple[int, int], bits: int, odds: float) -> None:
        self.asked[key] = Asked.HELD if key in self.resident else Asked.NOTHING
        if key in self.staged or key in self.flying:
            self.asked[key] = Asked.READ
        elif self.asked[key] == Asked.NOTHING and odds > 0.4 and len(self.flying) < LANES:
            while len(self.staged) + len(self.flying) >= 2 * self.top_k and self.staged:
                old, _ = self.staged.popitem(last=False)
                self._change(row, old, Residency.ABSENT, 0)
                self.wasted += RECORD_BYTES[bits]
            self._change(row, key, Residency.LOADING, bits, odds)
            self.asked[key], lane = Asked.READ, 1 + len(self.flying)
            # Three of four are there in time for the next layer, which is some 200 us off (native: a third of that).
            duration = int(self.random.integers(60_000, 420_000)) // (3 if self.native else 1)
            self.flying[key] = self.now + 2_000 * lane, duration, lane

    def _routed(self, row: int, layer: int, chosen: np.ndarray) -> None:
        for key, (start, duration, lane) in list(self.flying.items()):
            if start + duration <= self.now:
                del self.flying[key]
                self._landed(row, key, start, duration, lane, self.bits, Outcome.PRELOADED)
                self._change(row, key, Residency.STAGED, self.bits)
                self.staged[key] = self.bits
        for rank, (expert, odds) in enumerate(self.guesses):
            asked = self.asked.get((layer, expert), Asked.NOTHING)
            self.rows["predictions"].append((self.now, row, layer, expert, rank, 1, expert in chosen, asked, odds))

    def _find(self, row: int, layer: int, expert: int, bits: int, missed: dict[int, Outcome]) -> Outcome:
        key = (layer, expert)
        if key in self.staged:
            self.evicted += self._evict(row, (layer, expert))
            self.resident[key] = self.staged.pop(key)
            self._change(row, key, Residency.RESIDENT, self.resident[key])
            self.useful += RECORD_BYTES[bits]
        elif key in self.flying:
            missed[expert] = Outcome.LATE
            self.useful += RECORD_BYTES[bits]
        else:
            outcome = super()._find(row, layer, expert, bits, missed)
            if outcome == Outcome.CAPACITY and any(self.asked.get((layer, e)) == Asked.READ for e, _ in self.guesses):
                outcome = missed[expert] = Outcome.MISPREDICTED
            return outcome
        self.seen.add(key)
        return Outcome.LATE if expert in missed else Outcome.PRELOADED

    def _read(self, spent: dict, row: int, layer: int, missed: dict[int, Outcome], bits: int) -> int:
        """Those under way are joined: waited for, not read again."""
        joined = {expert: self.flying.pop((layer, expert)) for expert, outcome in missed.items() if outcome == Outcome.LATE}
        evicted, self.evicted = self.evicted, 0
        for expert, (start, duration, lane) in joined.items():
            evicted += self._evict(row, (layer, expert))
            self.resident[layer, expert] = bits
            self._landed(row, (layer, expert), start, duration, lane, bits, Outcome.PRELOADED)
        evicted += super()._read(spent, row, layer, {e: outcome for e, outcome in missed.items() if outcome != Outcome.LATE}, bits)
        for expert, (start, duration, _) in joined.items():
            if start + duration > self.now:
                self._span(spent, SpanKind.STALL, row, layer, start + duration - self.now, expert, bits)
            self._change(row, (layer, expert), Residency.RESIDENT, bits)
        return evicted


def covered(stretches: list[tuple[int, int]]) -> int:
    """ns in which at least one of the stretches goes on."""
    total, reached = 0, 0
    for start, end in sorted(stretches):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def make_messages(
    layers: int = 8, experts: int = 16, top_k: int = 2, tokens: int = 50, seed: int = 0, native: bool = False, ahead: bool = False
) -> Iterator[Notice]:
    """One session of two requests (``tokens`` rows in all, two of them prefills); halfway the expert bits change from 4 to 8.

    ``native``: as the native decoder records it, in short spans, with shared experts and bookkeeping between them. ``ahead``: with
    predictions, and experts read ahead of which some are used, some late, some wasted.
    """
    run = (_AheadRun if ahead else _Run)(layers, experts, top_k, seed, native)
    settings, model = {**defaults(), "predictor": "gate" if ahead else "none"}, make_model(layers, experts, top_k)
    effective = {**settings, "budget": run.budget, "eviction": "lru", "compute_threads": 1, "dtype": "float32"}
    yield Opened(protocol=PROTOCOL, version="0.1.0", wall=1_790_000_000.0, pid=1234, machine=make_machine())
    yield State(time=1_000, state="loading")
    yield Ready(time=30_000_000, model=model, settings=settings, effective=effective, budget=run.limits(4))
    yield State(time=30_000_000, state="idle")
    row, bits = 0, 4
    lengths = [tokens] if tokens < 4 else [tokens // 2, tokens - tokens // 2]
    for request, length in enumerate(lengths):
        yield Began(time=run.now, request=request, prompt="".join(PROMPT), prompt_pieces=PROMPT, first_token=row)
        yield State(time=run.now, state="running")
        for step in range(length):
            if row == tokens // 2 and bits == 4:
                bits = 8
                yield Applied(time=run.now, token=row, name="bits", old=4, new=8, effective=8, budget=run.limits(8))
            run.token(row, request, len(PROMPT) if step == 0 else 1, bits)
            row += 1
            if row % 3 == 0 or step == length - 1:
                yield run.batch()
        yield Finished(time=run.now, request=request, reason="length")
        yield State(time=run.now, state="idle")
        run.now += 5_000_000


def make_recording(
    layers: int = 8, experts: int = 16, top_k: int = 2, tokens: int = 50, seed: int = 0, path: Path | None = None, native: bool = False,
    ahead: bool = False,
) -> Recording:
    """A recording of ``make_messages``, in memory or (``path``) in a session file."""
    recording = Recording(path=path) if path else Recording()
    for message in make_messages(layers, experts, top_k, tokens, seed, native, ahead):
        recording.append(message)
    return recording
