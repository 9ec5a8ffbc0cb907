"""The expert grid: what a cell shows, where it lies, and what pointing at it tells the others."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest

from engine.events import Outcome, Residency
from tests.factory import make_recording
from views.colors import argb, contrast, readable
from views.grid import GridPanel
from views.grid_canvas import edges
from views.grid_shades import MODES, Counts, count_range, palette, shade
from views.theme import DARK


def centre(panel: GridPanel, layer: int, expert: int) -> QPoint:
    return panel.canvas.cell_rect((layer, expert)).center().toPoint()


@pytest.mark.parametrize(("count", "room"), [(16, 500), (128, 506), (128, 640), (48, 200), (48, 47), (5, 0)])
def test_cells_lie_on_whole_pixels_and_use_the_room(count: int, room: int) -> None:
    borders = edges(count, room)
    assert borders.dtype.kind == "i"
    assert borders[0] == 0
    assert 0.9 * room <= borders[-1] <= room
    sizes = np.diff(borders)
    assert sizes.max() - sizes.min() <= 1


def test_shades_say_what_the_records_say(recording) -> None:
    grid = recording.grid
    counts = Counts(grid.uses, grid.hits)
    assert np.array_equal(shade("residency", grid, counts), grid.state)
    bits = shade("bits", grid, counts)
    assert ((bits > 0) == (grid.state != Residency.ABSENT)).all()
    heat = shade("heat", grid, counts)
    assert heat.reshape(-1)[grid.uses.argmax()] == len(palette("heat", DARK)) - 1
    assert ((heat == 0) == (grid.uses == 0)).all()
    rate = shade("hits", grid, counts)
    always = (grid.uses > 0) & (grid.hits == grid.uses)
    never = (grid.uses > 0) & (grid.hits == 0)
    assert (rate[never] == 1).all()
    assert (rate[always] == len(palette("hits", DARK)) - 1).all()


def test_range_counts_agree_with_the_whole(recording) -> None:
    counts = count_range(recording.accesses.rows(), recording.grid.shape)
    assert np.array_equal(counts.uses, recording.grid.uses)
    assert np.array_equal(counts.hits, recording.grid.hits)


def test_selected_range_is_what_heat_shows(make_panel, recording) -> None:
    panel = make_panel(GridPanel, recording)
    panel.modes.choose("heat")
    start, duration = (int(recording.tokens.column(name)[20]) for name in ("start", "duration"))
    panel.selection.pick(start=start, end=start + duration)
    rows = recording.accesses.between(start, start + duration)
    assert panel._counts().uses.sum() == len(rows) < recording.grid.uses.sum()
    used = (int(rows["layer"][0]), int(rows["expert"][0]))
    unused = tuple(np.argwhere(panel._counts().uses == 0)[0])
    assert panel.canvas._fill[used] != argb(DARK.absent)
    assert panel.canvas._fill[unused] == argb(DARK.absent)


@pytest.mark.parametrize("shape", [(8, 16, 2), (48, 128, 8)])
@pytest.mark.parametrize("mode", [mode for mode, _, _ in MODES])
def test_painted_pixels_are_the_cells_colours(make_panel, shape, mode: str) -> None:
    panel = make_panel(GridPanel, make_recording(*shape, tokens=12), theme=DARK, size=(1000, 520))
    panel.modes.choose(mode)
    image = panel.canvas.grab().toImage()
    captioned = {(layer, expert) for layer, expert, _, _ in panel.canvas._captions}
    ratio = image.devicePixelRatio()
    for layer, expert in [(0, 0), (shape[0] - 1, shape[1] - 1), (3, 7), (5, 2)]:
        if (layer, expert) not in captioned:
            point = (panel.canvas.cell_rect((layer, expert)).center() * ratio).toPoint()
            assert image.pixel(point) == panel.canvas._fill[layer, expert], (layer, expert)


def test_latest_uses_are_framed_and_fade(make_panel, recording) -> None:
    panel = make_panel(GridPanel, recording)
    strength, _ = panel._flash(None)
    newest = recording.grid.last_token == len(recording.tokens) - 1
    before = recording.grid.last_token == len(recording.tokens) - 2
    old = recording.grid.last_token < len(recording.tokens) - 6
    assert newest.sum() >= recording.grid.shape[0]
    assert (strength[newest] == 1).all()
    assert ((strength[before] < 1) & (strength[before] > 0)).all()
    assert (strength[old] == 0).all()
    assert (panel.canvas._frame[newest] != panel.canvas._fill[newest]).all()
    assert (panel.canvas._frame[old] == panel.canvas._fill[old]).all()


def test_pointing_tells_the_expert_to_everyone(make_panel, recording, qtbot) -> None:
    panel = make_panel(GridPanel, recording)
    QTest.mouseMove(panel.canvas, centre(panel, 3, 11))
    qtbot.waitUntil(lambda: panel.selection.hover_expert == (3, 11), timeout=1000)
    assert panel.status.text().startswith("Layer 3, expert 11: ")
    QTest.mouseMove(panel.canvas, QPoint(1, 1))
    qtbot.waitUntil(lambda: panel.selection.hover_expert is None, timeout=1000)


def test_click_pins_and_arrows_move(make_panel, recording) -> None:
    panel = make_panel(GridPanel, recording)
    QTest.mouseClick(panel.canvas, Qt.MouseButton.LeftButton, pos=centre(panel, 2, 5))
    assert (panel.selection.picked.layer, panel.selection.picked.expert) == (2, 5)
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Up, Qt.Key.Key_Up, Qt.Key.Key_Up):
        QTest.keyClick(panel.canvas, key)
    assert (panel.selection.picked.layer, panel.selection.picked.expert) == (0, 7)
    QTest.keyClick(panel.canvas, Qt.Key.Key_Escape)
    assert panel.selection.picked.layer is None


def test_digits_choose_the_mode(make_panel, recording) -> None:
    panel = make_panel(GridPanel, recording)
    for key, (mode, _, _) in zip((Qt.Key.Key_1, Qt.Key.Key_2, Qt.Key.Key_3, Qt.Key.Key_4), MODES, strict=True):
        QTest.keyClick(panel.canvas, key)
        assert panel.mode == mode


def test_hovered_token_shows_its_experts(make_panel, recording) -> None:
    panel = make_panel(GridPanel, recording)
    panel.selection.hover(token=17)
    rows = recording.accesses.rows()
    expected = {(int(row["layer"]), int(row["expert"])) for row in rows[rows["token"] == 17]}
    framed = {tuple(cell) for cell in np.argwhere(panel.canvas._frame == argb(DARK.accent)).tolist()}
    assert framed == expected


def test_without_a_model_it_says_what_to_do(make_panel) -> None:
    panel = make_panel(GridPanel)
    assert "Load a model" in panel.canvas.message
    QTest.keyClick(panel.canvas, Qt.Key.Key_Down)
    assert panel.selection.picked.layer is None


def test_another_recording_of_another_shape(make_panel, recording) -> None:
    panel = make_panel(GridPanel, recording)
    panel.selection.pick(layer=7, expert=15)
    panel.show_recording(make_recording(4, 8, 2, tokens=6))
    panel.grab()
    assert panel.canvas.shape == (4, 8)
    assert "of 32 experts resident" in panel.status.text()


def test_outcomes_of_the_latest_uses_are_in_the_legend(make_panel, recording) -> None:
    panel = make_panel(GridPanel, recording)
    panel.modes.choose("hits")
    names = [key.text for key in panel.legend.keys]
    assert "capacity miss" in names
    assert "mispredicted" not in names
    recording.grid.last_outcome[0, 0], recording.grid.last_token[0, 0] = Outcome.MISPREDICTED, 1
    panel.refresh()
    assert "mispredicted" in [key.text for key in panel.legend.keys]


def test_captions_can_be_read_on_every_colour(theme) -> None:
    for mode, _, _ in MODES:
        for color in palette(mode, theme):
            assert contrast(color, readable(color)) >= 4.5


def test_hidden_panel_does_not_draw(make_panel, recording) -> None:
    panel = make_panel(GridPanel, recording)
    panel.hide()
    before = panel.canvas._fill
    panel.selection.hover(token=3)
    panel.tick()
    assert panel.canvas._fill is before
