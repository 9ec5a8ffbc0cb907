"""Which tokens a plan would have chosen otherwise: asked for, marked, counted, stepped through, old once the plan is another."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest

from engine.bitwidth.messages import Compare, Compared, Drop
from engine.events import TABLES, Batch, Began, Phase
from engine.recording.recording import Recording
from tests.factory import make_recording
from views.plan_model import Draft
from views.text import TextPanel
from views.text_comparison import OLDER
from views.text_fidelity import Fidelity
from views.text_requests import ids_of
from views.text_tints import UNKNOWN
from views.theme import Theme
from views.tuning_model import TuningModel

SIZE = (388, 420)
PROMPT, MADE = [7, 8, 9], [20, 21, 22, 23, 24, 25]


def recorded(requests: int = 2, prompt: list[int] = PROMPT) -> Recording:
    """Requests of three prompt tokens and six new ones each, of a model that is loaded."""
    model = make_recording().model
    recording = Recording()
    recording.model = model
    for request in range(requests):
        first = request * len(MADE)
        rows = np.zeros(len(MADE), TABLES["tokens"])
        rows["phase"], rows["phase"][0] = Phase.DECODE, Phase.PREFILL
        rows["start"], rows["duration"], rows["token_id"] = np.arange(first, first + len(MADE)) * 1_000_000, 1_000_000, MADE
        recording.append(Began(first * 1_000_000, request, "Say", ["Say"], first, list(prompt)))
        recording.append(Batch({"tokens": rows.tobytes()}, [f" w{at}" for at in range(first, first + len(MADE))]))
    return recording


def answer(wish: Compare, differing: set[int]) -> Compared:
    """As the calibrator answers; ``differing`` counts new tokens, of which each diverges by its number in tenths of a nat."""
    count = len(wish.token_ids) - 1
    reference = list(range(count))
    places = {len(PROMPT) - 1 + token for token in differing}
    chosen = [token + 1000 * (place in places) for place, token in enumerate(reference)]
    kl = np.arange(count, dtype=np.float32) / 10 - (len(PROMPT) - 1) / 10
    return Compared(wish.request, wish.plan, reference, chosen, [f" r{at}" for at in reference], [f" c{at}" for at in chosen],
                    np.maximum(kl, 0).tobytes())  # fmt: skip


@pytest.fixture
def panel(make_panel) -> TextPanel:
    settings, recording = TuningModel(), recorded()
    made = make_panel(TextPanel, recording, settings=settings, size=SIZE)
    settings.plans.hear_model(recording.model, bytes([4]) * 128)
    made.wishes = []
    settings.plans.wished.connect(made.wishes.append)
    return made


def test_a_request_is_compared_on_demand_with_all_that_came_before(panel: TextPanel) -> None:
    plans = panel.settings.plans
    QTest.keyClick(panel.canvas, Qt.Key.Key_D)
    assert panel.modes.key == "fidelity" and panel.comparison.isVisible()
    (wish,) = panel.wishes
    assert wish.token_ids == PROMPT + MADE and wish.plan == bytes([4]) * 128 and wish.model_hash == panel.recording.model.model_hash
    assert panel.tints.steps(0, 12) == [UNKNOWN] * 12
    plans.hear_compared(answer(wish, {1, 4}))
    assert panel._differing(0, 12) == {7, 10}  # of the second request: nothing is pinned
    steps = panel.tints.steps(0, 12)
    assert steps[:6] == [UNKNOWN] * 6 and steps[6:] == sorted(steps[6:]) and steps[6] == 0 < steps[11]
    assert panel.comparison.told.toolTip().startswith("Request 2: in place of 2 of 6 tokens (33%) the plan in force")
    assert "0.25 nats" in panel.comparison.told.toolTip()
    panel.modes.choose("latency")
    assert not panel.comparison.isVisible() and panel._differing(0, 12) == set()


def test_the_pinned_token_says_which_request_and_is_told_of(panel: TextPanel) -> None:
    panel.modes.choose("fidelity")
    panel.selection.pick(token=2)
    panel.comparison.go.click()
    panel.settings.plans.hear_compared(answer(panel.wishes[0], {2}))
    assert panel._differing(0, 12) == {2}
    assert panel.status.text() == "Token 2: the highest width would choose ' r4', the plan ' c1004' · KL 0.2 nats"
    panel.selection.pick(token=3)
    assert panel.status.text().startswith("Token 3 ' w3'")
    panel.selection.pick(token=9)
    assert "Request 2 is not compared" in panel.comparison.told.toolTip()


def test_keys_and_buttons_step_through_what_differs_and_around(panel: TextPanel) -> None:
    QTest.keyClick(panel.canvas, Qt.Key.Key_D)
    panel.settings.plans.hear_compared(answer(panel.wishes[0], {1, 4}))
    shift = Qt.KeyboardModifier.ShiftModifier
    for modifier, row in ((Qt.KeyboardModifier.NoModifier, 7), (Qt.KeyboardModifier.NoModifier, 10), (Qt.KeyboardModifier.NoModifier, 7),
                          (shift, 10), (shift, 7)):  # fmt: skip
        QTest.keyClick(panel.canvas, Qt.Key.Key_N, modifier)
        assert panel.selection.picked.token == row
    panel.comparison.after.click()
    assert panel.selection.picked.token == 10


def test_what_was_found_is_old_once_the_plan_is_another(panel: TextPanel) -> None:
    plans = panel.settings.plans
    QTest.keyClick(panel.canvas, Qt.Key.Key_D)
    plans.hear_compared(answer(panel.wishes[0], {1}))
    plans.accept(Draft(bytes([2]) * 128, "edited"))
    assert "the plan in force" in panel.comparison.told.toolTip()  # it still is
    plans.hear_model(panel.recording.model, bytes([2]) * 128)
    assert "a former plan" in panel.comparison.told.toolTip() and "compare again" in panel.comparison.told.toolTip()
    panel.comparison.go.click()
    plans.hear_compared(answer(panel.wishes[1], {0}))
    assert panel._differing(0, 12) == {6} and panel.wishes[1].plan == bytes([2]) * 128


def test_work_can_be_stopped_and_what_failed_is_told(panel: TextPanel) -> None:
    plans = panel.settings.plans
    QTest.keyClick(panel.canvas, Qt.Key.Key_D)
    plans.hear_state(True, True)
    assert panel.comparison.go.text() == "Cancel" and "held" in panel.comparison.told.toolTip()
    panel.comparison.go.click()
    assert panel.wishes[-1] == Drop(panel.wishes[0].request)
    plans.hear_state(False, False)
    assert panel.comparison.go.text() == "Compare" and "not compared" in panel.comparison.told.toolTip()
    panel.comparison.go.click()
    plans.hear_trouble("There is no such folder")
    assert panel.comparison.go.text() == "Compare" and panel.comparison.told.toolTip() == "There is no such folder"
    plans.hear_compared(answer(panel.wishes[0], {1}))  # too late
    assert panel._differing(0, 12) == set()


def test_the_key_shows_what_is_asked_before_it_stops_it(panel: TextPanel) -> None:
    QTest.keyClick(panel.canvas, Qt.Key.Key_D)
    panel.modes.choose("misses")
    QTest.keyClick(panel.canvas, Qt.Key.Key_D)
    assert panel.modes.key == "fidelity" and panel.comparison.waits and len(panel.wishes) == 1
    QTest.keyClick(panel.canvas, Qt.Key.Key_D)
    assert not panel.comparison.waits and isinstance(panel.wishes[-1], Drop)


def test_sessions_without_ids_or_text_say_so(panel: TextPanel) -> None:
    panel.modes.choose("fidelity")
    panel.show_recording(recorded(1, prompt=[]))
    assert panel.comparison.told.toolTip() == OLDER and not panel.comparison.go.isEnabled()
    panel.show_recording(Recording())
    assert "Run a prompt" in panel.comparison.told.toolTip() and not panel.comparison.go.isEnabled()
    QTest.keyClick(panel.canvas, Qt.Key.Key_D)
    assert panel.wishes == []


def test_another_recording_forgets_and_awaits_nothing(panel: TextPanel) -> None:
    QTest.keyClick(panel.canvas, Qt.Key.Key_D)
    panel.show_recording(recorded(1))
    panel.settings.plans.hear_compared(answer(panel.wishes[0], {1}))
    assert panel._differing(0, 6) == set() and not panel.tints.fidelity.verdicts


def test_corners_are_seen_on_all_tints(make_panel, theme: Theme) -> None:
    settings, recording = TuningModel(), recorded(1)
    settings.plans.hear_model(recording.model, bytes([4]) * 128)
    panel, wishes = make_panel(TextPanel, recording, settings=settings, size=SIZE, theme=theme), []
    settings.plans.wished.connect(wishes.append)
    QTest.keyClick(panel.canvas, Qt.Key.Key_D)
    settings.plans.hear_compared(answer(wishes[0], {0, 5}))
    picture = panel.canvas.viewport().grab().toImage()
    for row in range(6):
        box = panel.canvas.boxes_of(row)[0]
        corner = picture.pixelColor(box.right() - 1, box.top() + 2)
        assert (corner == QColor(theme.text)) == (row in (0, 5))


def test_fewer_tokens_take_the_place_of_more() -> None:
    fidelity, wish = Fidelity(), Compare(1, b"", PROMPT + MADE, "", "")
    fidelity.take(0, 0, answer(wish, {0, 5}), len(PROMPT))
    fidelity.take(0, 0, answer(Compare(2, b"", PROMPT + MADE[:3], "", ""), {1}), len(PROMPT))
    assert fidelity.differing(0, 12) == {1} and np.isnan(fidelity.kl(3, 12)).all()
    assert fidelity.next(None, 1) == fidelity.next(1, 1) == fidelity.next(None, -1) == 1
    assert ids_of(recorded(), 1) == PROMPT + MADE
