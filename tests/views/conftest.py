"""Fixtures of the panels: a panel made the way the window makes it, in either theme, and nothing left running."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from engine.recording.recording import Recording
from tests.factory import make_recording
from views.panel import Panel
from views.selection import Selection
from views.theme import DARK, LIGHT, Theme
from views.tuning_model import TuningModel

P = TypeVar("P", bound=Panel)
MakePanel = Callable[..., Panel]


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert not left, f"threads left behind: {left}"


@pytest.fixture(params=[DARK, LIGHT], ids=lambda theme: theme.name)
def theme(request: pytest.FixtureRequest) -> Theme:
    """Both themes, one after the other."""
    return request.param


@pytest.fixture
def recording() -> Recording:
    """50 tokens of an 8 × 16 model in two requests."""
    return make_recording()


@pytest.fixture
def make_panel(qtbot) -> MakePanel:
    """``make_panel(GridPanel, recording, theme=LIGHT, size=(560, 300), settings=…)``: shown, laid out and refreshed."""
    made: list[Panel] = []  # qtbot holds widgets weakly: one that is forgotten may be collected in the midst of its own painting

    def make(
        kind: type[P],
        recording: Recording | None = None,
        *,
        theme: Theme = DARK,
        size: tuple[int, int] = (560, 300),
        settings: TuningModel | None = None,
        selection: Selection | None = None,
    ) -> P:
        panel = kind(recording if recording is not None else Recording(), selection or Selection(), settings or TuningModel(), theme)
        made.append(panel)
        qtbot.addWidget(panel)
        panel.resize(*size)
        panel.show()
        qtbot.waitExposed(panel)
        return panel

    return make
