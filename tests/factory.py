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
        spent = dict.fromkeys(SpanKind, 0)
        evictions = demand = 0
        for layer in range(self.layers):
            self._work(spent, SpanKind.ATTENTION, row, layer, 80_000, 160_000, 1 + prefill)
            self._work(spent, SpanKind.ROUTER, row, layer, 9_000, 20_000)
            if self.native:
                self._work(spent, SpanKind.ACCOUNT, row, layer, 20_000, 60_000)
                self._work(spent, SpanKind.SHARED, row, layer, 60_000, 80_000)
            chosen = self.random.choice(self.experts, min(self.experts, self.top_k * (1 + prefill)), replace=False, p=self.odds[layer])
            missed: list[int] = []
            for rank, expert in enumerate(chosen.tolist()):
                outcome = self._find(row, layer, expert, bits, missed)
                counts[outcome] += 1
                weight = 1 / len(chosen)
                self.rows["accesses"].append(
                    (self.now, row, layer, expert, bits, outcome, 0 if prefill else rank, not prefill, max(1, tokens // 2), weight)
                )
            evictions += self._read(spent, row, layer, missed, bits)
            demand += len(missed) * RECORD_BYTES[bits]
            for expert in chosen.tolist():
                self._work(spent, SpanKind.EXPERT, row, layer, 40_000, 60_000, 1, expert, bits)
        self._work(spent, SpanKind.HEAD, row, -1, 300_000, 300_001)
        self._work(spent, SpanKind.SAMPLE, row, -1, 60_000, 60_001)
        self.now += 10_000 if self.native else 50_000
        held = {width: sum(RECORD_BYTES[b] for b in self.resident.values() if b == width) for width in (2, 4, 8, 16)}
        duration = self.now - start
        framework = duration - sum(spent[kind] for kind in SpanKind if kind not in (SpanKind.READ, SpanKind.ACCOUNT))
        self.rows["tokens"].append((
            request, int(self.random.integers(4096)), tokens, Phase.PREFILL if prefill else Phase.DECODE, start, duration,
            spent[SpanKind.ATTENTION] + spent[SpanKind.SHARED], spent[SpanKind.ROUTER], spent[SpanKind.EXPERT], spent[SpanKind.STALL],
            spent[SpanKind.HEAD], spent[SpanKind.SAMPLE], framework, spent[SpanKind.STALL],
            counts[Outcome.HIT] + counts[Outcome.PRELOADED], counts[Outcome.PRELOADED], *(counts[Outcome[name.upper()]] for name in MISSES),
            evictions, demand, 0, 0, self.budget, sum(held.values()), held[2], 0, held[4], held[8], held[16], 4096 * (row + len(PROMPT)),
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

    def _find(self, row: int, layer: int, expert: int, bits: int, missed: list[int]) -> Outcome:
        key = (layer, expert)
        if key in self.resident:
            self.resident.move_to_end(key)
            return Outcome.HIT
        missed.append(expert)
        first = key not in self.seen
        self.seen.add(key)
        self.rows["residency"].append((self.now, row, layer, expert, Residency.LOADING, bits, 0.0))
        return Outcome.FIRST_TOUCH if first else Outcome.CAPACITY

    def _read(self, spent: dict, row: int, layer: int, missed: list[int], bits: int) -> int:
        """Read what was missed, on several lanes at once; the token loop waits for all. Returns how many were evicted."""
        evicted, end = 0, self.now
        for slot, expert in enumerate(missed):
            while len(self.resident) >= self.capacity:
                (old_layer, old), _ = self.resident.popitem(last=False)
                self.rows["residency"].append((self.now, row, old_layer, old, Residency.ABSENT, 0, 0.5))
                evicted += 1
            began, duration = self.now + 3_000 * slot, int(self.random.integers(250_000, 500_000))
            nbytes = RECORD_BYTES[bits]
            self.rows["spans"].append(
                (began, duration, row, layer, expert, SpanKind.READ, 1 + slot % LANES, bits, Outcome.FIRST_TOUCH, nbytes)
            )
            self.read += nbytes
            end = max(end, began + duration)
            self.resident[layer, expert] = bits
            self.rows["residency"].append((end, row, layer, expert, Residency.RESIDENT, bits, 0.0))
        if missed:
            self._span(spent, SpanKind.STALL, row, layer, end - self.now, missed[0], bits)
        return evicted


def make_messages(
    layers: int = 8, experts: int = 16, top_k: int = 2, tokens: int = 50, seed: int = 0, native: bool = False
) -> Iterator[Notice]:
    """One session of two requests (``tokens`` rows in all, two of them prefills); halfway the expert bits change from 4 to 8.

    ``native``: as the native decoder records it, in short spans, with shared experts and bookkeeping between them.
    """
    run, settings, model = _Run(layers, experts, top_k, seed, native), defaults(), make_model(layers, experts, top_k)
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
    layers: int = 8, experts: int = 16, top_k: int = 2, tokens: int = 50, seed: int = 0, path: Path | None = None, native: bool = False
) -> Recording:
    """A recording of ``make_messages``, in memory or (``path``) in a session file."""
    recording = Recording(path=path) if path else Recording()
    for message in make_messages(layers, experts, top_k, tokens, seed, native):
        recording.append(message)
    return recording
