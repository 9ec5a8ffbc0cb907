"""What became of a read ahead as a texture, so that it can be told without its colour: in a lane of H by W pixels, and in a legend."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PySide6.QtGui import QImage

from engine.recording.preloads import Fate
from views.colors import argb, mix
from views.theme import Theme

AHEAD = ("preloaded", "preloaded", "late", "wasted")  # role of the theme by Fate
DIM = 0.28  # share of the colour over the base where it recedes
HATCH = 4  # px from line to line


@lru_cache(maxsize=32)  # all slots of a picture are of one size
def receding(fate: int, height: int, width: int, ratio: float) -> np.ndarray:
    """Where the colour recedes, bool [H, W]: used is hatched, joined hatched the other way, wasted between two edges, pending
    around dots. Not to be written to."""
    x, y = np.arange(width), np.arange(height)[:, None]
    line = max(1, round(HATCH * ratio / 2))
    match fate:
        case Fate.USED:
            return np.asarray((x + y) % (2 * line) >= line)
        case Fate.JOINED:
            return np.asarray((x - y) % (2 * line) >= line)
        case Fate.WASTED:
            edge = max(1, round(ratio))
            return np.repeat((y >= edge) & (y < height - edge), width, axis=1)
    return np.asarray((x % (2 * line) >= line) | (y % (3 * line) >= line))


def swatch(theme: Theme, fate: Fate, size: int, ratio: float) -> QImage:
    """A square of ``size`` points as a slice of the timeline looks; joined is full from the moment it was wanted on, here the middle."""
    side = round(size * ratio)
    away = receding(fate, side, side, ratio).copy()
    if fate == Fate.JOINED:
        away[:, side // 2 :] = False
    if fate == Fate.WASTED:
        away[:, [0, -1]] = False
    color = getattr(theme, AHEAD[fate])
    pixels = np.where(away, np.uint32(argb(mix(theme.base, color, DIM))), np.uint32(argb(color)))
    image = QImage(pixels.tobytes(), side, side, 4 * side, QImage.Format.Format_RGB32).copy()
    image.setDevicePixelRatio(ratio)
    return image
