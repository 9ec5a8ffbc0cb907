"""The account of a run: spans, accesses, state changes and predictions as they happen, one row a pass, drained in batches.

The rows are made natively (recording/records.h), by the stream of experts and the decoder themselves; this is their owner.
"""

from __future__ import annotations

import ctypes
import struct
from ctypes import POINTER, Structure, c_int32, c_int64, c_void_p, sizeof
from time import perf_counter_ns

from engine.binding import bind
from engine.events import ACCESS, PREDICTION, RESIDENCY, SPAN, TOKEN, Outcome, Phase, SpanKind

NATIVE_TABLES = ("spans", "accesses", "residency", "predictions")
_KINDS = 16
_FORMATS = {"i8": "q", "i4": "i", "i2": "h", "u1": "B", "f4": "f"}
_Row = tuple[float, ...]


class Totals(Structure):
    """Sums over the pass under way (records.h). ``guessed`` counts the layers' k likeliest experts, ``guessed_right`` those chosen."""

    _fields_ = [
        ("times", c_int64 * _KINDS), ("outcomes", c_int64 * len(Outcome)), ("demand_bytes", c_int64), ("useful_bytes", c_int64),
        ("wasted_bytes", c_int64), ("bits_used", c_int64), ("evictions", c_int64), ("guessed", c_int64), ("guessed_right", c_int64),
    ]  # fmt: skip


class _Rows(Structure):
    _fields_ = [("rows", c_void_p * len(NATIVE_TABLES)), ("bytes", c_int64 * len(NATIVE_TABLES))]


class Ledger:
    """Collects what one session does. Times are ns since ``origin``; ``on`` False keeps totals only (to measure the cost)."""

    handle = None

    def __init__(self, experts: int, on: bool = True) -> None:
        self._native = bind({
            "records_size": (c_int64, (c_int32,)),
            "records_new": (c_void_p, (c_int32, c_int32, c_int64)),
            "records_free": (None, (c_void_p,)),
            "records_origin": (None, (c_void_p, c_int64)),
            "records_begin": (None, (c_void_p, c_int32, c_int32)),
            "records_totals": (POINTER(Totals), (c_void_p,)),
            "records_reached": (POINTER(c_int64), (c_void_p,)),
            "records_io_time": (c_int64, (c_void_p,)),
            "records_span": (None, (c_void_p, c_int32, c_int64, c_int32, c_int32, c_int32)),
            "records_account": (c_int64, (c_void_p,)),
            "records_rows": (None, (c_void_p, POINTER(_Rows))),
            "records_forget": (None, (c_void_p,)),
        })  # fmt: skip
        sizes = [SPAN.itemsize, ACCESS.itemsize, RESIDENCY.itemsize, PREDICTION.itemsize, sizeof(Totals), sizeof(_Rows)]
        assert [self._native.records_size(i) for i in range(len(sizes))] == sizes, "rows differ from the library's"
        self._origin = perf_counter_ns()
        self.handle = self._native.records_new(experts, on, self._origin)
        self.totals: Totals = self._native.records_totals(self.handle).contents
        self._reached: c_int64 = self._native.records_reached(self.handle).contents
        self.on = on
        self.token, self.phase = 0, Phase.PREFILL  # row of ``tokens`` under way
        self._pack = struct.Struct("<" + "".join(_FORMATS[TOKEN[name].str[1:]] for name in TOKEN.names or ())).pack
        self._tokens: list[bytes] = []
        self._pieces: list[str] = []
        self._rows = _Rows()

    @property
    def origin(self) -> int:
        """``perf_counter_ns`` at time 0."""
        return self._origin

    @origin.setter
    def origin(self, value: int) -> None:
        self._origin = value
        self._native.records_origin(self.handle, value)

    @property
    def reached(self) -> int:
        """When the last span of the token loop ended."""
        return self._reached.value

    def now(self) -> int:
        """ns since the session began."""
        return perf_counter_ns() - self._origin

    def begin_pass(self, token: int, phase: Phase) -> None:
        """A forward pass starts: its totals are zero."""
        self.token, self.phase = token, phase
        self._native.records_begin(self.handle, token, phase)

    def span(self, kind: SpanKind, start: int, layer: int = -1, expert: int = -1, bits: int = 0) -> None:
        """Work of the token loop that began at ``start`` (session ns) ends now; ``expert`` within its layer."""
        self._native.records_span(self.handle, kind, start, layer, expert, bits)

    def account(self) -> int:
        """What the token loop did since the last span ended was its own bookkeeping. Returns now, where the next span begins."""
        return int(self._native.records_account(self.handle))

    def time(self, kind: SpanKind) -> int:
        """ns of the pass spent on this."""
        return int(self.totals.times[kind])

    def outcome(self, outcome: Outcome) -> int:
        """Experts used by the pass that were found so."""
        return int(self.totals.outcomes[outcome])

    def io_time(self) -> int:
        """ns of the pass in which at least one read was in flight."""
        return int(self._native.records_io_time(self.handle))

    def end_pass(self, row: _Row, piece: str) -> None:
        """The pass is over; ``row`` is its row of ``tokens``, ``piece`` the text of its token."""
        self._tokens.append(self._pack(*row))
        self._pieces.append(piece)

    def drain(self) -> tuple[dict[str, bytes], list[str]]:
        """All rows since the last drain by table, and the texts of their tokens."""
        self._native.records_rows(self.handle, self._rows)
        spans = zip(NATIVE_TABLES, self._rows.rows, self._rows.bytes, strict=True)
        tables = {name: ctypes.string_at(rows, size) for name, rows, size in spans if size}
        self._native.records_forget(self.handle)
        if self._tokens:
            tables = {"tokens": b"".join(self._tokens), **tables}
        pieces, self._tokens, self._pieces = self._pieces, [], []
        return tables, pieces

    def __del__(self) -> None:
        if self.handle:
            self._native.records_free(self.handle)
            self.handle = None
