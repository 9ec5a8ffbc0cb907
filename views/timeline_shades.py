"""Colours of the timeline's slices, and lanes as pixels: in each column the time under it is stacked by kind.

A shade is an index among the kinds of a lane, a code an index among all colours (0 is none). Shapes: N slices, W pixels across,
H down, B bins of tokens, K shades, G lanes. No Qt here.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from engine.events import Outcome, SpanKind
from engine.recording.preloads import Fate
from views.colors import argb, mix, readable
from views.textures import AHEAD, DIM
from views.theme import Theme

KINDS = (
    SpanKind.ATTENTION, SpanKind.SHARED, SpanKind.ROUTER, SpanKind.EXPERT, SpanKind.STALL, SpanKind.HEAD, SpanKind.SAMPLE, SpanKind.ACCOUNT,
)  # fmt: skip
"""Work of the token loop by shade; what no span names of a pass looks like the last."""
WORK = ("attention", "shared", "router", "compute", "stall", "head", "head", "framework")  # role by shade
READ = ("hit", "first_touch", "capacity", "mispredicted", "late")  # by Outcome, where it was demanded
FATED = len(READ)  # shade of the first fate
SHADES = max(len(WORK), len(READ) + len(AHEAD))
FRAMEWORK = len(WORK) - 1
SHADE_OF = np.full(256, FRAMEWORK)  # by SpanKind, those of later versions too
SHADE_OF[list(KINDS)] = np.arange(len(KINDS))
DIMMED = 32  # from a code to that of its receding colour: one bit, which no other code has

_FIRST = {"compute": 1, "layer": 1, "slot": 1 + len(WORK), "tokens": 1 + len(WORK) + len(READ) + len(AHEAD)}


def code(kind: str, shade: int | np.ndarray) -> int | np.ndarray:
    """The code of a shade in a lane of that kind."""
    return _FIRST[kind] + shade


@lru_cache(maxsize=4)
def colors(theme: Theme) -> tuple[str, ...]:
    """The colour of every code but 0, in order."""
    tokens = mix(theme.base, theme.text, 0.34), mix(theme.base, theme.accent, 0.42)  # by Phase
    return tuple(getattr(theme, role) for role in (*WORK, *READ, *AHEAD)) + tokens


@lru_cache(maxsize=4)
def inks(theme: Theme) -> tuple[str, ...]:
    """What can be read on each of ``colors``, or on its plate."""
    return tuple(readable(plate or color) for color, plate in zip(colors(theme), plates(theme), strict=True))


@lru_cache(maxsize=4)
def plates(theme: Theme) -> tuple[str, ...]:
    """What lies under a text on each of ``colors``, where a texture would make it hard to read; else empty."""
    out = [""] * len(colors(theme))
    for fate, role in enumerate(AHEAD):
        color = getattr(theme, role)
        out[code("slot", FATED + fate) - 1] = color if fate in (Fate.USED, Fate.JOINED) else mix(theme.base, color, DIM)  # type: ignore[call-overload]
    return tuple(out)


@lru_cache(maxsize=4)
def palette(theme: Theme) -> list[int]:
    """0xAARRGGBB by code, then the same receding into the base."""
    full = [0, *(argb(color) for color in colors(theme))]
    dim = [0, *(argb(mix(theme.base, color, DIM)) for color in colors(theme))]
    return full + [0] * (DIMMED - len(full)) + dim


def snapped(x0: np.ndarray, x1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slices of a pixel and more on whole pixels, so that their edges are sharp."""
    large = x1 - x0 >= 1
    return np.where(large, np.round(x0), x0), np.where(large, np.round(x1), x1)


def coverage(row: np.ndarray, x0: np.ndarray, x1: np.ndarray, rows: int, width: int) -> np.ndarray:
    """How much of each pixel is covered by the slices ``x0`` to ``x1`` (px, [N]) of a row ([N]): [rows, W]."""
    x0, x1, stride = np.clip(x0, 0, width), np.clip(x1, 0, width), width + 2
    first, last = x0.astype(np.int64), x1.astype(np.int64)
    begin, end, before, after = row * stride + first, row * stride + last, x0 - first, x1 - last
    # The steps by which coverage rises and falls: an edge within a pixel is shared between it and the next.
    places = np.concatenate([begin, begin + 1, end, end + 1])
    steps = np.bincount(places, np.concatenate([1 - before, before, after - 1, -after]), rows * stride)
    return np.cumsum(steps.reshape(rows, stride), axis=1)[:, :width]


def stacked(shares: np.ndarray, height: int) -> np.ndarray:
    """Shades of lanes whose columns are filled from the bottom by ``shares`` [G, K, W] of the height; K above them: [G, H, W]."""
    edges = np.cumsum(shares, axis=1, dtype=np.float32)
    level = ((height - 0.5 - np.arange(height, dtype=np.float32)) / height)[:, None]
    shade = np.zeros((len(shares), height, shares.shape[2]), np.uint8)
    for kind in range(shares.shape[1]):
        shade += edges[:, kind, None] <= level
    return shade


def averaged(covered: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> np.ndarray:
    """Coverage [K, W] with that of each token (px ``x0`` to ``x1``, in order) spread evenly over it."""
    width = covered.shape[1]
    begins, owner = bins(x0, x1, width)
    sums = np.zeros((len(covered), len(begins) + 1), covered.dtype)  # one more, for where there is no token
    pixels = np.flatnonzero(owner >= 0)
    found, first, count = np.unique(owner[pixels], return_index=True, return_counts=True)
    if len(found):
        sums[:, found] = np.add.reduceat(covered[:, pixels], first, axis=1) / count
    return sums[:, owner]


def bins(x0: np.ndarray, x1: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens from ``x0`` to ``x1`` (px, in order) gathered so that no bin is below a pixel: first token of each bin [B], and of
    each pixel its bin or -1 [W]."""
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
