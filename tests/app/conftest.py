"""Fixtures of the window: a scripted engine, private folders, and nothing left running."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from engine.events import Notice

SCRIPTED = (sys.executable, str(Path(__file__).with_name("scripted_worker.py")))


@pytest.fixture(autouse=True)
def _private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration and sessions of the tests stay out of the user's."""
    for name in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before and thread.name.startswith("engine-")]
    assert not left, f"threads left behind: {left}"


@pytest.fixture
def gather(qtbot) -> Callable[..., list[Notice]]:
    """Drain a host until a notice of the kind has come; returns all that came."""

    def until(host, kind: type, timeout: int = 5000) -> list[Notice]:
        got: list[Notice] = []

        def arrived() -> bool:
            got.extend(host.drain())
            return any(isinstance(notice, kind) for notice in got)

        qtbot.waitUntil(arrived, timeout=timeout)
        return got

    return until
