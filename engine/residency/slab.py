"""Page-aligned memory for expert records, whose physical size is exact.

Every slot is a stretch of address space as long as the longest record; only the pages a record fills are backed by
memory. So records of different widths share the buffer without fragmentation, and what is given back is given back
to the system at once.
"""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)


class Slab:
    """``slots`` slots of ``slot_bytes`` (a multiple of the page size) each, at first without memory behind them."""

    def __init__(self, slots: int, slot_bytes: int) -> None:
        self.slot_bytes = slot_bytes
        self.committed = 0  # bytes of physical memory at most in use
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
        self._map = mmap.mmap(-1, slots * slot_bytes, flags=flags)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            self._map.madvise(mmap.MADV_NOHUGEPAGE)  # a huge page would take memory that no record asked for
        self._view = memoryview(self._map)
        self._tensor = torch.frombuffer(self._map, dtype=torch.uint8)
        self._address = self._tensor.data_ptr()
        self._held = [0] * slots
        self._free = list(range(slots - 1, -1, -1))

    def take(self, nbytes: int, ceiling: int) -> int:
        """A free slot for a record of ``nbytes``; physical memory stays within ``ceiling`` bytes.

        The caller sees to it that the records in use and this one fit ``ceiling``; memory kept in free slots yields.
        """
        slot = self._best_free(nbytes)
        self._free.remove(slot)
        if self._held[slot] > nbytes:
            self._trim(slot, nbytes)
        for other in self._free:
            if self.committed + nbytes - self._held[slot] <= ceiling:
                break
            self._trim(other, 0)
        self.committed += nbytes - self._held[slot]
        self._held[slot] = nbytes
        return slot

    def give(self, slot: int) -> None:
        """The record in ``slot`` is no longer needed; its memory is kept for the next taker."""
        self._free.append(slot)

    def release(self) -> None:
        """Return the memory of all free slots to the system."""
        for slot in self._free:
            self._trim(slot, 0)

    def memory(self, slot: int, nbytes: int) -> memoryview:
        """The first ``nbytes`` of a slot, to read into."""
        start = slot * self.slot_bytes
        return self._view[start : start + nbytes]

    def address(self, slot: int) -> int:
        """Where a slot begins in memory."""
        return self._address + slot * self.slot_bytes

    def tensor(self, slot: int, nbytes: int) -> Tensor:
        """The first ``nbytes`` of a slot as uint8 [nbytes]: the same memory."""
        start = slot * self.slot_bytes
        return self._tensor[start : start + nbytes]

    def _best_free(self, nbytes: int) -> int:
        # The newest free slot that already holds just as much spares page faults; else the newest.
        for slot in reversed(self._free[-8:]):
            if self._held[slot] == nbytes:
                return slot
        return self._free[-1]

    def _trim(self, slot: int, keep: int) -> None:
        held = self._held[slot]
        if held > keep:
            self._map.madvise(mmap.MADV_DONTNEED, slot * self.slot_bytes + keep, held - keep)
            self.committed -= held - keep
            self._held[slot] = keep
