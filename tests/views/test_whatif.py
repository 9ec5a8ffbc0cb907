"""What-if is drawn from real replays; pointing, clicking and keys choose among them."""

from __future__ import annotations

import dataclasses
import time

import msgspec
import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPointF, Qt
from PySide6.QtGui import QMouseEvent
from PySide6.QtTest import QTest

from engine.preload.device import Device
from engine.recording.recording import Recording
from engine.residency import DEFAULT
from engine.simulate.cost import Costs
from engine.simulate.replay import ORACLE, Cell, Records, Replay
from engine.simulate.routing import Routing
from tests.factory import make_recording
from views.selection import Selection
from views.theme import DARK, LIGHT
from views.tuning_model import TuningModel
from views.whatif import WhatIfPanel
from views.whatif_model import POLICIES, WhatIf
from views.whatif_plot import Point
from views.whatif_question import SAMPLE, Question

SIZE = 4096
DISK = Costs(Device("disk", "Disk", 1e9, 1e-4, 4))


def question(tokens: int = 60, layers: int = 3, experts: int = 8, top_k: int = 2, requests: int = 2, share: float = 0.25) -> Question:
    dice = np.random.default_rng(0)
    chosen = np.array([[dice.choice(experts, top_k, replace=False) for _ in range(layers)] for _ in range(tokens)], np.int16)
    lengths = np.full(requests, tokens // requests, np.int64)
    lengths[0] += tokens - lengths.sum()
    records = Records({4: SIZE}, np.full(layers * experts, 4))
    nobody = np.empty(0, np.int32)
    return Question(Routing(chosen, lengths, experts), records, DISK, int(records.full * share), top_k, nobody, tokens, (("session",), 4))


@pytest.fixture
def answered(qtbot):
    """A panel with all its curves, and the requests that it makes."""
    panels: list[WhatIfPanel] = []

    def make(recording: Recording | None = None) -> tuple[WhatIfPanel, list[dict[str, object]]]:
        panel = WhatIfPanel(recording or make_recording(), Selection(), TuningModel(), DARK)
        panels.append(panel)
        qtbot.addWidget(panel)
        panel.resize(420, 300)
        panel.show()
        panel.tick(force=True)
        qtbot.waitUntil(lambda: not panel.model.busy and panel._answer is not None, timeout=20_000)
        asked: list[dict[str, object]] = []
        panel.settings.requested_all.connect(lambda text, values: asked.append(values))
        return panel, asked

    yield make
    for panel in panels:
        panel.model.stop()


def place_of(panel: WhatIfPanel, point: Point) -> QPointF:
    """Where a point is on the plot's viewport."""
    value = panel.plot._value(point)
    assert value is not None
    box = panel.plot.getPlotItem().getViewBox()
    return QPointF(panel.plot.mapFromScene(box.mapViewToScene(QPointF(np.log2(point.budget), value))))


def move(panel: WhatIfPanel, place: QPointF) -> None:
    kind, none = QEvent.Type.MouseMove, Qt.MouseButton.NoButton
    panel.plot.mouseMoveEvent(QMouseEvent(kind, place, panel.plot.mapToGlobal(place), none, none, Qt.KeyboardModifier.NoModifier))


def lowest(panel: WhatIfPanel, policy: str) -> Point:
    curve = next(curve for curve in panel._answer.curves if curve.policy == policy)
    return Point(policy, curve.budgets[0])


def test_nobody_misses_less_than_the_oracle(answered) -> None:
    panel, _ = answered()
    rates = {curve.policy: curve.hit_rates for curve in panel._answer.curves}
    assert set(rates) == set(POLICIES)
    for policy, values in rates.items():
        assert all(low <= high + 1e-9 for low, high in zip(values, rates[ORACLE], strict=True)), policy
    panel.choice.choose("speed")
    panel.restyle(LIGHT)
    assert not panel.grab().isNull()


def test_pointing_reads_out_a_replay_and_says_what_a_click_does(answered) -> None:
    panel, asked = answered()
    point = lowest(panel, "lru")
    move(panel, place_of(panel, point))
    chosen = panel.plot.point
    assert chosen is not None and chosen.budget == point.budget
    curve = next(curve for curve in panel._answer.curves if curve.policy == chosen.policy)
    assert f"{curve.hit_rates[0]:.1%} hits · {curve.tok_s[0]:.0f} t/s" in panel.plot.told.toPlainText()
    assert panel.legend.values["oracle"].startswith(f"{panel._answer.curves[-1].hit_rates[0]:.1%}")
    assert "Click or Enter: take budget" in panel.note.text()
    assert panel.plot.viewport().cursor().shape() == Qt.CursorShape.PointingHandCursor
    assert not asked
    panel.plot.leaveEvent(None)
    assert panel.plot.point is None and "tokens, nothing read ahead" in panel.note.text()


def test_what_is_told_beside_a_point_stays_within_the_axes(answered) -> None:
    panel, _ = answered()
    panel.resize(340, 190)
    panel.grab()  # laid out
    for curve in panel._answer.curves:
        for budget in curve.budgets:
            panel.plot.choose(Point(curve.policy, budget))
            told = panel.plot.told.textItem.sceneBoundingRect()
            axes = panel.plot.getPlotItem().getViewBox().sceneBoundingRect()
            assert axes.adjusted(-2, -2, 2, 2).contains(told), (curve.policy, budget, told, axes)


def test_a_click_asks_for_budget_and_policy_at_once(answered) -> None:
    panel, asked = answered()
    panel.settings.effective["eviction"] = DEFAULT
    panel.plot.choose(lowest(panel, "edgemoe"))
    panel.plot.taken.emit()
    assert [sorted(values) for values in asked] == [["budget", "eviction"]] and asked[0]["eviction"] == "edgemoe"
    panel.plot.choose(lowest(panel, ORACLE))
    panel.plot.taken.emit()
    assert sorted(asked[1]) == ["budget"]  # the oracle is no policy
    panel.settings.read_only = True
    panel.plot.taken.emit()
    assert len(asked) == 2


def test_keys_walk_over_budgets_and_curves(answered) -> None:
    panel, asked = answered()
    panel.plot.setFocus()
    QTest.keyClick(panel.plot, Qt.Key.Key_Right)
    first = panel.plot.point
    assert first is not None and first.budget == panel._here()
    QTest.keyClick(panel.plot, Qt.Key.Key_Left)
    assert panel.plot.point is not None and panel.plot.point.budget < first.budget
    for _ in POLICIES:
        QTest.keyClick(panel.plot, Qt.Key.Key_Up)
    assert panel.plot.point.policy == panel.plot._at(panel.plot.point.budget)[0][1].policy
    panel.plot.leaveEvent(None)
    assert panel.plot.point is not None  # the pointer did not choose it
    QTest.keyClick(panel.plot, Qt.Key.Key_Return)
    assert len(asked) == 1 and "budget" in asked[0]
    QTest.keyClick(panel.plot, Qt.Key.Key_Escape)
    assert panel.plot.point is None


def test_a_newer_question_lets_the_older_go_and_curves_stay(answered, qtbot) -> None:
    panel, _ = answered()
    curves = panel._answer.curves
    for _ in range(3):
        panel.compute()
    assert panel._answer.curves is curves and panel.button.text() == "Cancel"
    qtbot.waitUntil(lambda: not panel.model.busy, timeout=20_000)
    assert panel.button.text() == "Compute"
    panel.show_recording(Recording())
    assert panel._answer is None


def test_cancel_stops_and_says_how_far_it_was(qtbot, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(replay: Replay, cell: Cell) -> None:
        while not replay._stopped.value:
            time.sleep(0.002)

    monkeypatch.setattr(Replay, "run", endless)
    panel = WhatIfPanel(make_recording(), Selection(), TuningModel(), DARK)
    qtbot.addWidget(panel)
    panel.show()
    panel.compute()
    qtbot.waitUntil(lambda: panel.progress.text().startswith("0 of "))
    panel.button.click()
    assert not panel.model.busy and panel.button.text() == "Compute"
    assert panel.progress.text().startswith("cancelled after 0 of ")
    assert "Replaying" not in panel.note.text()


def test_the_budget_in_force_comes_first_and_all_is_as_if_replayed_one_by_one(qtbot) -> None:
    asked = question()
    model, answers = WhatIf(), []
    model.answered.connect(answers.append)
    model.ask(asked, hurried=True)
    qtbot.waitUntil(lambda: not model.busy, timeout=20_000)
    replay = Replay(asked.routing, asked.records, asked.costs)
    for curve in answers[-1].curves:
        assert asked.budget in curve.budgets
        for budget, rate, speed in zip(curve.budgets, curve.hit_rates, curve.tok_s, strict=True):
            told = replay.run(Cell(budget, curve.policy))
            assert told is not None and (told.hit_rate, told.tok_s) == (rate, speed), (curve.policy, budget)


def test_lru_is_known_at_every_budget_from_one_pass(qtbot) -> None:
    asked, model, answers = question(), WhatIf(), []
    model.answered.connect(answers.append)
    for initial in (asked.initial, np.arange(4, dtype=np.int32)):
        model.ask(dataclasses.replace(asked, initial=initial, basis=(*asked.basis, len(initial))), hurried=False)
        qtbot.waitUntil(lambda: not model.busy, timeout=20_000)
        told, curve = answers[-1].lru, next(curve for curve in answers[-1].curves if curve.policy == "lru")
        assert (told is None) == bool(len(initial))  # with a warm start it would not be exact
        if told is not None:
            assert [told[budget // SIZE] for budget in curve.budgets] == pytest.approx(curve.hit_rates)


def test_what_was_replayed_is_not_replayed_again(qtbot, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, model, run, cells = question(), WhatIf(), Replay.run, []
    monkeypatch.setattr(Replay, "run", lambda self, cell: cells.append(cell) or run(self, cell))
    for _ in range(2):
        model.ask(asked, hurried=False)
        qtbot.waitUntil(lambda: not model.busy, timeout=20_000)
    assert len(cells) == len({(cell.budget, cell.eviction) for cell in cells})


def test_curves_keep_what_was_replayed_when_the_budget_in_force_changes(answered, qtbot) -> None:
    panel, _ = answered()
    former = [curve.budgets for curve in panel._answer.curves]
    panel.recording.budget = msgspec.structs.replace(panel.recording.budget, granted=former[0][3] + 1000)
    panel.compute()
    qtbot.waitUntil(lambda: not panel.model.busy, timeout=20_000)
    for curve, budgets in zip(panel._answer.curves, former, strict=True):
        assert set(curve.budgets) == {*budgets, former[0][3] + 1000}


def test_a_long_session_is_sampled_first_with_who_was_in_memory(qtbot) -> None:
    asked = question(tokens=40, layers=4, experts=4)
    long = question(tokens=3 * SAMPLE // 16 // 25, layers=4, experts=4)  # not sampled
    assert asked.sample() is asked and long.sample() is long
    tail = asked.newest(15)
    assert tail.routing.tokens == 15 and tail.recorded == 40 and tail.routing.lengths.tolist() == [15]
    assert (tail.routing.experts == asked.routing.experts[-15:]).all() and tail.basis != asked.basis
    numbers = (asked.routing.experts[24] + np.arange(4)[:, None] * 4).ravel()
    assert set(tail.initial[-8:]) == set(numbers)  # those of the token before are the last loaded
    kept = tail.resident(5 * SIZE)
    assert kept.tolist() == tail.initial[-5:].tolist()
    whole = asked.newest(25)
    assert whole.routing.lengths.tolist() == [5, 20]
