"""What every panel promises."""

from __future__ import annotations

import pytest
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication

from app.wiring import PANELS
from engine.events import Batch
from engine.recording.recording import Recording
from tests.factory import make_messages
from views.panel import Panel
from views.readouts import Readouts

ALL = [*PANELS, Readouts]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.key)
def test_nothing_new_draws_nothing(make_panel, recording, monkeypatch, kind):
    panel: Panel = make_panel(kind, recording)
    for _ in range(30):
        panel.tick()
    calls: list[str] = []
    for name in {"refresh", "point"} & set(dir(panel)):
        monkeypatch.setattr(panel, name, lambda name=name: calls.append(name))
    for _ in range(20):
        panel.tick()
    assert calls == []
    recording.append(Batch({}, []))
    for _ in range(panel.every):
        panel.tick()
    assert "refresh" in calls
    del calls[:]
    panel.hide()
    recording.append(Batch({}, []))
    for _ in range(20):
        panel.tick()
    assert calls == [], "what is hidden is not drawn"


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.key)
def test_the_screen_shows_what_a_fresh_painting_would(make_panel, qtbot, kind):
    """A panel repaints all that has changed: what it leaves standing on the screen must not be of before."""
    messages = list(make_messages(tokens=240))
    recording = Recording()
    for message in messages[: len(messages) // 3]:
        recording.append(message)
    panel: Panel = make_panel(kind, recording)
    panel.selection.pick(layer=1, expert=2)
    for start in range(len(messages) // 3, len(messages), 8):
        for message in messages[start : start + 8]:
            recording.append(message)
        panel.tick()
        QApplication.processEvents()
    for _ in range(panel.every):
        panel.tick()
    qtbot.wait(50)
    screen = panel.screen().grabWindow(panel.winId()).toImage().convertToFormat(QImage.Format.Format_RGB32)
    assert screen == panel.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.key)
def test_every_state_of_a_session_can_be_shown(make_panel, theme, kind):
    recording, panel = Recording(), make_panel(kind, theme=theme)
    panel.show_recording(recording)
    for message in make_messages(tokens=12):
        recording.append(message)
        panel.tick(force=True)
        assert not panel.grab().isNull()
    for layers, experts in ((3, 5), (8, 16)):  # another model in the same session
        for message in make_messages(layers, experts, tokens=6):
            recording.append(message)
            panel.tick(force=True)
            assert not panel.grab().isNull()
    panel.show_recording(Recording())
    assert not panel.grab().isNull()
