"""What was predicted, in the grid: marks told apart by shape, of the right token, in words and in the legend."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QRectF
from PySide6.QtGui import QHelpEvent, QPainterPath
from PySide6.QtWidgets import QApplication, QToolTip

from engine.events import Residency
from engine.recording.recording import Recording
from tests.factory import make_recording
from views.colors import luminance, readable
from views.grid import GridPanel
from views.grid_marks import CORNER, DASH, DOT, LARGE, RING, add_mark, foresee
from views.theme import DARK


@pytest.fixture(scope="module")
def ahead() -> Recording:
    return make_recording(ahead=True, tokens=40)


def told(recording: Recording, first: int, last: int) -> dict[tuple[int, int], bool]:
    """Experts predicted for these tokens, and whether any of these times rightly, one by one."""
    out: dict[tuple[int, int], bool] = {}
    for row in recording.predictions.rows():
        if first <= row["token"] <= last and row["rank"] < 2:
            cell = int(row["layer"]), int(row["expert"])
            out[cell] = out.get(cell, False) or bool(row["chosen"])
    return out


def marked(panel: GridPanel) -> dict[tuple[int, int], bool]:
    return {(layer, expert): bool(used) for layer, expert, used in panel.canvas._marks}


def test_marks_are_of_the_token_shown_else_of_the_newest(make_panel, ahead):
    panel = make_panel(GridPanel, ahead)
    assert marked(panel) == told(ahead, 39, 39)
    panel.selection.pick(token=12)
    assert marked(panel) == told(ahead, 12, 12) != told(ahead, 39, 39)
    panel.selection.hover(token=14)
    assert marked(panel) == told(ahead, 14, 14)
    assert set(marked(panel).values()) == {True, False}


def test_marks_are_of_the_range_where_that_is_drawn(make_panel, ahead):
    panel = make_panel(GridPanel, ahead)
    start, duration = (ahead.tokens.column(name) for name in ("start", "duration"))
    panel.selection.pick(start=int(start[10]), end=int(start[13] + duration[13]))
    assert marked(panel) == told(ahead, 39, 39), "residency is that of now"
    panel.modes.choose("heat")
    assert marked(panel) == told(ahead, 10, 13)


@pytest.mark.parametrize("side", [4, 6, LARGE, 30])
def test_marks_differ_by_shape_at_any_size(side):
    shapes = []
    for used in (True, False):
        path = QPainterPath()
        add_mark(path, used, QRectF(0, 0, side, side))
        assert QRectF(0, 0, side, side).contains(path.boundingRect())
        shapes.append(path)
    assert shapes[0] != shapes[1] and all(not shape.isEmpty() for shape in shapes)
    overlap = shapes[0].intersected(shapes[1]).boundingRect()
    assert overlap.width() * overlap.height() < 0.8 * side * side


@pytest.mark.parametrize(("shape", "size"), [((8, 16, 2), (620, 300)), ((48, 128, 8), (620, 300))])
def test_marks_are_painted_on_their_cells(make_panel, theme, shape, size):
    panel = make_panel(GridPanel, make_recording(*shape, tokens=12, ahead=True), theme=theme, size=size)
    panel.selection.pick(token=10)
    image = panel.canvas.grab().toImage()
    assert {panel.canvas.shape_of(True), panel.canvas.shape_of(False)} == ({CORNER, RING} if shape[0] == 8 else {DOT, DASH})
    for layer, expert, _ in panel.canvas._marks[:40]:
        ink = luminance(readable(f"#{int(panel.canvas._fill[layer, expert]) & 0xFFFFFF:06x}"))
        left, top, width, height = panel.canvas.cell_rect((layer, expert)).toRect().getRect()
        seen = [luminance(image.pixelColor(x, y).name()) for x in range(left, left + width) for y in range(top, top + height)]
        assert min(abs(ink - other) for other in seen) < 0.2, (layer, expert)


def test_the_line_tells_odds_and_whether_they_came_true(make_panel, ahead):
    panel = make_panel(GridPanel, ahead)
    panel.selection.pick(token=12)
    odds = foresee(ahead, ahead.predictions.search("token", 12), ahead.predictions.search("token", 13)).odds
    for cell, used in told(ahead, 12, 12).items():
        panel.selection.hover(expert=cell)
        assert panel.status.text().endswith(f"predicted at {odds[cell]:.0%}, {'used' if used else 'not used'}")
    unforeseen = next(cell for cell in np.ndindex(8, 16) if cell not in told(ahead, 12, 12))
    panel.selection.hover(expert=unforeseen)
    assert "predicted" not in panel.status.text().split("·")[-1]


def test_staged_experts_are_named_like_resident_ones(make_panel, ahead):
    panel = make_panel(GridPanel, ahead)
    staged = np.argwhere(ahead.grid.state == Residency.STAGED)
    assert len(staged)
    assert f", {len(staged)} read ahead, " in panel.status.text()
    captions = {(layer, expert): text for layer, expert, text, _ in panel.canvas._captions}
    assert all(captions[layer, expert] == f"»{ahead.grid.bits[layer, expert]}" for layer, expert in staged.tolist())
    assert "read ahead" in [key.text for key in panel.legend.keys]
    panel.selection.hover(expert=tuple(staged[0].tolist()))
    assert "read ahead at" in panel.status.text()


def test_the_legend_explains_the_marks_when_pointed_at(make_panel, ahead):
    panel = make_panel(GridPanel, ahead, theme=DARK, size=(620, 300))
    keys = {key.mark: key for key in panel.legend.keys if key.mark}
    assert set(keys) == {CORNER, RING}
    places = panel.legend._places(panel.legend.width())
    place = places[panel.legend.keys.index(keys[RING])].center()
    QApplication.sendEvent(panel.legend, QHelpEvent(QEvent.Type.ToolTip, place, panel.legend.mapToGlobal(place)))
    assert QToolTip.text() == keys[RING].help != ""
    QToolTip.hideText()


def test_without_predictions_nothing_of_it_is_there(make_panel, recording):
    panel = make_panel(GridPanel, recording)
    assert panel.canvas._marks == []
    assert "read ahead" not in panel.status.text() + " ".join(key.text for key in panel.legend.keys)
