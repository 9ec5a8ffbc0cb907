"""Which experts were predicted, and which of them for nothing, as marks on the cells of the grid: told apart by shape.

Arrays are [L, E] (layers, experts) where nothing else is said. No Qt here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engine.recording.recording import Recording

CORNER, RING, DOT, DASH = "corner", "ring", "dot", "dash"
CORNERED = (CORNER, RING)  # shapes that lie in the upper right of a cell
LARGE, SMALLEST = 14, 4  # px: in cells below LARGE a dot stands for the corner and a dash for the ring, below SMALLEST nothing does
SHARE, MOST, LINE = 0.36, 9.0, 1.4  # of a cell's side that a mark takes; px at most; px of the ring
BRIGHT = 0.179  # luminance from which on black has more contrast than white


@dataclass(frozen=True)
class Foreseen:
    """``predicted`` bool: among the k likeliest of its layer at least once; ``unused`` bool: predicted, and not chosen any of these times;
    ``odds`` the highest probability told, 0 where none was."""

    predicted: np.ndarray
    unused: np.ndarray
    odds: np.ndarray


def foresee(recording: Recording, first: int, stop: int) -> Foreseen:
    """What the rows ``first`` to ``stop`` of ``predictions`` tell."""
    shape, model = recording.grid.shape, recording.model
    predicted, used, odds = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, np.float32)
    if model is not None and stop > first:
        rows = recording.predictions.rows(first, stop)
        rows = rows.take(np.flatnonzero((rows["rank"] < model.top_k) & (rows["layer"] < shape[0]) & (rows["expert"] < shape[1])))
        layer, expert = rows["layer"], rows["expert"]
        predicted[layer, expert] = True
        used[layer[rows["chosen"] != 0], expert[rows["chosen"] != 0]] = True
        np.maximum.at(odds, (layer, expert), rows["probability"])
    return Foreseen(predicted, predicted & ~used, odds)


def shape_of(right: bool, width: float, height: float) -> str:
    """What marks an expert that was predicted, rightly or not, in a cell of so many px; nothing where a dot would look like a dash."""
    if width < SMALLEST or height < SMALLEST / 2:
        return ""
    large = min(width, height) >= LARGE
    return (CORNER if large else DOT) if right else (RING if large else DASH)


@lru_cache(maxsize=32)
def stamp(shape: str, width: int, height: int, ratio: float) -> np.ndarray:
    """How much a shape covers of the pixels [H, W] of a cell, or of a swatch, of this size; 0 to 1. Not to be written to."""
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    size = min(MOST * ratio, max(SHARE * min(width, height), 5.0 * ratio))
    right, top = width - 2 * ratio, ratio
    match shape:
        case "corner":
            inside = (x < right) & (y > top)
            cover = np.clip((x - right + size - y + top) / 1.414 + 0.5, 0, 1) * inside
        case "ring":
            away = np.hypot(x - (right - ratio - size / 2), y - (top + ratio + size / 2))
            cover = np.clip(size / 2 - away + 0.5, 0, 1) * np.clip(away - size / 2 + LINE * ratio + 0.5, 0, 1)
        case "dot":
            reach = max(1.0, ratio)
            cover = (abs(x - width // 2) < reach) & (abs(y - height // 2) < reach)
        case _:
            cover = (abs(y - height // 2 - ratio / 2) < max(0.6, ratio / 2)) & (x < width - ratio)
    return np.asarray(np.broadcast_to(cover, (height, width)), np.float32)


def imprint(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray, cover: np.ndarray, fill: np.ndarray) -> None:
    """Draw a stamp into ``pixels`` (u4 0xffRRGGBB, [Y, X]) from each of these rows and columns [n] on, in black or white, whichever can be
    seen on the ``fill`` (u4, [n]) there."""
    down, across = (np.arange(size) for size in cover.shape)
    place = rows[:, None, None] + down[:, None], columns[:, None, None] + across
    under, ink = pixels[place], np.where(luminances(fill) > BRIGHT, 0.0, 255.0)[:, None, None]
    out = np.full_like(under, 0xFF000000)
    for shift in (16, 8, 0):
        channel = (under >> np.uint32(shift) & np.uint32(255)).astype(np.float32)
        out |= np.round(channel + (ink - channel) * cover).astype(np.uint32) << np.uint32(shift)
    pixels[place] = out


def luminances(colors: np.ndarray) -> np.ndarray:
    """Relative luminance of colours (u4 0xffRRGGBB), as ``views.colors.luminance`` has it of one, [n]."""
    channels = np.stack([colors >> np.uint32(shift) & np.uint32(255) for shift in (16, 8, 0)]) / 255
    return np.array([0.2126, 0.7152, 0.0722]) @ np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
