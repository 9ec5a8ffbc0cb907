"""The expert buffer (buffer.h) as Python sees it: which experts are in memory, and how many bytes of them.

S MoE layers, E experts a layer; an expert's number is layer · E + expert.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_int32, c_int64, c_uint8, c_uint64, c_void_p

import torch

from engine.binding import bind
from engine.errors import EngineError
from engine.events import WIDTHS, Residency
from engine.quant import ExpertWeights
from engine.store import Store


class BufferView(Structure):
    """view.h."""

    _fields_ = [
        ("budget", c_int64), ("held", c_int64), ("peak", c_int64), ("most_over", c_int64), ("evictions", c_int64), ("staging", c_int64),
        ("committed", c_int64), ("by_width", POINTER(c_int64)), ("records", POINTER(c_uint64)), ("width_places", POINTER(c_uint8)),
    ]  # fmt: skip


class ExpertBuffer:
    """Reads what the native stream ``handle`` holds; may be asked from another thread."""

    def __init__(self, store: Store, handle: int) -> None:
        self._store, self._handle, self._widths = store, handle, store.widths
        self._native = bind({
            "stream_view": (None, (c_void_p, POINTER(BufferView))),
            "stream_state": (c_int32, (c_void_p, c_int32)),
            "stream_bits": (c_int32, (c_void_p, c_int32)),
            "stream_clear": (None, (c_void_p,)),
        })  # fmt: skip
        view = self.view()
        self.records_address = ctypes.cast(view.records, c_void_p).value or 0
        self.width_places_address = ctypes.cast(view.width_places, c_void_p).value or 0
        self._records = view.records

    def view(self) -> BufferView:
        """All its numbers at this moment."""
        view = BufferView()
        self._native.stream_view(self._handle, view)
        return view

    @property
    def budget(self) -> int:
        return int(self.view().budget)

    @property
    def resident_bytes(self) -> int:
        """Bytes of experts resident, read ahead and loading: their memory is taken."""
        return int(self.view().held)

    @property
    def peak_bytes(self) -> int:
        return int(self.view().peak)

    @property
    def evictions(self) -> int:
        return int(self.view().evictions)

    @property
    def most_over(self) -> int:
        """The most bytes by which what is held, or the memory behind it, ever passed the budget in force: 0."""
        return int(self.view().most_over)

    def by_bits(self) -> dict[int, int]:
        """Bytes held, by width."""
        held = dict.fromkeys(WIDTHS, 0)
        held.update(zip(self._widths, self.view().by_width[: len(self._widths)], strict=True))
        return held

    def state(self, expert: int) -> Residency:
        return Residency(self._native.stream_state(self._handle, expert))

    def holds(self, expert: int) -> bool:
        """Whether ``expert`` is resident (neither loading nor read ahead)."""
        return self.state(expert) == Residency.RESIDENT

    def bits_of(self, expert: int) -> int:
        """The width ``expert`` is held at, 0 where it is absent."""
        return int(self._native.stream_bits(self._handle, expert))

    def record(self, expert: int) -> int:
        """The address of a resident expert's record, valid while it is pinned."""
        return int(self._records[expert])

    def weights(self, expert: int) -> ExpertWeights:
        """The weights of a resident expert: views, valid while it is pinned."""
        bits = self.bits_of(expert)
        memory = (c_uint8 * self._store.record_bytes(bits)).from_address(self.record(expert))
        return self._store.unpack(torch.frombuffer(memory, dtype=torch.uint8), bits)

    def clear(self) -> None:
        """Evict everything that is not pinned or loading."""
        self._native.stream_clear(self._handle)


def check_budget(budget: int, minimum: int) -> None:
    """Refuse a budget that one layer of one token does not fit.

    Raises:
        EngineError: with the smallest budget that works.
    """
    if budget < minimum:
        raise EngineError(
            f"A budget of {mebibytes(budget)} cannot hold the experts that one layer needs for one token; "
            f"the smallest that works is {mebibytes(minimum)}"
        )


def mebibytes(nbytes: int) -> str:
    """A size for people, rounded up so that it can be entered as it is read."""
    if nbytes < 2**20:
        return f"{-(-nbytes // 2**10)}KiB"
    return f"{-(-nbytes * 100 // 2**20) / 100:g}MiB"
