"""What prediction was worth is drawn from the table of predictions, and what-if from a real replay."""

from __future__ import annotations

import numpy as np
import pytest

from engine.events import PREDICTION, Asked, Batch
from engine.recording.recording import Recording
from tests.factory import make_recording
from views.prediction import PredictionPanel
from views.selection import Selection
from views.theme import DARK, LIGHT
from views.tuning_model import TuningModel
from views.whatif import WhatIfPanel


def predicted(recording: Recording, right: float = 0.75) -> Recording:
    """The recording with two predictions a layer and decoded token, of which that share came true."""
    model, dice = recording.model, np.random.default_rng(0)
    assert model is not None
    rows = []
    for token, (start, phase) in enumerate(zip(recording.tokens.column("start"), recording.tokens.column("phase"), strict=True)):
        for layer in range(model.layers if phase else 0):
            for rank in range(2 * model.top_k):
                likely = right if rank < model.top_k else 0.1
                chosen = dice.random() < likely
                rows.append((start, token, layer, rank, rank, 1, chosen, Asked.READ if chosen else Asked.NOTHING, likely))
    recording.append(Batch({"predictions": np.array(rows, PREDICTION).tobytes()}, []))
    return recording


@pytest.fixture
def recording() -> Recording:
    return predicted(make_recording())


def test_recall_and_calibration_are_those_of_the_rows(recording: Recording, qtbot) -> None:
    panel = PredictionPanel(recording, Selection(), TuningModel(), DARK)
    qtbot.addWidget(panel)
    panel.resize(420, 300)
    panel.show()
    panel.tick(force=True)
    rows = recording.predictions.rows()
    likeliest = rows[rows["rank"] < recording.model.top_k]
    assert np.nanmean(panel.summary.recall) == pytest.approx(likeliest["chosen"].mean(), abs=0.02)
    assert panel.summary.told.sum() == len(rows) and panel.summary.came.sum() == rows["chosen"].sum()
    assert panel.legend.values["recall"].endswith("%")
    panel.restyle(LIGHT)
    assert not panel.grab().isNull()


def test_without_predictions_the_panel_says_what_to_switch_on(qtbot) -> None:
    panel = PredictionPanel(make_recording(), Selection(), TuningModel(), DARK)
    qtbot.addWidget(panel)
    assert not panel.has_data() and "Predictor other than none" in panel.hint


def test_what_if_replays_when_a_request_is_over_and_a_click_asks_for_settings(recording: Recording, qtbot) -> None:
    model, selection = TuningModel(), Selection()
    asked: list[dict[str, object]] = []
    model.requested_all.connect(lambda text, values: asked.append(values))
    panel = WhatIfPanel(recording, selection, model, DARK)
    qtbot.addWidget(panel)
    panel.resize(420, 300)
    panel.show()
    panel.tick(force=True)
    panel.compute()
    qtbot.waitUntil(lambda: len(panel._curves) == 4 and panel.button.text() == "Compute", timeout=20_000)
    rates = {curve.policy: curve.hit_rates for curve in panel._curves}
    for policy, values in rates.items():
        assert all(low <= high + 1e-9 for low, high in zip(values, rates["oracle"], strict=True)), policy
    assert rates["oracle"][-1] >= rates["oracle"][0]
    question = panel._question
    assert question is not None
    panel._click(question.records.full / 2, 50.0)
    assert len(asked) == 1 and asked[0]["budget"] == "50%"  # budget and policy are one request
    panel.choice.choose("speed")
    panel.restyle(LIGHT)
    assert not panel.grab().isNull()
    panel.model.stop()


def test_a_newer_question_lets_the_older_go(recording: Recording, qtbot) -> None:
    panel = WhatIfPanel(recording, Selection(), TuningModel(), DARK)
    qtbot.addWidget(panel)
    panel.show()
    for _ in range(3):
        panel.compute()
    qtbot.waitUntil(lambda: panel.button.text() == "Compute", timeout=20_000)
    assert panel._job == 3 or len(panel._curves) == 4
    panel.show_recording(make_recording())
    panel.model.stop()
