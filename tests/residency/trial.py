"""One expert buffer by itself, without a stream (residency/api.cpp). S layers, E experts a layer, N = S · E."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from mmap import PAGESIZE

from engine.binding import bind
from engine.events import Residency
from engine.ledger import Totals
from engine.residency.buffer import BufferView
from tests.residency.policy import Tried

Moment = tuple[int, int]  # pass, layer


class Trial:
    """A buffer driven by hand; ``widths`` gives the bytes of a record, by its bits: whole pages where there is ``memory`` behind them."""

    def __init__(self, policy: Tried, widths: dict[int, int], budget: int, memory: bool = True) -> None:
        moment = (c_int64, c_int32)
        self._native = bind({
            "trial_new": (c_void_p, (c_int32, c_int32, c_int32, c_void_p, c_void_p, c_int64, c_void_p, c_int64)),
            "trial_free": (None, (c_void_p,)),
            "trial_admit": (c_int32, (c_void_p, c_int32, c_int32, *moment)),
            "trial_adopt": (c_int32, (c_void_p, c_int32, *moment)),
            "trial_stage": (c_int32, (c_void_p, c_int32, c_int32, *moment, c_int32, c_float)),
            **{f"trial_{name}": (None, (c_void_p, c_int32)) for name in ("arrived", "abandon", "pin", "unpin")},
            **{f"trial_{name}": (None, (c_void_p, c_int64, *moment)) for name in ("resize", "set_staging")},
            "trial_memory": (c_void_p, (c_void_p,)),
            "trial_clear": (None, (c_void_p,)),
            "trial_state": (c_int32, (c_void_p, c_int32)),
            "trial_view": (None, (c_void_p, POINTER(BufferView))),
            "trial_totals": (POINTER(Totals), (c_void_p,)),
        })  # fmt: skip
        self.count, self.widths, self.slot = policy.count, widths, max(widths.values()) if memory else 0
        bits, nbytes = (c_int32 * len(widths))(*widths), (c_int64 * len(widths))(*widths.values())
        self._handle = self._native.trial_new(*policy.shape, len(widths), bits, nbytes, budget, policy.handle, self.slot)
        assert self._handle, "there is no address space"
        self.totals: Totals = self._native.trial_totals(self._handle).contents

    def admit(self, expert: int, width: int, at: Moment) -> bool:
        return bool(self._native.trial_admit(self._handle, expert, width, *at))

    def adopt(self, expert: int, at: Moment) -> bool:
        return bool(self._native.trial_adopt(self._handle, expert, *at))

    def stage(self, expert: int, width: int, at: Moment, distance: int, odds: float) -> bool:
        return bool(self._native.trial_stage(self._handle, expert, width, *at, distance, odds))

    def arrived(self, expert: int) -> None:
        self._native.trial_arrived(self._handle, expert)

    def abandon(self, expert: int) -> None:
        self._native.trial_abandon(self._handle, expert)

    def pin(self, expert: int) -> None:
        self._native.trial_pin(self._handle, expert)

    def unpin(self, expert: int) -> None:
        self._native.trial_unpin(self._handle, expert)

    def resize(self, budget: int, at: Moment) -> None:
        self._native.trial_resize(self._handle, budget, *at)

    def set_staging(self, nbytes: int, at: Moment) -> None:
        self._native.trial_set_staging(self._handle, nbytes, *at)

    def clear(self) -> None:
        self._native.trial_clear(self._handle)

    def states(self) -> list[Residency]:
        return [Residency(self._native.trial_state(self._handle, e)) for e in range(self.count)]

    def view(self) -> BufferView:
        view = BufferView()
        self._native.trial_view(self._handle, view)
        return view

    def record(self, expert: int) -> int:
        """Where the record of an expert in memory lies, 0 for others."""
        return int(self.view().records[expert])

    def memory(self, expert: int, nbytes: int) -> ctypes.Array[ctypes.c_uint8]:
        return (ctypes.c_uint8 * nbytes).from_address(self.record(expert))

    def physical(self) -> int:
        """Bytes of memory that the system has put behind all slots, as Linux tells."""
        size = self.count * self.slot
        present = (ctypes.c_ubyte * (size // PAGESIZE))()
        first = c_void_p(self._native.trial_memory(self._handle))
        assert ctypes.CDLL(None).mincore(first, ctypes.c_size_t(size), present) == 0
        return sum(page & 1 for page in present) * PAGESIZE

    def close(self) -> None:
        self._native.trial_free(self._handle)
