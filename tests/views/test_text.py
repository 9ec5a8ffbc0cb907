"""The text panel: how text is laid out, what a tint says, and what pointing at a token does here and elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QGuiApplication, QKeyEvent
from PySide6.QtTest import QTest

from engine.events import TABLES, Batch, Began, Phase
from engine.recording.recording import Recording
from profiles.prompts import load_prompts
from tests.factory import make_messages, make_recording
from views.colors import contrast
from views.expert_uses import ExpertUses
from views.text import TextPanel
from views.text_layout import NEWLINE, PROMPT, TextLayout
from views.text_requests import heading
from views.text_status import token_line
from views.text_tints import MISSES, MODES, PREFILL, STEPS, Scale, Tints, palette
from views.theme import DARK

SIZE = (388, 340)


def laid_out(pieces: list[str], width: float = 10.0, prompt: str = "") -> TextLayout:
    """Every character is 1 wide."""
    layout = TextLayout(len, width)
    if prompt:
        layout.add_request(0, prompt)
    for piece in pieces:
        layout.add_token(piece)
    return layout


def shown(layout: TextLayout) -> list[str]:
    return ["".join(box.text for box in line.boxes) for line in layout.lines]


def recorded(pieces: list[str], prompt: str = "Say") -> Recording:
    """One request whose tokens have these texts."""
    recording, rows = Recording(), np.zeros(len(pieces), TABLES["tokens"])
    rows["phase"], rows["phase"][0] = Phase.DECODE, Phase.PREFILL
    rows["duration"] = 1_000_000
    rows["start"] = np.arange(len(pieces)) * 1_000_000
    recording.append(Began(time=0, request=0, prompt=prompt, prompt_pieces=[prompt], first_token=0))
    recording.append(Batch(tables={"tokens": rows.tobytes()}, pieces=pieces))
    return recording


def place_of(panel: TextPanel, row: int) -> QPoint:
    return panel.canvas.boxes_of(row)[0].center()


# --- layout


def test_words_of_several_tokens_wrap_whole() -> None:
    layout = laid_out(["one", " two", " th", "ree", "fold"])
    assert shown(layout) == ["one two", "threefold"]
    assert [box.row for box in layout.lines[1].boxes] == [2, 3, 4]
    assert layout.line_of(1) == 0
    assert layout.line_of(2) == 1


@pytest.mark.parametrize("pieces", [["abcdefghijklmnopqrstuvwxy"], list("abcdefghijklmnopqrstuvwxy"), ["ab cd", "efghijklmnopqrstuvwxyz"]])
def test_nothing_is_wider_than_the_line(pieces: list[str]) -> None:
    layout = laid_out(pieces)
    assert all(line.boxes[-1].x + line.boxes[-1].width <= 10 for line in layout.lines if line.boxes)
    assert "".join(shown(layout)).replace(" ", "") == "".join(pieces).replace(" ", "")


def test_indentation_newlines_and_tabs_are_kept() -> None:
    layout = laid_out(["if x:", "\n", "    ", "y", "\n", "\n", "\t", "z"])
    assert shown(layout) == ["if x:" + NEWLINE, "    y" + NEWLINE, NEWLINE, "\tz"]
    assert layout.lines[3].boxes[1].x == 4


def test_wide_characters_break_anywhere_and_controls_are_pictures() -> None:
    layout = laid_out(["数据模型读取专家\x1b"], width=5)
    assert shown(layout) == ["数据模型读", "取专家␛"]


def test_token_without_text_can_be_pointed_at() -> None:
    layout = laid_out([" a", "", "据"])
    assert [layout.row_at(0, x) for x in (0.5, 2.5, 6.5)] == [0, 1, 2]


def test_prompt_is_no_token() -> None:
    layout = laid_out([" there"], prompt="hello")
    assert [line.request for line in layout.lines] == [0, -1, -1]
    assert layout.row_at(1, 2) is None
    assert [box.row for box in layout.lines[1].boxes] == [PROMPT]
    assert layout.line_of(0) == 2


@pytest.mark.parametrize("seed", range(5))
def test_one_at_a_time_is_as_all_at_once(seed: int) -> None:
    random = np.random.default_rng(seed)
    pieces = ["", "a", " bc", "def", "\n", "  ", "数", " 据x", "longlonglong", "\t", ",", "x y z\n\nw"]
    layout = laid_out([], width=30, prompt="a prompt of words")
    for piece in random.choice(pieces, 300):
        layout.add_token(str(piece))
    layout.resize(12)
    layout.resize(30)
    again = shown(layout)
    layout._again()
    assert shown(layout) == again
    assert [line.first for line in layout.lines] == sorted(line.first for line in layout.lines)
    for row in range(layout.rows):
        line = layout.lines[layout.line_of(row)]
        box = next(box for box in line.boxes if box.row == row)
        assert layout.row_at(layout.line_of(row), box.x + box.width / 2) == row


# --- tints


def test_scale_holds_still_until_it_must_move() -> None:
    scale = Scale()
    assert scale.fit(2.2, 5.7)
    assert (scale.low, scale.high) == (2.0, 6.0)
    assert not scale.fit(2.5, 5.2)
    assert scale.fit(2.5, 6.1)
    assert scale.high == 7.0
    assert scale.fit(3.0, 4.0)
    assert scale.steps(np.array([0.0, scale.low, scale.high, 99.0])).tolist() == [0, 0, STEPS - 1, STEPS - 1]


@pytest.mark.parametrize("mode", [mode for mode, _, _ in MODES])
def test_text_is_readable_on_every_tint(theme, mode: str) -> None:
    tints = palette(mode, theme)
    assert min(contrast(theme.text, tint) for tint in tints) >= 4.5
    assert contrast(tints[0], tints[-1]) > 1.5


def test_tint_says_what_the_records_say(recording) -> None:
    tints = Tints(recording)
    tints.mode = "misses"
    tints.refit()
    rows, steps = recording.tokens.rows(), np.array(tints.steps(0, 50))
    assert ((steps == PREFILL) == (rows["phase"] == Phase.PREFILL)).all()
    misses = sum(rows[name] for name in MISSES)
    order = np.argsort(misses[steps >= 0])
    assert (np.diff(steps[steps >= 0][order]) >= 0).all()
    assert tints.scale.low == 0


def test_uses_of_an_expert(recording) -> None:
    uses, accesses = ExpertUses(), recording.accesses.rows()
    for first, stop in ((0, 10), (5, 30), (0, 50)):
        mine = accesses[(accesses["layer"] == 1) & (accesses["expert"] == 3)]["token"]
        assert uses.rows(recording, (1, 3), first, stop) == {int(row) for row in mine if first <= row < stop}
    assert uses.rows(recording, None, 0, 50) == set()


# --- the panel


def test_prompt_is_first_sample_and_is_submitted(make_panel, qtbot) -> None:
    panel = make_panel(TextPanel, size=SIZE)
    samples = load_prompts()
    assert panel.prompt() == samples[0].text
    panel.box.choose(samples[-1])
    assert panel.prompt() == samples[-1].text
    panel.box.editor.undo()
    assert panel.prompt() == samples[0].text
    with qtbot.waitSignal(panel.submitted) as caught:
        QTest.keyClick(panel.box.editor, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert caught.args == [samples[0].text]


def test_editor_keeps_its_key_from_the_window_and_takes_the_focus(make_panel) -> None:
    panel = make_panel(TextPanel, size=SIZE)
    event = QKeyEvent(QKeyEvent.Type.ShortcutOverride, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    event.ignore()
    panel.box.editor.event(event)
    assert event.isAccepted()
    panel.canvas.setFocus()
    panel.setFocus()
    assert panel.focusWidget() is panel.box.editor


def test_every_sample_is_in_the_menu(make_panel) -> None:
    panel = make_panel(TextPanel, size=SIZE)
    titles = [action.text().strip() for action in panel.box.samples.menu().actions() if action.isEnabled()]
    assert titles == [prompt.title for prompt in load_prompts()]


def test_growing_text_is_as_reopened_text(make_panel) -> None:
    panel, whole = make_panel(TextPanel, size=SIZE), make_panel(TextPanel, make_recording(), size=SIZE)
    for message in make_messages():
        panel.recording.append(message)
        panel.tick(force=True)
    assert panel.canvas.text.lines == whole.canvas.text.lines
    assert panel.canvas.text.rows == 50
    headings = [heading(panel.recording, line.request) for line in panel.canvas.text.lines if line.request >= 0]
    assert [text[:29] for text in headings] == ["Request 1 · 4 prompt tokens ·", "Request 2 · 4 prompt tokens ·"]


def test_another_recording_starts_from_nothing(make_panel) -> None:
    panel = make_panel(TextPanel, make_recording(), size=SIZE)
    panel.show_recording(make_recording(tokens=10))
    assert panel.canvas.text.rows == 10
    panel.show_recording(Recording())
    assert panel.canvas.text.lines == []
    assert not panel.grab().isNull()


def test_pieces_show_literally(make_panel) -> None:
    panel = make_panel(TextPanel, recorded(["<b>", "&amp;", "\n", "", " x"]), size=SIZE)
    assert "".join(box.text for line in panel.canvas.text.lines for box in line.boxes) == "Say<b>&amp;" + NEWLINE + " x"
    assert "'\\n'" in token_line(panel.recording, 2)
    assert "part of a character" in token_line(panel.recording, 3)
    assert "<b>" in token_line(panel.recording, 0)


def test_hover_and_click_tell_the_others(make_panel, qtbot) -> None:
    panel = make_panel(TextPanel, make_recording(), size=SIZE)
    row = panel.canvas.text.rows - 2
    QTest.mouseMove(panel.canvas.viewport(), place_of(panel, row))
    qtbot.waitUntil(lambda: panel.selection.hover_token == row)
    assert panel.status.text() == token_line(panel.recording, row)
    QTest.mouseClick(panel.canvas.viewport(), Qt.MouseButton.LeftButton, pos=place_of(panel, row))
    assert panel.selection.picked.token == row
    QTest.mouseClick(panel.canvas.viewport(), Qt.MouseButton.LeftButton, pos=place_of(panel, row))
    assert panel.selection.picked.token is None
    assert panel.canvas.row_at(QPointF(-5, 20)) is None


def test_token_pinned_elsewhere_comes_into_view(make_panel) -> None:
    panel = make_panel(TextPanel, make_recording(tokens=300), size=SIZE)
    panel.selection.pick(token=5)
    assert panel.canvas.viewport().rect().contains(panel.canvas.boxes_of(5)[0])
    assert not panel.canvas.following
    assert panel.canvas.newest.isVisible()


def test_end_is_followed_until_one_scrolls_up(make_panel) -> None:
    messages = list(make_messages(tokens=400))
    panel, half = make_panel(TextPanel, size=SIZE), len(messages) * 2 // 3
    bar = panel.canvas.verticalScrollBar()
    for message in messages[:half]:
        panel.recording.append(message)
    panel.tick(force=True)
    assert bar.value() == bar.maximum() > 0
    bar.setValue(100)
    for message in messages[half:]:
        panel.recording.append(message)
    panel.tick(force=True)
    assert bar.value() == 100
    panel.canvas.newest.click()
    assert bar.value() == bar.maximum()
    assert not panel.canvas.newest.isVisible()


def test_keys_move_the_pin(make_panel) -> None:
    panel = make_panel(TextPanel, make_recording(), size=SIZE)
    moves = [(Qt.Key.Key_Left, 49), (Qt.Key.Key_Left, 48), (Qt.Key.Key_Right, 49), (Qt.Key.Key_Right, 49), (Qt.Key.Key_Home, 0),
             (Qt.Key.Key_Left, 0), (Qt.Key.Key_End, 49), (Qt.Key.Key_Escape, None)]  # fmt: skip
    for key, row in moves:
        QTest.keyClick(panel.canvas, key)
        assert panel.selection.picked.token == row
    event = QKeyEvent(QKeyEvent.Type.ShortcutOverride, Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier)
    event.ignore()
    panel.canvas.event(event)
    assert not event.isAccepted()  # nothing is pinned: Esc is the window's


def test_copy_takes_the_request_of_the_pinned_token(make_panel) -> None:
    panel = make_panel(TextPanel, make_recording(), size=SIZE)
    pieces = panel.recording.pieces
    QTest.keyClick(panel.canvas, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == "Once upon a time" + "".join(pieces[25:])
    panel.selection.pick(token=3)
    panel.copy.click()
    assert QGuiApplication.clipboard().text() == "Once upon a time" + "".join(pieces[:25])
    assert "request 1" in panel.status.text()


def test_range_and_expert_are_marked_in_the_picture(make_panel, theme) -> None:
    panel = make_panel(TextPanel, make_recording(), theme=theme, size=SIZE)
    plain = panel.canvas.grab().toImage()
    start, duration = (int(panel.recording.tokens.column(name)[40]) for name in ("start", "duration"))
    panel.selection.pick(start=start, end=start + duration)
    assert panel.canvas.marked == range(40, 41)
    ranged = panel.canvas.grab().toImage()
    assert ranged != plain
    used = panel.recording.accesses.rows()[-1]
    panel.selection.hover(expert=(int(used["layer"]), int(used["expert"])))
    assert int(used["token"]) in panel._used(25, 50)
    assert panel.canvas.grab().toImage() != ranged


@pytest.mark.parametrize("width", [345, 388, 560, 1000])
def test_nothing_jumps_with_what_is_told(make_panel, width: int) -> None:
    panel = make_panel(TextPanel, Recording(), size=(width, 340))
    QGuiApplication.processEvents()
    height = panel.canvas.height()
    panel.show_recording(make_recording(48, 128, 8, tokens=12))
    for mode in ("misses", "latency"):
        panel.modes.choose(mode)
        for token in (None, 0, 3):
            panel.selection.hover(token=token)
            QGuiApplication.processEvents()
            assert panel.canvas.height() == height


def test_focus_is_seen_on_the_text(make_panel) -> None:
    panel = make_panel(TextPanel, make_recording(), size=SIZE)
    panel.activateWindow()
    before = panel.grab().toImage()
    panel.canvas.setFocus()
    QGuiApplication.processEvents()
    corner = panel.canvas.mapTo(panel, QPoint(0, 0))
    after = panel.grab().toImage()
    assert after.pixelColor(corner).name() == DARK.accent != before.pixelColor(corner).name()
