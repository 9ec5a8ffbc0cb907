"""The whole program at work: a real engine process, the real window, its pictures, its session and its trace."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtGui import QImage

from app.commands.shot import Wanted, shoot
from app.gui import create_application, has_display
from engine.recording.recording import Recording


def test_a_run_leaves_pictures_a_session_and_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    create_application()
    out = tmp_path / "out"
    assert shoot(Wanted(out, tokens=80, sizes=((1280, 720),), themes=("light",))) == 0
    for name in ("empty", "running", "looked-into"):
        picture = QImage(str(out / f"{name}-light-1280x720.png"))
        assert (picture.width(), picture.height()) == (1280, 720)
        colors = {picture.pixel(x, y) for x in range(0, 1280, 9) for y in range(0, 720, 9)}
        assert len(colors) > 12, f"{name} shows next to nothing"
    recording = Recording.open(out / "session.edgemoe")
    budgets, requests = recording.tokens.column("budget_bytes"), recording.tokens.column("request")
    runs = int(requests[-1]) + 1  # two where the first was over before it could be paused
    assert len(recording.tokens) == 80 * runs and runs <= 2
    assert [change.name for change in recording.changes] == ["max_tokens", "ignore_eos", "budget"]
    assert budgets[-1] < budgets[0] and (np.diff(budgets) != 0).sum() == 1
    passes, spans = len(recording.tokens), len(recording.spans)
    recording.close()
    with gzip.open(out / "trace.json.gz", "rt") as file:
        slices = [event for event in json.load(file)["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == spans + passes + runs, "every span, every pass, and every request"


def test_where_a_window_can_be_shown() -> None:
    assert not has_display({}, "linux")
    assert has_display({"DISPLAY": ":0"}, "linux")
    assert has_display({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    assert has_display({"QT_QPA_PLATFORM": "offscreen"}, "linux")
    assert has_display({}, "darwin")
