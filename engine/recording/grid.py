"""What is known of every expert now: its state, and how it was used so far."""

from __future__ import annotations

import numpy as np

from engine.events import Residency
from engine.recording.outcomes import is_hit


class ExpertGrid:
    """One number per expert and property, kept up to date as records arrive; every array is [layers, experts].

    ``state`` u1 (Residency), ``bits`` u1 (0 when absent), ``last_token`` i4 (last row that used it, -1 never), ``uses``, ``hits``,
    ``misses`` i8 (rows of ``accesses``: one per pass), ``last_outcome`` u1 (meaningful where ``uses`` > 0).
    """

    def __init__(self, layers: int = 0, experts: int = 0) -> None:
        shape = self.shape = (layers, experts)
        self.state = np.zeros(shape, np.uint8)
        self.bits = np.zeros(shape, np.uint8)
        self.last_token = np.full(shape, -1, np.int32)
        self.uses = np.zeros(shape, np.int64)
        self.hits = np.zeros(shape, np.int64)
        self.misses = np.zeros(shape, np.int64)
        self.last_outcome = np.zeros(shape, np.uint8)

    def forget_residency(self) -> None:
        """The engine starts with an empty buffer: all experts are absent."""
        self.state[:] = Residency.ABSENT
        self.bits[:] = 0

    def use(self, accesses: np.ndarray) -> None:
        """Count rows of ``accesses``, [n], in the order in which they happened."""
        accesses, index = self._known(accesses)
        if not len(index):
            return
        size = self.uses.size
        hit = is_hit(accesses["outcome"])
        self.uses += np.bincount(index, minlength=size).reshape(self.shape)
        self.hits += np.bincount(index[hit], minlength=size).reshape(self.shape)
        self.misses += np.bincount(index[~hit], minlength=size).reshape(self.shape)
        self.last_token.reshape(-1)[index] = accesses["token"]
        self.last_outcome.reshape(-1)[index] = accesses["outcome"]

    def change(self, residency: np.ndarray) -> None:
        """Take over rows of ``residency``, [n], in the order in which they happened: the last one of an expert holds."""
        residency, index = self._known(residency)
        self.state.reshape(-1)[index] = residency["state"]
        self.bits.reshape(-1)[index] = np.where(residency["state"] == Residency.ABSENT, 0, residency["bits"])

    def _known(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows that lie in this grid, and their flat index; others (of a model loaded before) are left out."""
        layer, expert = rows["layer"].astype(np.int64), rows["expert"].astype(np.int64)
        inside = (layer >= 0) & (layer < self.shape[0]) & (expert >= 0) & (expert < self.shape[1])
        if not inside.all():
            rows, layer, expert = rows[inside], layer[inside], expert[inside]
        return rows, layer * self.shape[1] + expert
