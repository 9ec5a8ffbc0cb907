"""What the expert grid shows in each mode: an index per expert, the colours of the indices, and what they mean.

Arrays are [L, E] (layers, experts). Index 0 is an expert there is nothing to say about. No Qt here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.events import WIDTHS, Outcome, Residency
from engine.recording.grid import ExpertGrid
from engine.recording.outcomes import is_hit
from views.colors import mix, ramp
from views.key import Key
from views.theme import Theme

MODES = (
    ("residency", "Residency", "Which experts are in memory (1)"),
    ("heat", "Heat", "How often each expert was used (2)"),
    ("bits", "Bits", "At how many bits each expert is in memory (3)"),
    ("hits", "Hit–miss", "How often each expert was in memory when it was wanted (4)"),
)
HEAT_STEPS, RATE_STEPS = 48, 21
OUTCOMES = {
    Outcome.HIT: ("hit", "hit"),
    Outcome.FIRST_TOUCH: ("first_touch", "first touch"),
    Outcome.CAPACITY: ("capacity", "capacity miss"),
    Outcome.MISPREDICTED: ("mispredicted", "mispredicted"),
    Outcome.LATE: ("late", "preload too late"),
    Outcome.PRELOADED: ("preloaded", "preloaded"),
}
"""Role of the theme and name in a sentence."""
STAGED = "read ahead"


@dataclass(frozen=True)
class Counts:
    """Uses and hits of every expert, [L, E], over a range of time or the whole session."""

    uses: np.ndarray
    hits: np.ndarray


def count_range(accesses: np.ndarray, shape: tuple[int, int]) -> Counts:
    """Count structured rows of ``accesses``; rows outside the grid (of another model) are left out."""
    layer, expert = accesses["layer"].astype(np.int64), accesses["expert"].astype(np.int64)
    inside = (layer >= 0) & (layer < shape[0]) & (expert >= 0) & (expert < shape[1])
    flat = (layer * shape[1] + expert)[inside]
    hit = is_hit(accesses["outcome"][inside])
    size = shape[0] * shape[1]
    return Counts(np.bincount(flat, minlength=size).reshape(shape), np.bincount(flat[hit], minlength=size).reshape(shape))


def shade(mode: str, grid: ExpertGrid, counts: Counts) -> np.ndarray:
    """The index of every expert in ``palette(mode, …)``, u1 [L, E]."""
    if mode == "residency":
        return grid.state
    if mode == "bits":
        lookup = np.zeros(256, np.uint8)
        lookup[list(WIDTHS)] = range(1, len(WIDTHS) + 1)
        return lookup[grid.bits]
    used = counts.uses > 0
    if mode == "heat":
        share = np.log1p(counts.uses) / np.log1p(max(1, int(counts.uses.max(initial=0))))
        return np.where(used, 1 + np.round(share * (HEAT_STEPS - 1)), 0).astype(np.uint8)
    rate = counts.hits / np.maximum(counts.uses, 1)
    return np.where(used, 1 + np.round(rate * (RATE_STEPS - 1)), 0).astype(np.uint8)


def palette(mode: str, theme: Theme) -> list[str]:
    """Colours by index."""
    if mode == "residency":
        return [theme.absent, theme.loading, theme.resident, theme.preloaded]
    if mode == "bits":
        return [theme.absent, *(theme.bits(width) for width in WIDTHS)]
    if mode == "heat":
        # One hue from the background on, ending in the colour farthest from it.
        far = "#ffe9b8" if theme.dark else "#3d0f02"
        return [theme.absent, *ramp([mix(theme.absent, theme.late, 0.3), theme.late, theme.capacity, far] if theme.dark else
                                    [mix(theme.absent, theme.capacity, 0.3), theme.capacity, theme.late, far], HEAT_STEPS)]  # fmt: skip
    return [theme.absent, *ramp([theme.late, mix(theme.capacity, theme.base, 0.1), theme.hit], RATE_STEPS)]


def legend(mode: str, theme: Theme, counts: Counts, widths: tuple[int, ...]) -> list[Key]:
    """The keys of a mode. ``widths`` are the bitwidths the model is stored at."""
    colors = palette(mode, theme)
    if mode == "residency":
        staged = Key((colors[Residency.STAGED],), STAGED, help="In the staging area: read ahead of its turn, and not used yet")
        resident, loading = (Key((colors[state],), state.name.lower()) for state in (Residency.RESIDENT, Residency.LOADING))
        return [resident, staged, loading, Key((colors[0],), "absent")]
    if mode == "bits":
        shown = [width for width in WIDTHS if width in widths] or list(WIDTHS)
        return [*(Key((theme.bits(width),), f"{width}-bit") for width in shown), Key((colors[0],), "absent")]
    if mode == "heat":
        most = max(1, int(counts.uses.max(initial=0)))
        return [Key((colors[0],), "never"), Key(tuple(colors[1:]), f"{most:,} uses", "1" if most > 1 else "")]
    return [Key((colors[0],), "never"), Key(tuple(colors[1:]), "100% hits", "0%")]


def caption(mode: str, grid: ExpertGrid, counts: Counts, layer: int, expert: int) -> str:
    """What to write into a cell that is large enough, so that colour alone carries nothing."""
    if mode == "residency":
        bits = str(grid.bits[layer, expert])
        states = {Residency.LOADING: "…", Residency.RESIDENT: bits, Residency.STAGED: f"»{bits}"}
        return states.get(int(grid.state[layer, expert]), "")
    if mode == "bits":
        return str(grid.bits[layer, expert] or "")
    uses = int(counts.uses[layer, expert])
    if not uses:
        return ""
    if mode == "heat":
        return str(uses) if uses < 1000 else f"{uses / 1000:.0f}k"
    return f"{100 * counts.hits[layer, expert] / uses:.0f}"
