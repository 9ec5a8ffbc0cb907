"""Colours of the timeline's slices, and lanes as rows of pixels: what covers each pixel most, or how its time is shared.

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
FAINT, DIM = 0.45, 0.28  # share of the colour over the base


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


def dominant(covered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of [G, SHADES, W] the shade that covers each pixel most (SHADES for none), and how much is covered at all: [G, W] each."""
    total = covered.sum(axis=1)
    return np.where(total > 1e-6, covered.argmax(axis=1), SHADES), total


def stacked(parts: np.ndarray, whole: np.ndarray, owner: np.ndarray, height: int) -> np.ndarray:
    """Shades of a lane in which each bin's time is stacked from the bottom: ``parts`` [B, K], ``whole`` [B] the time that fills
    the lane, ``owner`` [W] the bin of a pixel or -1. Gives [H, W]."""
    edges = np.cumsum(parts / np.maximum(whole, 1)[:, None], axis=1)  # [B, K]
    level = (height - 0.5 - np.arange(height)) / height
    shade = (edges[None] <= level[:, None, None]).sum(axis=2)  # [H, B]
    shade[shade == parts.shape[1]] = SHADES
    return np.concatenate([shade, np.full((height, 1), SHADES)], axis=1)[:, owner]


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
