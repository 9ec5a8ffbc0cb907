"""The latency panel: bars that sum to the tokens' time, prefill apart, and what every time panel shares."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QLabel

from engine.events import Applied, Phase
from engine.recording.recording import Recording
from engine.recording.statistics import summarize
from tests.factory import make_messages, make_recording
from views.latency import PARTS, LatencyPanel
from views.timeaxis import token_window


def drawn(panel: LatencyPanel) -> tuple[np.ndarray, np.ndarray]:
    """Left edges and heights of the bars, in x and ms."""
    last = panel.stack.items[-1].opts
    return last["x0"], last["y1"]


def press_at(panel: LatencyPanel, qtbot, token: int) -> QPoint:
    """The pixel of the canvas in the middle of a token's bar."""
    start, end = token_window(panel.recording, token)
    view = panel.rows[0].plot.getViewBox()
    return panel.canvas.mapFromScene(view.mapViewToScene(QPointF((start + end) / 2e9, panel.row.top / 2)))


def test_bars_are_decode_tokens_and_sum_to_their_duration(make_panel, recording, theme):
    panel = make_panel(LatencyPanel, recording, theme=theme, size=(640, 240))
    panel.tick()
    decode = recording.tokens.column("phase") == Phase.DECODE
    _, heights = drawn(panel)
    assert len(heights) == decode.sum()
    assert heights == pytest.approx(recording.tokens.column("duration")[decode] / 1e6)
    assert panel.row.top >= heights.max()


def test_prefill_is_told_apart(make_panel, recording):
    panel = make_panel(LatencyPanel, recording)
    panel.tick()
    row = recording.tokens.rows(25, 26)[0]
    assert row["phase"] == Phase.PREFILL
    assert "request 2" in panel.prefill.text
    assert f"{row['duration'] / 1e6:.2f} ms" in panel.prefill.text
    assert "4 prompt tokens" in panel.prefill.text
    panel.selection.hover(token=3)
    panel.tick()
    assert "request 1" in panel.prefill.text


def test_an_empty_recording_gets_a_hint_and_no_axes(make_panel):
    panel = make_panel(LatencyPanel)
    panel.tick()
    assert not panel.canvas.isVisible()
    assert "Run a prompt" in " ".join(label.text() for label in panel.findChildren(QLabel) if label.isVisible())


def test_figures_follow_the_range(make_panel, recording):
    panel = make_panel(LatencyPanel, recording)
    start, end = token_window(recording, 8)[0] + 1, token_window(recording, 19)[1] - 1
    panel.selection.pick(start=start, end=end)
    panel.tick()
    told = summarize(recording, start, end)
    assert panel.legend.values[""] == f"range: 12 tokens: {told.tpot_ms:.1f} ms"
    assert panel.legend.values["demand stall"] == f"{told.stall_ms_per_token:.1f}"
    assert panel.legend.values["expert compute"] == f"{told.compute_ms:.1f}"


def test_the_pointed_token_is_read_out_and_framed(make_panel, recording):
    panel = make_panel(LatencyPanel, recording)
    panel.selection.hover(token=7)
    panel.tick()
    assert panel.legend.values[""].startswith("token 7: ")
    start, end = token_window(recording, 7)
    assert (start / 1e9, end / 1e9) in {(band.start, band.end) for band in panel.row.bands.bands}


def test_pointing_and_clicking_in_the_chart(make_panel, recording, qtbot):
    panel = make_panel(LatencyPanel, recording, size=(640, 300))
    panel.tick()
    place = press_at(panel, qtbot, 12)
    qtbot.wait(30)
    qtbot.mouseMove(panel.canvas.viewport(), place)
    panel.tick()
    assert panel.selection.hover_token == 12
    qtbot.mouseClick(panel.canvas.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert panel.selection.picked.token == 12
    qtbot.mouseClick(panel.canvas.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert panel.selection.picked.token is None


def test_shift_drag_selects_a_range(make_panel, recording, qtbot):
    panel = make_panel(LatencyPanel, recording, size=(640, 300))
    panel.tick()
    begin, end = press_at(panel, qtbot, 5), press_at(panel, qtbot, 15)
    viewport, shift = panel.canvas.viewport(), Qt.KeyboardModifier.ShiftModifier
    qtbot.mousePress(viewport, Qt.MouseButton.LeftButton, shift, begin)
    qtbot.mouseMove(viewport, end)
    assert panel.selection.picked.start is None, "nothing is selected before the button is let go"
    qtbot.mouseRelease(viewport, Qt.MouseButton.LeftButton, shift, end)
    picked = panel.selection.picked
    assert token_window(recording, 5)[0] < picked.start < token_window(recording, 5)[1]
    assert token_window(recording, 15)[0] < picked.end < token_window(recording, 15)[1]
    assert panel.selection.hover_token is None, "the range's figures are to be read now"
    qtbot.keyClick(panel.canvas, Qt.Key.Key_Escape)
    assert panel.selection.picked.start is None


def test_wheel_zooms_at_the_cursor_and_l_follows_again(make_panel, recording, qtbot):
    panel = make_panel(LatencyPanel, recording, size=(640, 300))
    panel.tick()
    place = press_at(panel, qtbot, 20)
    before, whole = panel.time_at(place.x()), panel.window()
    turn = QWheelEvent(
        QPointF(place), QPointF(place), QPoint(), QPoint(0, 120), Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(panel.canvas.viewport(), turn)
    panel.tick()
    view = panel.selection.view
    assert view is not None
    assert view[1] - view[0] < whole[1] - whole[0]
    assert abs(panel.time_at(place.x()) - before) < 2 * (view[1] - view[0]) / panel.canvas.width()
    qtbot.keyClick(panel.canvas, Qt.Key.Key_L)
    assert panel.selection.view is None


def test_a_setting_change_is_a_mark(make_panel, recording):
    panel = make_panel(LatencyPanel, recording)
    panel.tick()
    change = recording.changes[0]
    assert panel.row.marks.marks == [(change.time / 1e9, "Expert bits 8")]
    assert panel.marks()[0].full == "Expert bits 4 → 8 from token 25"


def test_figures_and_marks_grow_with_the_session_without_a_touch(make_panel):
    messages = list(make_messages())
    halfway = next(index for index, message in enumerate(messages) if isinstance(message, Applied))
    recording = Recording()
    for message in messages[:halfway]:
        recording.append(message)
    panel = make_panel(LatencyPanel, recording)
    panel.tick(force=True)
    before = panel.legend.values[""]
    for message in messages[halfway:]:
        recording.append(message)
    for _ in range(panel.every):
        panel.tick()
    assert panel.legend.values[""] != before
    assert [text for _, text in panel.row.marks.marks] == ["Expert bits 8"]


def test_a_token_that_ran_out_of_sight_is_pointed_at_no_more(make_panel):
    messages = list(make_messages(layers=2, experts=4, tokens=600))
    recording = Recording()
    for message in messages[: len(messages) // 3]:
        recording.append(message)
    panel = make_panel(LatencyPanel, recording)
    panel.tick(force=True)
    panel.navigator.hovered.emit(QPointF(200, 50))
    assert (pointed := panel.selection.hover_token) is not None
    for message in messages[len(messages) // 3 :]:
        recording.append(message)
    for _ in range(panel.every):
        panel.tick()
    assert token_window(recording, pointed)[1] < panel.window()[0]
    assert panel.selection.hover_token is None


def test_counting_tokens_leaves_no_pause(make_panel, recording):
    panel = make_panel(LatencyPanel, recording)
    panel.token_action.setChecked(True)
    left, _ = drawn(panel)
    assert left.tolist() == [row for row in range(50) if row not in (0, 25)]


def test_many_tokens_become_means(make_panel):
    recording = make_recording(layers=2, experts=4, tokens=1300)
    panel = make_panel(LatencyPanel, recording, size=(640, 240))
    panel.navigator.fit()
    panel.tick()
    left, heights = drawn(panel)
    assert 300 < len(left) <= 402
    decode = recording.tokens.column("phase") == Phase.DECODE
    assert heights.mean() == pytest.approx(recording.tokens.column("duration")[decode].mean() / 1e6, rel=0.01)


def test_another_recording_replaces_what_was_drawn(make_panel, recording):
    panel = make_panel(LatencyPanel, recording)
    panel.tick()
    panel.show_recording(make_recording(tokens=10, seed=3))
    assert len(drawn(panel)[0]) == 8
    panel.show_recording(Recording())
    assert not panel.canvas.isVisible()


def test_parts_cover_every_time_column_once():
    columns = [column for _, _, columns, _ in PARTS for column in columns]
    assert sorted(columns) == sorted(("attention", "head", "sampling", "router", "compute", "stall", "framework"))
