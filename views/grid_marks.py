"""Which experts were predicted, and which of them for nothing, as marks on the cells of the grid: told apart by shape.

Arrays are [L, E] (layers, experts).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QRectF
from PySide6.QtGui import QPainterPath, QPolygonF

from engine.recording.recording import Recording

CORNER, RING, DOT, DASH = "corner", "ring", "dot", "dash"
LARGE = 14  # px: in smaller cells a dot stands for the corner and a dash for the ring
SHARE, LINE = 0.36, 1.4  # of a cell's side that a mark takes; px of the ring


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


def shape_of(used: bool, side: float) -> str:
    """What an expert that was predicted is marked with, in a cell whose shorter side has so many px."""
    large = side >= LARGE
    return (CORNER if large else DOT) if used else (RING if large else DASH)


def add_mark(path: QPainterPath, used: bool, cell: QRectF) -> None:
    """The outline of a mark in its cell, to be filled."""
    side = min(cell.width(), cell.height())
    shape, middle, size = shape_of(used, side), cell.center().toPoint(), min(9.0, SHARE * side)
    places = {
        DOT: QRectF(middle.x() - 1, middle.y() - 1, 2, 2), DASH: QRectF(cell.left(), middle.y(), cell.width() - 1, 1),
    }  # fmt: skip
    add_shape(path, shape, places.get(shape, QRectF(cell.right() - size - 3, cell.top() + 2, size, size)))


def add_shape(path: QPainterPath, shape: str, place: QRectF) -> None:
    """A shape that fills its place."""
    if shape == CORNER:
        path.addPolygon(QPolygonF([place.topLeft(), place.topRight(), place.bottomRight(), place.topLeft()]))
    elif shape == RING:
        path.addEllipse(place)
        path.addEllipse(place.adjusted(LINE, LINE, -LINE, -LINE))  # filled by the odd-even rule
    else:
        path.addRect(place)


def mark_place(shape: str, swatch: QRectF) -> QRectF:
    """Where a shape lies in the swatch of a legend."""
    across, down = {DOT: (4.0, 4.0), DASH: (1.0, 5.0)}.get(shape, (1.5, 1.5))
    return swatch.adjusted(across, down, -across, -down)
