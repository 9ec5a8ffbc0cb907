"""Arrows in the timeline: from what was read ahead to the compute that used it first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPen, QPolygonF

from engine.events import SpanKind
from engine.recording.preloads import Fate, Preloads
from views.lanes import Lane
from views.theme import Theme
from views.timeline_picture import Picture, Slice

MOST = 40  # where there are more in sight, only those of what is pointed at or pinned are shown
ASIDE = ((-1, -1), (1, 1))  # px across the way they go: a rim that sets them off from the slices
HEAD, DEPTH = 4.0, 9.0  # px: size of the head, and how far it reaches into the lane


class Arrow(NamedTuple):
    """From the end of a read on its slot to the start of its use, in device pixels; ``strong`` where it is pointed at or pinned."""

    slot: Lane
    end: float
    lane: Lane
    start: float
    strong: bool


class Sought(NamedTuple):
    """What is pointed at or pinned: a slice, experts (layer and index) and tokens."""

    pointed: Slice | None
    experts: tuple[tuple[int, int], ...]
    tokens: tuple[int, ...]


def arrows(picture: Picture, preloads: Preloads, sought: Sought) -> list[Arrow]:
    """Those of the reads in sight, if these are few; else those that are sought, the newest MOST of them."""
    index, place = picture.ahead
    reads = preloads.rows.take(place)
    used = (reads["fate"] == Fate.USED) | (reads["fate"] == Fate.JOINED)
    strong = used & _sought(reads, sought)
    shown = np.flatnonzero(used) if used.sum() <= MOST else np.flatnonzero(strong)[-MOST:]
    if not len(shown):
        return []
    reads, spans = reads[shown], picture.rows.take(index[shown])
    ends, starts = picture.x_of(spans["start"] + spans["duration"]), picture.x_of(_first_uses(picture.rows, reads))
    by_slot = {lane.index: lane for lane in picture.lanes if lane.kind == "slot"}
    by_layer = {lane.index: lane for lane in picture.lanes if lane.kind == "layer"}
    compute = next(lane for lane in picture.lanes if lane.kind == "compute")
    return [
        Arrow(by_slot[slot], end, by_layer.get(layer, compute), max(end, start), bold)
        for slot, layer, end, start, bold in zip(
            *(values.tolist() for values in (spans["lane"], reads["layer"], ends, starts, strong[shown])), strict=True
        )
        if slot in by_slot
    ]


def _sought(reads: np.ndarray, sought: Sought) -> np.ndarray:
    """Which reads are pointed at or pinned, [n] bool."""
    out = np.isin(reads["user"], sought.tokens)
    for layer, expert in sought.experts:
        out |= (reads["layer"] == layer) & (reads["expert"] == expert)
    pointed = sought.pointed.span if sought.pointed is not None else None
    if pointed is not None:
        same = (reads["layer"] == pointed["layer"]) & (reads["expert"] == pointed["expert"])
        if pointed["kind"] == SpanKind.READ:
            same &= reads["start"] == pointed["start"]
        else:
            same &= reads["user"] == pointed["token"]
        out |= same
    return np.asarray(out)


def _first_uses(spans: np.ndarray, reads: np.ndarray) -> np.ndarray:
    """When each read was used first, ns: the start of the compute among ``spans``, or where that is out of sight of its use being told."""
    experts = spans.take(np.flatnonzero(spans["kind"] == SpanKind.EXPERT))
    wanted, times = _key(reads["user"], reads), reads["settled"].copy()
    order = np.argsort(wanted, kind="stable")
    keys = _key(experts["token"], experts)
    near = order[np.minimum(np.searchsorted(wanted, keys, sorter=order), len(order) - 1)]
    found = np.flatnonzero(wanted[near] == keys)
    starts = dict(zip(keys[found[::-1]].tolist(), experts["start"][found[::-1]].tolist(), strict=True))  # of several the first
    return np.array([starts.get(key, time) for key, time in zip(wanted.tolist(), times.tolist(), strict=True)], np.int64)


def _key(token: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Token, layer and expert in one number, [n]."""
    return np.asarray(token.astype(np.int64) << 32 | rows["layer"].astype(np.int64) << 16 | rows["expert"].astype(np.int64))


def paint(painter: QPainter, shown: list[Arrow], theme: Theme, left: float, ratio: float) -> None:
    """Draw them from ``left`` on, the strong ones over the others."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    for strong, color in ((False, theme.muted), (True, theme.text)):
        lines, heads = QPainterPath(), QPainterPath()
        for arrow in shown:
            if arrow.strong is strong:
                begin = QPointF(left + arrow.end / ratio, arrow.slot.bottom - max(2.5, 0.15 * arrow.slot.height))  # below the texts
                tip = QPointF(left + arrow.start / ratio, arrow.lane.bottom - min(DEPTH, arrow.lane.height / 2))
                lines.moveTo(begin)
                lines.quadTo(QPointF(tip.x(), begin.y()), tip + QPointF(0, HEAD))
                heads.addPolygon(QPolygonF([tip, tip + QPointF(-HEAD * 0.75, HEAD * 1.5), tip + QPointF(HEAD * 0.75, HEAD * 1.5), tip]))
        for (dx, dy), tone in (*((aside, theme.base) for aside in ASIDE), ((0, 0), color)):  # a thick line would cost ten times as much
            painter.setPen(QPen(QColor(tone), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawPath(lines.translated(dx, dy))
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(tone))
            painter.drawPath(heads.translated(dx, dy))
    painter.restore()
