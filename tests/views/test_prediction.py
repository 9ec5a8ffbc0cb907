"""What prediction was worth is drawn from the table of predictions."""

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
