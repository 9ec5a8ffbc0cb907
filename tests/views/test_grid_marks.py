"""What was predicted, in the grid: marks told apart by shape, of the right token, in words and in the legend."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QEvent
from PySide6.QtGui import QHelpEvent
from PySide6.QtWidgets import QApplication, QToolTip

from engine.events import Residency
from engine.recording.recording import Recording
from tests.factory import make_recording
from views.colors import argb, luminance, readable
from views.grid import GridPanel
from views.grid_marks import CORNER, DASH, DOT, LARGE, RING, SMALLEST, foresee, luminances, shape_of, stamp
from views.key_legend import GAP, TIGHT
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
    wrong, right = panel.canvas._marks
    return {(layer, expert): bool(right[layer, expert]) for layer, expert in np.argwhere(wrong | right).tolist()}


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


@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("side", [4, 5, 6, LARGE, 30])
def test_marks_differ_by_shape_at_any_size(side, ratio):
    pixels = round(side * ratio)
    right, wrong = (stamp(shape_of(kind, side, side), pixels, pixels, ratio) > 0.5 for kind in (True, False))
    assert right.any() and wrong.any() and not right.all() and not wrong.all()
    assert (right != wrong).sum() >= 0.4 * right.sum()
    if side < LARGE:
        assert wrong.any(axis=0).sum() > right.any(axis=0).sum(), "a dash is wider than a dot"
    assert shape_of(True, SMALLEST - 1, 20) == ""


def test_luminances_are_those_of_single_colours():
    colors = [DARK.text, DARK.base, DARK.resident, DARK.bits16, "#000000", "#ffffff"]
    assert luminances(np.array([argb(color) for color in colors], np.uint32)) == pytest.approx([luminance(color) for color in colors])


@pytest.mark.parametrize(("shape", "size"), [((8, 16, 2), (620, 300)), ((48, 128, 8), (620, 300))])
def test_marks_are_painted_on_their_cells(make_panel, theme, shape, size):
    panel = make_panel(GridPanel, make_recording(*shape, tokens=12, ahead=True), theme=theme, size=size)
    panel.selection.pick(token=10)
    image = panel.canvas.grab().toImage()
    assert {panel.canvas.shape_of(True), panel.canvas.shape_of(False)} == ({CORNER, RING} if shape[0] == 8 else {DOT, DASH})
    for layer, expert in list(marked(panel))[::7]:
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


def test_where_cells_are_too_small_for_marks_the_legend_has_none(make_panel):
    panel = make_panel(GridPanel, make_recording(48, 128, 8, tokens=6, ahead=True), size=(400, 200))
    assert panel.canvas.shape_of(True) == ""
    assert "right" not in [key.text for key in panel.legend.keys]
    panel.resize(900, 500)
    panel.refresh()
    assert "right" in [key.text for key in panel.legend.keys]


def test_a_legend_that_nearly_fits_draws_closer_together(make_panel, ahead):
    legend = make_panel(GridPanel, ahead).legend
    line, loose = legend.fontMetrics().height() + 2, legend.sizeHint().width()
    spared = (len(legend.keys) - 1) * (GAP - TIGHT)
    assert [legend.heightForWidth(width) > line for width in (loose, loose - spared, loose - spared - 2)] == [False, False, True]


def test_without_predictions_nothing_of_it_is_there(make_panel, recording):
    panel = make_panel(GridPanel, recording)
    assert marked(panel) == {}
    assert "read ahead" not in panel.status.text() + " ".join(key.text for key in panel.legend.keys)
