"""What became of a read ahead as a texture, so that it can be told without its colour: in a lane of H by W pixels, and in a legend."""

from __future__ import annotations

import numpy as np
from PySide6.QtGui import QImage

from engine.recording.preloads import Fate
from views.colors import argb, mix
from views.theme import Theme

AHEAD = ("preloaded", "preloaded", "late", "wasted")  # role of the theme by Fate
DIM = 0.28  # share of the colour over the base where it recedes
HATCH = 4  # px from line to line


def receding(fate: int, height: int, width: int, ratio: float, sides: np.ndarray) -> np.ndarray:
    """Where the colour recedes, bool [H, W]: used is hatched, joined hatched the other way, wasted an outline with these ``sides`` [W],
    pending dotted."""
    x, y = np.arange(width), np.arange(height)[:, None]
    line = max(1, round(HATCH * ratio / 2))
    match fate:
        case Fate.USED:
            return np.asarray((x + y) % (2 * line) >= line)
        case Fate.JOINED:
            return np.asarray((x - y) % (2 * line) >= line)
        case Fate.WASTED:
            rail = max(1, round(ratio))
            return np.asarray((y >= rail) & (y < height - rail) & ~sides)
    return np.asarray((x % (2 * line) >= line) | (y % (3 * line) >= line))


def swatch(theme: Theme, fate: Fate, size: int, ratio: float) -> QImage:
    """A square of ``size`` points as a slice of the timeline looks; joined is full from the moment it was wanted on, here the middle."""
    side = round(size * ratio)
    sides = np.isin(np.arange(side), (0, side - 1))
    away = receding(fate, side, side, ratio, sides)
    if fate == Fate.JOINED:
        away[:, side // 2 :] = False
    color = getattr(theme, AHEAD[fate])
    pixels = np.where(away, np.uint32(argb(mix(theme.base, color, DIM))), np.uint32(argb(color)))
    image = QImage(pixels.tobytes(), side, side, 4 * side, QImage.Format.Format_RGB32).copy()
    image.setDevicePixelRatio(ratio)
    return image
