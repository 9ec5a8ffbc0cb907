"""What an eviction policy is. Experts are numbered layer · E + expert.

S MoE layers, E experts a layer, N = S · E, C candidates.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Clock(NamedTuple):
    """Where the token loop stands: the pass (prefill or one decode step) and the MoE layer within it."""

    token: int
    layer: int


class Eviction(Protocol):
    """A policy sees every use and every load, and scores candidates when room is needed; the highest score leaves first.

    Ties leave in order of their numbers, so that a run can be repeated.
    """

    name: str

    def __init__(self, layers: int, experts: int) -> None: ...

    def used(self, expert: int, clock: Clock) -> None:
        """``expert`` was chosen by the router at ``clock``, resident or not."""
        ...

    def loaded(self, expert: int, clock: Clock) -> None:
        """``expert`` was brought into the buffer."""
        ...

    def scores(self, candidates: IntArray, clock: Clock) -> FloatArray:
        """How evictable each candidate [C] is, [C]."""
        ...
