"""Plans in the window: edited on the undo stack, applied through a file, opened, saved, refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QEvent
from PySide6.QtWidgets import QApplication

from app import planning
from app.live import Live
from app.preferences import Preferences
from app.window import Window
from tests.factory import make_recording
from tests.views.test_bitwidth import studied
from views.plan_model import Draft


@pytest.fixture
def window(qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    """A window that shows a live recording, without an engine: settings hold at once."""
    monkeypatch.setattr(planning, "folder", lambda: tmp_path / "plans")
    live = Live()
    live.recording = make_recording()
    window = Window(live, Preferences(tmp_path / "window.json"))
    window.planning.follow()
    yield window
    gone(window)


def gone(window: Window) -> None:
    """Close and delete it now: every new style sheet is applied to all widgets that live."""
    window.close()
    window.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def test_edits_are_undone_one_by_one_and_a_dragged_tolerance_at_once(window: Window) -> None:
    plans, undo = window.tuning.plans, window.live.undo
    first = plans.draft
    plans.select(np.arange(128) < 3)
    plans.paint(2)
    painted = plans.draft
    for tolerance, bits in ((0.01, 16), (0.02, 4), (0.03, 2)):
        plans.propose(Draft(bytes([bits]) * 128, f"tolerance {tolerance}", tolerance))
    assert undo.count() == 2 and undo.undoText() == "plan: tolerance 0.03"
    undo.step_back()
    assert plans.draft == painted
    undo.step_back()
    assert plans.draft == first
    undo.step_forth()
    assert plans.draft == painted


def test_apply_writes_a_file_and_asks_for_it_and_one_width_needs_none(window: Window, tmp_path: Path) -> None:
    plans = window.tuning.plans
    plans.propose(Draft(bytes([2, 4] * 64), "by hand"))
    plans.take()
    path = Path(str(window.live.wanted["plan"]))
    assert path.parent == tmp_path / "plans" and json.loads(path.read_text())["layers"] == [[2, 4] * 8] * 8
    plans.propose(Draft(bytes([16]) * 128, "16 bits"))
    plans.take()
    assert (window.live.wanted["plan"], window.live.wanted["bits"]) == ("", 16)
    window.live.undo.step_back()
    assert window.live.wanted["plan"] == str(path)


def test_a_plan_is_saved_and_opened_again(window: Window, tmp_path: Path) -> None:
    plans, path = window.tuning.plans, tmp_path / "mine.json"
    made = Draft(bytes([2, 4, 8, 16] * 32), "by hand")
    plans.propose(made)
    window.planning.save(path)
    assert "Written" in window.banners.text("plan")
    window.live.undo.step_back()
    window.files.open_path(path)
    assert plans.draft.plan == made.plan and plans.draft.label == "mine.json" and not window.banners.text("plan")


@pytest.mark.parametrize(("content", "words"), [
    ("nonsense", "is not a bitwidth plan"), ('{"model_hash": "other", "layers": []}', "was made for another model"),
])  # fmt: skip
def test_a_plan_that_does_not_fit_leaves_the_draft(window: Window, tmp_path: Path, content: str, words: str) -> None:
    before = window.tuning.plans.draft
    (tmp_path / "bad.json").write_text(content)
    window.files.open_path(tmp_path / "bad.json")
    assert words in window.banners.text("plan") and window.tuning.plans.draft == before


def test_a_folder_that_cannot_be_written_costs_a_line(window: Window, tmp_path: Path) -> None:
    (tmp_path / "plans").write_text("a file")
    plans = window.tuning.plans
    plans.propose(Draft(bytes([2, 4] * 64), "by hand"))
    plans.take()
    assert window.banners.text("plan") and window.live.wanted["plan"] == ""


def test_a_recorded_sessions_plans_are_tried_without_undo(window: Window) -> None:
    plans, undo = window.tuning.plans, window.live.undo
    window.show_recording(make_recording())
    plans.propose(Draft(bytes([2, 4] * 64), "by hand"))
    assert plans.draft.plan == bytes([2, 4] * 64) and undo.count() == 0
    window.show_live()


def test_texts_are_remembered_as_long_as_they_are_there(window: Window, tmp_path: Path) -> None:
    assert [path.name for path in window.tuning.plans.texts] == ["sources.txt.gz"]
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("text")
    window.planning.use_texts((tmp_path / "a.txt", tmp_path / "b.txt"))
    window.preferences.save()
    (tmp_path / "b.txt").unlink()
    again = Window(Live(), Preferences(tmp_path / "window.json"))
    assert again.tuning.plans.texts == (tmp_path / "a.txt",)
    gone(again)


def test_how_much_and_when_is_remembered_and_heeded(window: Window, tmp_path: Path) -> None:
    plans, header = window.tuning.plans, window.panels["bitwidth"].header
    plans.hear_studied(studied(window.live.recording.model))
    header.sizes[2_048].trigger()
    header.beside.trigger()
    assert plans.tokens == 2_048 and plans.known.studied is None and window.calibrator.beside
    window.preferences.save()
    again = Window(Live(), Preferences(tmp_path / "window.json"))
    assert again.tuning.plans.tokens == 2_048 and again.calibrator.beside
    gone(again)
    header.beside.trigger()
    assert not window.calibrator.beside


def test_the_plan_in_force_is_measured_once_in_a_pause(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    plans, asked, now = window.tuning.plans, list[bytes](), [100.0]
    monkeypatch.setattr(window.calibrator, "weigh", lambda plan, method="hand": asked.append(plan))
    monkeypatch.setattr(planning, "monotonic", lambda: now[0])
    window.timer.stop()

    def wait(seconds: float) -> int:
        window.planning.meter()
        now[0] += seconds
        window.planning.meter()
        return len(asked)

    window.live.state = "idle"
    assert wait(10) == 0  # no text was chosen
    plans.hear_studied(studied(window.live.recording.model))
    window.live.state = "running"
    assert wait(10) == 0
    window.live.state = "paused"
    assert wait(planning.PAUSE_S / 2) == 0 and wait(planning.PAUSE_S) == 1 and wait(10) == 1
    assert asked == [plans.in_force]
