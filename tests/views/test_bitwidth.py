"""The bitwidth panel: drafts follow the tolerance, the brush and the marks; nothing is taken into use but by Apply."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtTest import QTest

from engine.bitwidth.knapsack import cheapest
from engine.bitwidth.messages import Find, Stop, Studied, Study, Weigh, Weighed
from engine.bitwidth.outlook import Outlook
from engine.events import Progress
from tests.factory import make_recording
from views.bitwidth import BitwidthPanel
from views.plan_choices import box, least
from views.plan_controls import place_of, tolerance_at
from views.plan_model import Draft
from views.selection import Selection
from views.theme import DARK, LIGHT
from views.tuning_model import TuningModel

WIDTHS = [2, 4, 8, 16]
FACTOR = 2.0  # by which measured losses are higher than estimates


def studied(model, count: int = 128) -> Studied:
    dice = np.random.default_rng(0)
    losses = dice.lognormal(0, 1, (count, 1)) * np.array([8e-4, 3e-5, 1e-7, 0.0])
    uses = dice.random(count)
    return Studied(model.model_hash, "text", (4, 4), (1024, 1024), WIDTHS, losses.tobytes(), uses.tobytes(), 40.0)


def weighed(told: Studied, plan: bytes, method: str, **more: object) -> Weighed:
    estimate = Outlook.of(told).estimate(plan)
    loss = float(np.expm1(FACTOR * estimate))
    return Weighed(plan, method, estimate, loss, (0.9 * loss, 1.1 * loss), loss / 2, (loss / 3, loss), **more)


@pytest.fixture
def panel(qtbot):
    """A panel on a calibrated model, whose proposals are accepted at once, as the undo stack does."""
    recording = make_recording()
    made = BitwidthPanel(recording, Selection(), TuningModel(), DARK)
    qtbot.addWidget(made)
    plans = made.plans
    plans.proposed.connect(plans.accept)
    plans.hear_model(recording.model, recording.wanted().tobytes())
    told = studied(recording.model)
    plans.hear_studied(told)
    for bits in WIDTHS:
        plans.hear_weighed(weighed(told, bytes([bits]) * 128, "uniform"))
    losses, costs = Outlook.of(told).losses[:, :3], np.tile([float(recording.model.record_bytes[b]) for b in WIDTHS[:3]], (128, 1))
    for allowed in (0.004, 0.01, 0.04):
        packed = cheapest(costs, losses, allowed)
        plans.hear_weighed(weighed(told, bytes(WIDTHS[at] for at in packed.choice), "fast"))
    made.resize(640, 420)
    made.show()
    made._draw()
    yield made
    made.speed.stop()


def test_the_draft_follows_the_tolerance_and_weighs_less_the_more_is_tolerated(panel: BitwidthPanel) -> None:
    sizes = []
    for tolerance in (0.005, 0.02, 0.08):
        panel.tolerance.set_tolerance(tolerance, False)
        outlook = panel.plans.known.outlook
        assert outlook.expected(outlook.estimate(panel.plans.draft.plan)) <= tolerance / 1.05
        sizes.append(panel.plans.total)
    assert sizes[0] > sizes[1] > sizes[2] and panel.plans.dirty
    for place in range(0, 1001, 50):
        assert abs(place_of(tolerance_at(place)) - place) <= 12  # whole hundredths of a percent


def test_estimates_are_corrected_by_what_was_measured(panel: BitwidthPanel) -> None:
    outlook = panel.plans.known.outlook
    assert outlook.expected(0.01) == pytest.approx(np.expm1(0.02), rel=0.05)
    assert FACTOR * outlook.allowance(0.02) == pytest.approx(np.log1p(0.02) / 1.1, rel=0.02)


def test_a_traffic_plan_spends_its_bits_where_tokens_go_less(panel: BitwidthPanel) -> None:
    plans, outlook = panel.plans, panel.plans.known.outlook
    made = {name: np.frombuffer(outlook.cheapest(0.02, plans.subject.record_bytes, name), np.uint8) for name in ("storage", "traffic")}
    sizes = {name: np.array([plans.subject.record_bytes[b] for b in bits.tolist()]) for name, bits in made.items()}
    assert (sizes["traffic"] * outlook.uses).sum() < (sizes["storage"] * outlook.uses).sum()
    assert sizes["storage"].sum() < sizes["traffic"].sum()


def test_experts_are_painted_by_drag_and_key(panel: BitwidthPanel) -> None:
    canvas = panel.grids.canvases[1]
    start, end = (canvas.cell_rect(cell).center().toPoint() for cell in ((1, 2), (3, 5)))
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, start)
    QTest.mouseMove(canvas, end)
    panel.grids._swept((1, 2), (3, 5), False)  # a move of the test's mouse holds no button
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, end)
    assert np.array_equal(panel.plans.selected, box(128, 16, (1, 2), (3, 5)))
    assert (panel.selection.picked.layer, panel.selection.picked.expert) == (1, 2)
    QTest.keyClick(canvas, Qt.Key.Key_2)
    bits = np.frombuffer(panel.plans.draft.plan, np.uint8)
    assert (bits[panel.plans.selected] == 2).all() and (bits[~panel.plans.selected] == 8).all()
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert not panel.plans.selected.any()


def test_ctrl_adds_and_takes_away_and_a_number_takes_the_layer(panel: BitwidthPanel) -> None:
    canvas, plans = panel.grids.canvases[0], panel.plans
    first, second = (canvas.cell_rect(cell).center().toPoint() for cell in ((0, 0), (7, 15)))
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, first)
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier, second)
    assert np.flatnonzero(plans.selected).tolist() == [0, 127]
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier, first)
    assert np.flatnonzero(plans.selected).tolist() == [127]
    beside = QPointF(canvas.cell_rect((5, 0)).left() - 5, canvas.cell_rect((5, 0)).center().y()).toPoint()
    QTest.mouseClick(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, beside)
    assert np.flatnonzero(plans.selected).tolist() == list(range(80, 96))


def test_the_rarest_are_those_the_session_used_least(panel: BitwidthPanel) -> None:
    panel._choose("rarest")
    uses = panel.recording.grid.uses.reshape(-1)
    assert panel.plans.selected.sum() == 26 and uses[panel.plans.selected].max() <= uses[~panel.plans.selected].min()
    panel._choose("unimportant")
    assert np.array_equal(panel.plans.selected, least(panel.plans.known.outlook.losses[:, 0]))
    panel._choose("at 8")
    assert panel.plans.selected.all()


def test_a_mark_is_taken_by_click_and_by_key(panel: BitwidthPanel) -> None:
    plot = panel.plot
    QTest.keyClick(plot, Qt.Key.Key_Left)
    assert plot.spot is not None and panel.plot.told.isVisible() and "perplexity" in panel.plot.told.toPlainText()
    QTest.keyClick(plot, Qt.Key.Key_Return)
    assert panel.plans.draft.plan == plot._spots[0].plan == bytes([2]) * 128
    QTest.keyClick(plot, Qt.Key.Key_Plus)
    assert panel.plans.draft.tolerance == pytest.approx(0.022)


def test_wishes_reach_the_application_and_a_found_plan_becomes_the_draft(panel: BitwidthPanel, tmp_path) -> None:
    plans, wished, taken = panel.plans, [], []
    plans.wished.connect(wished.append)
    plans.taken.connect(taken.append)
    panel.tolerance.find.click()
    assert isinstance(wished[-1], Find) and wished[-1].tolerance == pytest.approx(0.02)
    plans.hear_state(True, False)
    panel._draw()
    assert not panel.tolerance.find.isEnabled()
    panel.header.go.click()
    assert isinstance(wished[-1], Stop)
    plans.hear_state(False, False)
    found = bytes([8, 4] * 64)
    plans.hear_weighed(weighed(plans.known.studied, found, "fast", delivered=True))
    assert plans.draft.plan == found and plans.origin is not None and plans.origin.tolerance == pytest.approx(0.02)
    plans.take()
    assert [draft.plan for draft in taken] == [found]
    plans.accept(Draft(bytes([2, 4] * 64), "painted"))
    plans.weigh()
    assert isinstance(wished[-1], Weigh) and plans.origin is None
    plans.hear_texts((tmp_path / "other.txt",))
    assert plans.known.studied is None
    plans.study()
    assert isinstance(wished[-1], Study) and wished[-1].texts == [str(tmp_path / "other.txt")]


def test_what_is_known_of_one_model_is_not_said_of_another(panel: BitwidthPanel) -> None:
    recording = make_recording(layers=4, experts=8)
    panel.show_recording(recording)
    panel.plans.hear_model(recording.model, recording.wanted().tobytes())
    assert panel.plans.known.studied is None and len(panel.plans.draft.plan) == 32 and not panel.plans.dirty
    panel._draw()
    panel.plans.hear_model(None, b"")
    panel._draw()
    assert panel._pages.currentIndex() == 0


def test_it_predicts_speed_by_replays_of_the_session(panel: BitwidthPanel, qtbot) -> None:
    panel.recording.state = "idle"
    panel._predict()
    qtbot.waitUntil(lambda: not panel.speed.busy, timeout=20_000)
    speeds = panel.speed.speeds
    assert speeds[bytes([2]) * 128] > speeds[bytes([8]) * 128] > 0 and panel.plans.setup is not None
    assert "tokens/s predicted" in panel.summary.text()


def test_a_reopened_session_is_looked_at_only(panel: BitwidthPanel) -> None:
    panel.settings.read_only = True
    panel.plans.select(np.ones(128, bool))
    before = panel.plans.draft
    QTest.keyClick(panel.grids.canvases[1], Qt.Key.Key_2)
    panel._draw()
    assert panel.plans.draft == before and not panel.brush.take.isEnabled() and not panel.brush.bits[2].isEnabled()


def test_it_is_drawn_in_both_themes_and_with_many_experts(qtbot) -> None:
    recording = make_recording(layers=48, experts=128, tokens=4)
    panel = BitwidthPanel(recording, Selection(), TuningModel(), LIGHT)
    qtbot.addWidget(panel)
    panel.plans.hear_model(recording.model, recording.wanted().tobytes())
    panel.plans.hear_studied(studied(recording.model, 48 * 128))
    panel.resize(600, 300)
    panel.show()
    panel.restyle(DARK)
    assert panel.grids.canvases[0].shape == panel.grids.canvases[1].shape == (48, 128)


def test_a_draft_for_a_tolerance_is_weighed_as_the_estimates_and_a_painted_one_by_hand(panel: BitwidthPanel) -> None:
    plans, wished = panel.plans, []
    plans.wished.connect(wished.append)
    plans.tolerate(0.03)
    plans.weigh()
    plans.select(np.arange(128) == 5)
    plans.paint(16)
    plans.weigh()
    assert [(one.method, one.plan == plans.draft.plan) for one in wished] == [("fast", False), ("hand", True)]
    plans.find(0.04)  # does not make the painted plan one for a tolerance
    assert plans.draft.tolerance is None


def test_what_is_known_stays_while_the_model_is_loaded_again(panel: BitwidthPanel) -> None:
    plans, model = panel.plans, panel.recording.model
    plans.hear_model(None, b"")
    plans.hear_model(model, bytes([4]) * 128)
    assert plans.known.studied is not None and plans.draft.plan == plans.in_force == bytes([4]) * 128


def test_tokens_as_such_draw_nothing_anew(panel: BitwidthPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    panel.tick(force=True)
    drawn: list[bool] = []
    monkeypatch.setattr(panel, "_draw", lambda: drawn.append(True))
    panel.recording.revision += 1
    panel.tick(force=True)
    assert not drawn
    panel.recording.state = "paused"
    panel.recording.revision += 1
    panel.tick(force=True)
    assert drawn


def test_what_is_said_of_a_former_study_is_not_heard(panel: BitwidthPanel) -> None:
    plans, wishes, told = panel.plans, [], panel.plans.known.studied
    plans.wished.connect(wishes.append)
    plans.texts = (Path("a.txt"),)
    plans.study()
    plans.hear_state(True, False)
    plans.use_tokens(32_768)
    assert isinstance(wishes[-1], Stop) and plans.known.studied is None
    plans.hear_studied(msgspec.structs.replace(told, study=wishes[0].number))
    assert plans.known.studied is None
    plans.study()
    plans.hear_studied(msgspec.structs.replace(told, study=wishes[-1].number))
    plans.hear_weighed(weighed(told, plans.draft.plan, "hand", study=wishes[0].number))
    assert plans.known.studied is not None and not plans.known.weighed
    plans.hear_weighed(weighed(told, plans.draft.plan, "hand", study=wishes[-1].number))
    assert len(plans.known.weighed) == 1


def test_a_study_that_was_stopped_goes_on(panel: BitwidthPanel) -> None:
    plans, go = panel.plans, panel.header.go
    panel.header.update_state()
    assert go.isEnabled() or not plans.texts
    plans.texts = (Path("a.txt"),)
    panel.header.update_state()
    assert go.isEnabled() and go.text() == "Go on"
    plans.hear_covered(0)
    panel.header.update_state()
    assert not go.isEnabled() and go.text() == "Calibrate"


def test_a_cancel_shows_until_it_is_heard(panel: BitwidthPanel) -> None:
    plans, go = panel.plans, panel.header.go
    plans.texts = (Path("a.txt"),)
    plans.hear_state(True, False)
    panel.header.update_state()
    go.click()
    panel.header.update_state()
    assert panel.header.state.text() == "stopping…" and not go.isEnabled()
    plans.hear_state(False, False)
    panel.header.update_state()
    assert go.isEnabled() and go.text() == "Go on"


def test_a_draft_outlives_a_restart_and_a_trouble_the_next_draft_only(panel: BitwidthPanel) -> None:
    plans, model = panel.plans, panel.recording.model
    plans.select(np.arange(128) < 5)
    plans.paint(2)
    draft = plans.draft
    plans.hear_model(None, b"")
    plans.hear_model(model, bytes([8]) * 128)
    assert plans.draft == draft and plans.dirty
    plans.tolerate(1e-7)
    assert "tolerate more" in plans.trouble
    plans.tolerate(0.02)
    assert plans.trouble == ""


def test_drafts_are_weighed_one_after_the_other(panel: BitwidthPanel) -> None:
    plans, wishes = panel.plans, []
    plans.wished.connect(wishes.append)
    plans.hear_state(True, False)
    for tolerance in (0.012, 0.013, 0.033):
        plans.tolerate(tolerance)
        plans.weigh()
    assert wishes == []
    plans.hear_state(False, False)
    assert [wish.plan for wish in wishes] == [plans.draft.plan]


def test_long_work_tells_how_long_it_will_take(panel: BitwidthPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    plans, now = panel.plans, [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    plans.hear_state(True, False)
    told = []
    for done in (0, 8, 16):
        plans.hear_progress(Progress("lowering one expert after the other", done, 128, "experts"))
        panel.header.update_state()
        told.append(panel.header.state.text())
        now[0] += 4
    start = "lowering one expert after the other: 0 of 128 experts"
    assert [text.partition(" · ")[0] for text in told] == [start, "about 60 s left", "about 56 s left"]
    plans.hear_state(True, True)  # it is held: time passes, and nothing is done
    now[0] += 1000
    plans.hear_state(True, False)
    plans.hear_progress(Progress("lowering one expert after the other", 17, 128, "experts"))
    panel.header.update_state()
    assert panel.header.state.text() == "lowering one expert after the other: 17 of 128 experts"
