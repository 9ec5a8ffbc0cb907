"""Arithmetic on ``#rrggbb`` colours: blends, ramps, contrast, and lookup tables for indexed images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


def channels(color: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def mix(first: str, second: str, share: float) -> str:
    """``first`` with ``share`` (0 to 1) of ``second``."""
    blended = (round(a + (b - a) * share) for a, b in zip(channels(first), channels(second), strict=True))
    return "#" + "".join(f"{value:02x}" for value in blended)


def ramp(stops: Sequence[str], steps: int) -> list[str]:
    """``steps`` colours spread evenly over the stops (at least two of each)."""
    places = [index * (len(stops) - 1) / (steps - 1) for index in range(steps)]
    lower = [min(int(place), len(stops) - 2) for place in places]
    return [mix(stops[low], stops[low + 1], place - low) for place, low in zip(places, lower, strict=True)]


def argb(color: str, alpha: int = 255) -> int:
    """As ``QImage.setColorTable`` wants it, not premultiplied."""
    red, green, blue = channels(color)
    return alpha << 24 | red << 16 | green << 8 | blue


def pack(colors: np.ndarray) -> np.ndarray:
    """Float red, green and blue, [..., 3], to opaque 0xAARRGGBB, u4 [...]."""
    red, green, blue = (colors[..., channel].astype(np.uint32) for channel in range(3))
    packed: np.ndarray = np.uint32(0xFF000000) | red << np.uint32(16) | green << np.uint32(8) | blue
    return packed


def luminance(color: str) -> float:
    """Relative luminance, 0 (black) to 1 (white), as WCAG defines it."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in (c / 255 for c in channels(color))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Contrast ratio, 1 to 21; text wants 4.5, large marks want 3."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@lru_cache(maxsize=1024)
def readable(background: str) -> str:
    """Black or white, whichever can be read better on ``background``."""
    return max("#000000", "#ffffff", key=lambda color: contrast(color, background))
