"""What the colours of an expert's strip and of a token's table mean: of each only those that occur."""

from __future__ import annotations

import numpy as np

from engine.events import Residency
from engine.recording.history import ExpertHistory
from views.grid_shades import OUTCOMES
from views.key import Key
from views.theme import Theme

_HELD = {Residency.LOADING: ("loading", "loading"), Residency.STAGED: ("preloaded", "read ahead")}


def keys_of_outcomes(outcomes: np.ndarray, theme: Theme) -> list[Key]:
    """Of uses."""
    present = set(np.unique(outcomes).tolist())
    return [Key((getattr(theme, role),), name) for outcome, (role, name) in OUTCOMES.items() if int(outcome) in present]


def keys_of_bits(bits: np.ndarray, theme: Theme) -> list[Key]:
    """Of widths in memory."""
    return [Key((theme.bits(width),), f"{width} bits") for width in np.unique(bits).tolist() if width]


def keys_of_expert(history: ExpertHistory, theme: Theme) -> list[Key]:
    """Of the uses above and of the stays below."""
    states, bits = history.changes.column("state"), history.changes.column("bits")
    present = set(np.unique(states).tolist())
    held = [Key((getattr(theme, role),), name) for state, (role, name) in _HELD.items() if int(state) in present]
    return [*keys_of_outcomes(history.uses.column("outcome"), theme), *held, *keys_of_bits(bits[states == Residency.RESIDENT], theme)]
