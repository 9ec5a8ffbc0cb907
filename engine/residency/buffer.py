"""The expert buffer: which experts are in memory, never more bytes of them than the budget.

S MoE layers, E experts a layer; an expert's number is layer · E + expert.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engine.errors import EngineError
from engine.events import Residency
from engine.quant import ExpertWeights
from engine.residency.policy import Clock, Eviction
from engine.residency.slab import Slab
from engine.store import Store

Watcher = Callable[[int, Residency, int, float], None]
"""Told of every change: expert number, new state, bits, eviction score."""


class ExpertBuffer:
    """Experts are absent → loading → resident → absent; a pinned one is never evicted, nor is one still loading."""

    def __init__(self, store: Store, budget: int, policy: Eviction, watcher: Watcher) -> None:
        spec = store.spec
        count = spec.layers * spec.experts
        self.budget = budget
        self.policy = policy
        self.resident_bytes = 0  # loading ones too: their memory is taken
        self.peak_bytes = 0
        self.evictions = 0
        self.by_bits = {2: 0, 3: 0, 4: 0, 8: 0, 16: 0}
        self._store = store
        self._watcher = watcher
        self._slab = Slab(count, max(store.record_bytes(bits) for bits in store.widths))
        self._slot = [-1] * count
        self._bits = [0] * count
        self._held = np.zeros(count, dtype=np.int64)  # bytes, by expert
        self._weights: dict[int, ExpertWeights] = {}  # of those that were asked for
        # For the native kernels: the address of each resident expert's record, 0 where absent, and the place of its width in the store's.
        self.records = np.zeros(count, dtype=np.uint64)
        self.width_index = np.zeros(count, dtype=np.uint8)
        self._resident = bytearray(count)
        self._evictable = np.zeros(count, dtype=bool)

    def holds(self, expert: int) -> bool:
        """Whether ``expert`` is resident (not merely loading)."""
        return bool(self._resident[expert])

    def bits_of(self, expert: int) -> int:
        """The width ``expert`` is held at, 0 where it is absent."""
        return self._bits[expert]

    def weights(self, expert: int) -> ExpertWeights:
        """The weights of a resident expert: views, valid while it is pinned."""
        assert self._resident[expert], "only resident experts have weights"
        weights = self._weights.get(expert)
        if weights is None:
            bits = self._bits[expert]
            buffer = self._slab.tensor(self._slot[expert], self._store.record_bytes(bits))
            weights = self._weights[expert] = self._store.unpack(buffer, bits)
        return weights

    def record(self, expert: int) -> int:
        """The address of a resident expert's record, valid while it is pinned."""
        return int(self.records[expert])

    def pin(self, expert: int) -> None:
        """Keep a resident expert until ``unpin``."""
        self._evictable[expert] = False

    def unpin(self, expert: int) -> None:
        self._evictable[expert] = True

    def reserve(self, expert: int, bits: int, clock: Clock) -> memoryview | None:
        """Make room for an absent expert at ``bits`` and return the memory to read its record into; it is now loading.

        None where what is pinned and loading leaves no room yet.
        """
        nbytes = self._store.record_bytes(bits)
        if not self._evict_until(self.budget - nbytes, clock):
            return None
        slot = self._slab.take(nbytes, self.budget)
        self._slot[expert], self._bits[expert] = slot, bits
        self._account(expert, bits, nbytes)
        self.policy.loaded(expert, clock)
        self._watcher(expert, Residency.LOADING, bits, 0.0)
        return self._slab.memory(slot, nbytes)

    def arrived(self, expert: int) -> None:
        """The record of a loading expert has been read: it is resident, and pinned until it was used."""
        bits = self._bits[expert]
        self.records[expert] = self._slab.address(self._slot[expert])
        self.width_index[expert] = self._store.widths.index(bits)
        self._resident[expert] = 1
        self._watcher(expert, Residency.RESIDENT, bits, 0.0)

    def abandon(self, expert: int) -> None:
        """The record of a loading expert could not be read: forget it."""
        self._drop(expert, 0.0)

    def resize(self, budget: int, clock: Clock) -> None:
        """Take another budget at once, evicting what no longer fits. Nothing may be pinned or loading."""
        self._evict_until(budget, clock)
        self._slab.release()
        self.budget = budget  # only now, so that at no instant more is held than the budget in force

    def clear(self) -> None:
        """Evict everything that is not pinned."""
        for expert in np.flatnonzero(self._evictable).tolist():
            self._drop(expert, 0.0)
        self._slab.release()

    def _evict_until(self, room: int, clock: Clock) -> bool:
        if self.resident_bytes <= room:
            return True
        candidates = np.flatnonzero(self._evictable)
        held = self._held[candidates]
        if self.resident_bytes - int(held.sum()) > room:
            return False
        scores = self.policy.scores(candidates, clock)
        order = np.argsort(-scores, kind="stable")
        needed = int(np.searchsorted(np.cumsum(held[order]), self.resident_bytes - room)) + 1
        for place in order[:needed]:
            self._drop(int(candidates[place]), float(scores[place]))
            self.evictions += 1
        return True

    def _drop(self, expert: int, score: float) -> None:
        bits = self._bits[expert]
        self._account(expert, bits, 0)
        self._slab.give(self._slot[expert])
        self._slot[expert], self._bits[expert] = -1, 0
        self.records[expert] = self._resident[expert] = 0
        self._weights.pop(expert, None)
        self._evictable[expert] = False
        self._watcher(expert, Residency.ABSENT, bits, score)

    def _account(self, expert: int, bits: int, nbytes: int) -> None:
        """``expert`` now holds ``nbytes`` at ``bits``."""
        change = nbytes - int(self._held[expert])
        self._held[expert] = nbytes
        self.resident_bytes += change
        self.by_bits[bits] += change
        self.peak_bytes = max(self.peak_bytes, self.resident_bytes)


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
