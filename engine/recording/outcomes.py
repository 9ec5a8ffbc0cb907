"""Outcomes and states in words, and which of them are hits."""

from __future__ import annotations

import numpy as np

from engine.events import Outcome, Residency

OUTCOME_NAMES = {
    Outcome.HIT: "hit", Outcome.FIRST_TOUCH: "first touch", Outcome.CAPACITY: "capacity", Outcome.MISPREDICTED: "mispredicted",
    Outcome.LATE: "late", Outcome.PRELOADED: "preloaded",
}  # fmt: skip
STATE_NAMES = {Residency.ABSENT: "evicted", Residency.LOADING: "loading", Residency.RESIDENT: "loaded", Residency.STAGED: "read ahead"}


def is_hit(outcomes: np.ndarray) -> np.ndarray:
    """Which uses found their expert in memory, [n] bool: as a resident, or because it was read ahead."""
    hits: np.ndarray = (outcomes == Outcome.HIT) | (outcomes == Outcome.PRELOADED)
    return hits
