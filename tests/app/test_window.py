"""The window around a scripted engine: what the user can do, and that nothing takes the window down."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QEvent, QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent, QKeyEvent
from PySide6.QtWidgets import QApplication

from app.demo import PROJECT
from app.gui import create_application
from app.live import Live
from app.preferences import Preferences
from app.window import Window
from engine.recording.recording import Recording
from tests.app.conftest import SCRIPTED

Make = Callable[..., Window]


@pytest.fixture
def make(qtbot, tmp_path: Path) -> Iterator[Make]:
    made: list[Window] = []

    def window(size: tuple[int, int] = (1280, 720)) -> Window:
        create_application()
        window = Window(Live(SCRIPTED), Preferences(tmp_path / "window.json"))
        window.resize(*size)
        window.show()
        made.append(window)
        return window

    yield window
    for window in made:
        window.close()
        window.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)  # now: every new style sheet is applied to all widgets that live


@pytest.fixture
def ready(make: Make, qtbot) -> Window:
    window = make()
    window.begin(Path("/models/scripted"), "scripted", autorun=False)
    qtbot.waitUntil(lambda: window.live.can_run)
    return window


def finished(window: Window, requests: int = 1) -> bool:
    return len(window.live.recording.finished) == requests and window.live.state == "idle"


def press(window: Window, key: Qt.Key, qtbot, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
    qtbot.keyClick(QApplication.focusWidget() or window, key, modifier)


def test_shown_without_torch_and_before_the_engine(tmp_path: Path) -> None:
    """In a process of its own: other tests import torch into this one."""
    code = (
        "import sys; from pathlib import Path; from app.gui import create_application; create_application()\n"
        "from app.live import Live; from app.preferences import Preferences; from app.window import Window\n"
        f"window = Window(Live(), Preferences(Path({str(tmp_path / 'window.json')!r}))); window.show()\n"
        "assert window.isVisible() and not window.live.host.alive\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "window.close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT, timeout=60)


def test_runs_pauses_steps_and_stops(ready: Window, qtbot) -> None:
    assert ready.bar.light.label.text() == "Ready"
    ready._submit("once upon a time")
    qtbot.waitUntil(lambda: len(ready.live.recording.tokens) > 3)
    ready.actions_["pause"].trigger()
    qtbot.waitUntil(lambda: ready.live.state == "paused")
    assert ready.actions_["pause"].text() == "Resume"
    qtbot.wait(60)
    count = len(ready.live.recording.tokens)
    ready.actions_["step"].trigger()
    qtbot.waitUntil(lambda: len(ready.live.recording.tokens) == count + 1)
    ready.actions_["pause"].trigger()
    qtbot.waitUntil(lambda: len(ready.live.recording.tokens) > count + 2)
    ready.actions_["stop"].trigger()
    qtbot.waitUntil(lambda: finished(ready))
    assert ready.live.recording.finished[0].reason == "stopped"
    assert not ready.actions_["stop"].isEnabled()


def test_the_status_bar_says_what_computes(make: Make, qtbot) -> None:
    window = make()

    def load(name: str) -> str:
        window.begin(Path(f"/models/{name}"), autorun=False)
        qtbot.waitUntil(lambda: window.live.can_run)
        return window.status.kernel.text()

    assert load("scripted") == "AVX2 · native decode"
    assert load("torch") == "torch · transformers decode"


def test_the_filling_of_the_buffer_is_shown_until_it_is_over(make: Make, qtbot) -> None:
    window, stages = make(), list[str]()
    window.live.progressed.connect(lambda progress: stages.append(progress.stage if progress else ""))
    window.begin(Path("/models/scripted"), autorun=False)
    qtbot.waitUntil(lambda: window.live.can_run)
    assert stages[-2:] == ["Filling the expert buffer", ""]
    assert window.progress.isHidden()


def test_autorun_starts_what_the_prompt_says(make: Make, qtbot, monkeypatch: pytest.MonkeyPatch) -> None:
    window = make()
    monkeypatch.setattr(window, "prompt", lambda: "a first sample")
    window.begin(Path("/models/scripted"))
    qtbot.waitUntil(lambda: bool(window.live.recording.requests))
    assert window.live.recording.requests[0].prompt == "a first sample"


def test_killed_engine_leaves_window_with_banner_whose_restart_works(ready: Window, qtbot) -> None:
    ready.live.undo.change("bits", 2)
    ready._submit("hello")
    qtbot.waitUntil(lambda: len(ready.live.recording.tokens) > 2)
    former = ready.live.recording.path
    os.kill(ready.live.host.pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: "SIGKILL" in ready.banners.text("died"))
    assert ready.bar.light.label.text() == "Engine stopped"
    assert not ready.actions_["run"].isEnabled()
    ready.banners.banner("died").buttons["Restart"].click()
    qtbot.waitUntil(lambda: ready.live.can_run)
    assert ready.banners.text("died") == ""
    assert ready.live.values["bits"] == 2
    assert ready.live.recording.path != former
    old = Recording.open(former)
    assert len(old.tokens) > 2
    old.close()


def test_failed_load_is_told_with_a_remedy(make: Make, qtbot) -> None:
    window = make()
    window.begin(Path("/models/missing"), autorun=False)
    qtbot.waitUntil(lambda: "no config.json" in window.banners.text("failed"))
    assert "Open demo model" in window.banners.banner("failed").buttons
    assert not window.actions_["run"].isEnabled()
    assert window.bar.light.label.text() == "No model"
    assert not window.progress.isVisible()


def test_loading_shows_progress_and_can_be_cancelled(make: Make, qtbot) -> None:
    window = make()
    window.begin(Path("/models/slow"), autorun=False)
    assert window.progress.stage.text() == "Starting the engine"
    qtbot.waitUntil(lambda: "of 3.91 KiB" in window.progress.amount.text())
    window.progress.cancel.click()
    qtbot.waitUntil(lambda: "stopped" in window.banners.text("failed"))
    assert not window.progress.isVisible()


def test_setting_changes_and_is_undone(ready: Window, qtbot) -> None:
    ready.tuning.request("bits", 8)
    qtbot.waitUntil(lambda: ready.tuning.values["bits"] == 8)
    assert ready.actions_["undo"].text() == "&Undo Expert bits: 4 bits → 8 bits"
    ready.actions_["undo"].trigger()
    qtbot.waitUntil(lambda: ready.tuning.values["bits"] == 4)
    ready.actions_["redo"].trigger()
    qtbot.waitUntil(lambda: ready.tuning.values["bits"] == 8)
    assert [change.new for change in ready.live.recording.changes] == [8, 4, 8]


def test_what_if_takes_budget_and_policy_as_one_step(ready: Window, qtbot) -> None:
    ready.tuning.request_all("what-if choice", {"budget": "50%", "eviction": "lru"})
    qtbot.waitUntil(lambda: (ready.tuning.values["budget"], ready.tuning.values["eviction"]) == ("50%", "lru"))
    ready.actions_["undo"].trigger()
    qtbot.waitUntil(lambda: (ready.tuning.values["budget"], ready.tuning.values["eviction"]) == ("25%", "default"))
    assert not ready.live.undo.canUndo()


def test_refused_setting_is_not_on_the_stack(ready: Window, qtbot) -> None:
    with qtbot.waitSignal(ready.tuning.refused) as refused:
        ready.tuning.request("budget", "1")
    assert "cannot be under" in refused.args[1]
    assert ready.tuning.values["budget"] == "25%"
    assert not ready.actions_["undo"].isEnabled()


def test_setting_that_needs_a_reload_offers_it(ready: Window, qtbot) -> None:
    ready.tuning.request("dtype", "bfloat16")
    qtbot.waitUntil(lambda: "loaded again" in ready.banners.text("reload"))
    ready.banners.banner("reload").buttons["Reload now"].click()
    qtbot.waitUntil(lambda: ready.live.effective.get("dtype") == "bfloat16" and ready.live.can_run)


def test_profile_changes_settings_in_one_step(ready: Window, qtbot) -> None:
    ready.tuning.request("bits", 2)
    qtbot.waitUntil(lambda: ready.profiles.current() == "custom")
    ready.profiles.save("small")
    assert ready.bar.profile.currentData() == "small"
    ready.profiles.choose("default")
    qtbot.waitUntil(lambda: ready.tuning.values["bits"] == 4 and ready.bar.profile.currentData() == "default")
    ready.actions_["undo"].trigger()
    qtbot.waitUntil(lambda: ready.bar.profile.currentData() == "small")


def test_session_opens_read_only_and_back(ready: Window, qtbot, tmp_path: Path) -> None:
    ready.tuning.request("max_tokens", 5)
    qtbot.waitUntil(lambda: ready.tuning.values["max_tokens"] == 5)
    ready._submit("hello")
    qtbot.waitUntil(lambda: finished(ready))
    kept = tmp_path / "kept.edgemoe"
    ready.files.save_session_as(kept)
    qtbot.waitUntil(lambda: "Written" in ready.banners.text("export"))
    ready.tuning.request("max_tokens", 9)
    qtbot.waitUntil(lambda: ready.tuning.values["max_tokens"] == 9)
    ready.files.open_session(kept)
    assert "kept.edgemoe" in ready.banners.text("recorded")
    assert len(ready.shown.tokens) == 5
    assert (ready.tuning.read_only, ready.tuning.values["max_tokens"]) == (True, 5)
    assert ready.bar.light.label.text() == "Recorded"
    ready.banners.banner("recorded").buttons["Back to live"].click()
    assert (ready.tuning.read_only, ready.tuning.values["max_tokens"]) == (False, 9)
    assert ready.banners.text("recorded") == ""
    assert ready.shown is ready.live.recording


def test_running_from_a_recorded_session_goes_back_to_live(ready: Window, qtbot, tmp_path: Path) -> None:
    kept = tmp_path / "kept.edgemoe"
    ready.live.recording.save_as(kept)
    ready.files.open_session(kept)
    ready._submit("hello")
    assert ready.is_live
    qtbot.waitUntil(lambda: ready.live.busy)


def test_file_that_is_no_session_is_a_banner(ready: Window, tmp_path: Path) -> None:
    bad = tmp_path / "bad.edgemoe"
    bad.write_bytes(b"nothing of the kind")
    assert not ready.files.open_session(bad)
    assert "bad.edgemoe" in ready.banners.text("open")
    assert ready.is_live
    assert not ready.files.open_session(tmp_path / "absent.edgemoe")
    assert "absent.edgemoe" in ready.banners.text("open")


def test_dropped_file_is_opened(ready: Window, tmp_path: Path) -> None:
    kept = tmp_path / "kept.edgemoe"
    ready.live.recording.save_as(kept)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(kept))])
    ready.dropEvent(QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier))
    assert ready.shown.path == kept


def test_layout_theme_and_recent_files_are_remembered(make: Make, tmp_path: Path, qtbot) -> None:
    first = make()
    first.area.docks["latency"].hide()
    first.area.tabifyDockWidget(first.area.docks["cache"], first.area.docks["tuning"])
    first.apply_theme("light")
    first.preferences.remember(tmp_path)
    first.close()
    second = make()
    qtbot.wait(10)
    assert second.area.docks["latency"].isHidden()
    assert second.area.docks["tuning"] in second.area.tabifiedDockWidgets(second.area.docks["cache"])
    assert second.theme.name == "light"
    assert second.preferences.recent == [tmp_path]
    second.actions_["reset_layout"].trigger()
    assert second.area.docks["latency"].isVisible()
    assert second.area.docks["tuning"] not in second.area.tabifiedDockWidgets(second.area.docks["cache"])


@pytest.mark.parametrize("text", ["{", "[]", '{"layout": "AAAA", "geometry": 5, "recent": 7, "theme": "puce"}'])
def test_broken_preferences_do_not_keep_the_window_shut(make: Make, tmp_path: Path, text: str) -> None:
    (tmp_path / "window.json").write_text(text)
    window = make()
    assert all(dock.isVisible() or window.area.tabifiedDockWidgets(dock) for dock in window.area.docks.values())


def test_question_mark_shows_every_key(make: Make, qtbot) -> None:
    window = make()
    window.setFocus()
    window.actions_["help"].trigger()
    assert window.overlay.isVisible()
    qtbot.keyClick(window.overlay, Qt.Key.Key_X)
    assert not window.overlay.isVisible()


def test_every_action_has_a_place_in_a_menu(make: Make) -> None:
    window = make()
    listed = set()
    for menu in window.menus.values():
        listed |= set(menu.actions())
    missing = [name for name in window.actions_.TEXTS if window.actions_[name] not in listed]
    assert missing == []


def test_no_two_actions_share_a_key(make: Make) -> None:
    window = make()
    keys = [key.toString() for name in window.actions_.TEXTS for key in window.actions_[name].shortcuts()]
    keys += [key.toString() for toggle in window.area.toggles.values() for key in toggle.shortcuts()]
    assert len(keys) == len(set(keys))


def test_space_is_typed_in_an_editor_and_presses_a_button(make: Make) -> None:
    window = make()
    event = QKeyEvent(QKeyEvent.Type.ShortcutOverride, Qt.Key.Key_Space, Qt.KeyboardModifier.NoModifier, " ")
    event.ignore()
    assert window.guard.eventFilter(window.bar.device, event)
    assert not window.guard.eventFilter(window, event)


def test_closing_while_running_ends_the_engine_and_keeps_the_session(ready: Window, qtbot) -> None:
    ready._submit("hello")
    qtbot.waitUntil(lambda: len(ready.live.recording.tokens) > 2)
    path = ready.live.recording.path
    ready.close()
    assert not ready.live.host.alive
    kept = Recording.open(path)
    assert len(kept.tokens) > 2
    assert kept.damage == ""
    kept.close()


def test_pinning_turns_to_the_inspector(ready: Window) -> None:
    docks = ready.area.docks
    ready.area.turn_to("tuning")
    ready.selection.pick(layer=1, expert=2)
    QApplication.processEvents()
    assert not docks["inspector"].visibleRegion().isEmpty()
    ready.area.turn_to("tuning")
    ready.selection.pick(start=1, end=2)
    QApplication.processEvents()
    assert docks["inspector"].visibleRegion().isEmpty(), "a range is told by every panel"
    docks["inspector"].toggleViewAction().trigger()
    ready.selection.pick(token=0)
    assert docks["inspector"].isHidden(), "hidden stays hidden"


def test_a_panels_key_brings_it_from_behind_and_only_then_hides_it(ready: Window) -> None:
    dock, toggle = ready.area.docks["bitwidth"], ready.area.toggles["bitwidth"]
    for seen, checked in ((True, True), (False, False), (True, True)):
        toggle.trigger()
        QApplication.processEvents()
        assert (dock.isVisible() and not dock.visibleRegion().isEmpty(), toggle.isChecked()) == (seen, checked)
    dock.close()
    assert not toggle.isChecked()


def test_a_low_window_leaves_the_text_most_of_its_column(ready: Window) -> None:
    ready.resize(1280, 700)
    QApplication.processEvents()
    text = ready.panels["text"]
    assert text.canvas.height() > 1.5 * text.box.height()
    assert text.box.editor.height() == text.box.editor.height_of(2)


def test_the_budget_in_force_follows_the_width(ready: Window, qtbot) -> None:
    full = {bits: 4 * 8 * size for bits, size in ready.shown.model.record_bytes.items()}
    assert ready.tuning.effective["budget"] == full[4] // 4
    ready.tuning.request("bits", 8)
    qtbot.waitUntil(lambda: ready.tuning.values["bits"] == 8)
    assert ready.tuning.effective["budget"] == full[8] // 4
    assert ready.tuning.budget_range[1] == full[8]


def test_a_long_banner_takes_the_lines_it_needs(ready: Window, qtbot) -> None:
    banner = ready.banners.say("open", "error", "One of many words that say why. " * 12, {"Open model…": ready.files.ask_model})
    qtbot.waitUntil(lambda: banner.label.height() >= banner.label.heightForWidth(banner.label.width()))
    assert banner.label.height() > 2 * banner.fontMetrics().height()
