"""The account of a run: spans, accesses and state changes as they happen, one row a pass, drained in batches.

While a pass runs, a row is a tuple put aside: packing it there would cost the token loop twice as much as in one go.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from time import perf_counter_ns

import numpy as np

from engine.events import TABLES, Outcome, Phase, Residency, SpanKind

_FORMATS = {"i8": "q", "i4": "i", "i2": "h", "u1": "B", "f4": "f"}
_Row = tuple[float, ...]


class _Rows:
    """One table's rows since the last drain; ``add`` takes the values of one, in the order of its columns."""

    def __init__(self, dtype: np.dtype) -> None:
        fields = [dtype.fields[name][0].str[1:] for name in dtype.names or ()] if dtype.fields else []
        row = struct.Struct("<" + "".join(_FORMATS[kind] for kind in fields))
        assert row.size == dtype.itemsize
        self._pack = row.pack
        self._rows: list[_Row | bytes] = []
        self.add: Callable[[_Row], None] = self._rows.append
        self.extend: Callable[[bytes], None] = self._rows.append  # rows that are bytes already

    def drain(self) -> bytes:
        pack = self._pack
        data = b"".join([row if isinstance(row, bytes) else pack(*row) for row in self._rows])
        self._rows.clear()
        return data


class Ledger:
    """Collects what one session does. Times are ns since ``origin``; ``on`` False keeps totals only (to measure the cost)."""

    def __init__(self, experts: int, on: bool = True) -> None:
        self.origin = perf_counter_ns()
        self.reached = 0  # when the last span of the token loop ended
        self.on = on
        self.token = 0  # row of ``tokens`` under way
        self.phase = Phase.PREFILL
        self.times = [0] * len(SpanKind)  # ns of the pass under way, by kind
        self.outcomes = [0] * len(Outcome)
        self.demand_bytes = 0
        self._experts = experts
        self._rows = {name: _Rows(dtype) for name, dtype in TABLES.items() if name != "samples"}
        # Bound once: these run a hundred times a token.
        self._add_span, self._add_access, self._add_residency = (self._rows[name].add for name in ("spans", "accesses", "residency"))
        self._pieces: list[str] = []
        self.bits_used = 0  # widths of the experts used by the pass, summed
        self._reads: list[tuple[int, int]] = []

    def now(self) -> int:
        """ns since the session began."""
        return perf_counter_ns() - self.origin

    def begin_pass(self, token: int, phase: Phase) -> None:
        """A forward pass starts: its totals are zero."""
        self.token, self.phase = token, phase
        self.reached = self.now()
        self.times = [0] * len(SpanKind)
        self.outcomes = [0] * len(Outcome)
        self.demand_bytes = self.bits_used = 0
        self._reads.clear()

    def span(self, kind: SpanKind, start: int, layer: int = -1, expert: int = -1, bits: int = 0) -> None:
        """Work of the token loop that began at ``start`` (session ns) ends now."""
        end = perf_counter_ns() - self.origin
        self.times[kind] += end - start
        self.reached = end
        if self.on:
            local = expert % self._experts if expert >= 0 else -1
            self._add_span((start, end - start, self.token, layer, local, kind, 0, bits, 0, 0))

    def account(self) -> int:
        """What the token loop did since the last span ended was its own bookkeeping. Returns now, where the next span begins."""
        start = self.reached
        self.span(SpanKind.ACCOUNT, start)
        return self.reached

    def took(self, spans: bytes, accesses: bytes, times: list[int], reached: int) -> None:
        """Take over what the native decoder recorded: rows, ns by kind of span, and the end of its last span."""
        for kind, duration in enumerate(times):
            self.times[kind] += duration
        self.reached = max(self.reached, reached)
        if self.on:
            self._rows["spans"].extend(spans)
            self._rows["accesses"].extend(accesses)

    def read(self, expert: int, bits: int, outcome: int, lane: int, started: int, finished: int, nbytes: int) -> None:
        """A record was read between two ``perf_counter_ns`` times on an I/O lane."""
        start, end = started - self.origin, finished - self.origin
        self.demand_bytes += nbytes
        self._reads.append((start, end))
        if self.on:
            layer, local = divmod(expert, self._experts)
            self._add_span((start, end - start, self.token, layer, local, SpanKind.READ, lane, bits, outcome, nbytes))

    def access(self, expert: int, bits: int, outcome: Outcome, rank: int, tokens: int, weight: float) -> None:
        """The router chose ``expert``; how it was found."""
        self.outcomes[outcome] += 1
        self.bits_used += bits
        if self.on:
            layer, local = divmod(expert, self._experts)
            now = perf_counter_ns() - self.origin
            self._add_access((now, self.token, layer, local, bits, outcome, min(rank, 255), self.phase, tokens, weight))

    def residency(self, expert: int, state: Residency, bits: int, score: float) -> None:
        """An expert's state in the buffer changed."""
        if self.on:
            layer, local = divmod(expert, self._experts)
            self._add_residency((perf_counter_ns() - self.origin, self.token, layer, local, state, bits, score))

    def io_time(self) -> int:
        """ns of the pass in which at least one read was in flight."""
        total = reached = 0
        for start, end in sorted(self._reads):
            total += max(0, end - max(start, reached))
            reached = max(reached, end)
        return total

    def end_pass(self, row: _Row, piece: str) -> None:
        """The pass is over; ``row`` is its row of ``tokens``, ``piece`` the text of its token."""
        self._rows["tokens"].add(row)
        self._pieces.append(piece)

    def drain(self) -> tuple[dict[str, bytes], list[str]]:
        """All rows since the last drain by table, and the texts of their tokens."""
        tables = {name: rows.drain() for name, rows in self._rows.items()}
        pieces, self._pieces = self._pieces, []
        return {name: data for name, data in tables.items() if data}, pieces
