"""Colours of the timeline's slices, and lanes as pixels: in each column the time under it is stacked by kind.

A shade is an index among the colours of a lane. Shapes: N slices, W pixels across, H down, B bins of tokens, K shades, G lanes. No Qt here.
"""

from __future__ import annotations

import numpy as np

from engine.events import Outcome, Phase, SpanKind
from views.colors import argb, mix
from views.theme import Theme

WORK = ("attention", "router", "compute", "stall", "head", "head", "framework")  # by SpanKind, then what is left of a pass
READ = ("hit", "first_touch", "capacity", "mispredicted", "late")  # by Outcome
FRAMEWORK = int(SpanKind.READ)
SHADES = len(WORK)
DIM = 0.28  # share of the colour over the base where it recedes


def colors(kind: str, theme: Theme) -> list[str]:
    """The colours of a lane's shades."""
    if kind == "tokens":
        named = {Phase.PREFILL: mix(theme.base, theme.text, 0.34), Phase.DECODE: mix(theme.base, theme.accent, 0.42)}
        return [named[phase] for phase in Phase]
    return [getattr(theme, role) for role in (READ if kind == "slot" else WORK)]


def table(kind: str, theme: Theme, share: float = 1.0) -> np.ndarray:
    """0xAARRGGBB by shade, [SHADES + 1]; the last is nothing. With ``share`` below 1 the colours recede into the base."""
    values = [argb(mix(theme.base, color, share)) for color in colors(kind, theme)]
    return np.array(values + [0] * (SHADES + 1 - len(values)), np.uint32)


def coverage(row: np.ndarray, x0: np.ndarray, x1: np.ndarray, rows: int, width: int) -> np.ndarray:
    """How much of each pixel is covered by the slices ``x0`` to ``x1`` (px, [N]) of a row ([N]): [rows, W]."""
    x0, x1 = np.clip(x0, 0, width), np.clip(x1, 0, width)
    first, last = x0.astype(np.int64), x1.astype(np.int64)
    begin, end, size = row * (width + 1) + first, row * (width + 1) + last, rows * (width + 1)
    # Whole pixels by where slices begin and end; then the parts of pixels at both edges.
    whole = np.bincount(begin, minlength=size) - np.bincount(end, minlength=size)
    parts = np.bincount(end, x1 - last, size) - np.bincount(begin, x0 - first, size)
    return (np.cumsum(whole.reshape(rows, -1), axis=1) + parts.reshape(rows, -1))[:, :width]


def snapped(x0: np.ndarray, x1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slices of a pixel and more on whole pixels, so that their edges are sharp."""
    large = x1 - x0 >= 1
    return np.where(large, np.round(x0), x0), np.where(large, np.round(x1), x1)


def stacked(shares: np.ndarray, height: int) -> np.ndarray:
    """Shades of a lane whose columns are filled from the bottom by ``shares`` [K, W] of the height; SHADES above them: [H, W]."""
    edges = np.cumsum(shares, axis=0, dtype=np.float32)
    level = ((height - 0.5 - np.arange(height, dtype=np.float32)) / height)[:, None]
    shade = np.zeros((height, shares.shape[1]), np.uint8)
    for edge in edges:
        shade += edge <= level
    shade[shade == len(shares)] = SHADES
    return shade


def bins(x0: np.ndarray, x1: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens from ``x0`` to ``x1`` (px, in order) gathered so that no bin is below a pixel: first token of each bin [B], owner [W]."""
    if not len(x0):
        return np.empty(0, np.int64), np.full(width, -1)
    begins = np.flatnonzero(np.diff(np.floor(x0), prepend=-np.inf) >= 1)
    left = np.floor(x0[begins])
    right = np.maximum(x1[np.append(begins[1:], len(x0)) - 1], left + 1)
    middle = np.arange(width) + 0.5
    owner = np.searchsorted(left, middle, "right") - 1
    return begins, np.where((owner >= 0) & (middle < right[np.maximum(owner, 0)]), owner, -1)


def outcome_of(kind: int, outcome: int) -> Outcome | None:
    """The miss that a span served; None if it is no read."""
    return Outcome(outcome) if kind == SpanKind.READ and outcome < len(Outcome) else None
