"""What all tests share."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from pytestqt.qtbot import QtBot

PATIENCE_MS = 30_000  # a machine that is busy with something else must not fail a test


@pytest.fixture
def qtbot(qtbot: QtBot) -> QtBot:
    """pytest-qt's, more patient where a test does not say otherwise."""
    qtbot.waitUntil = functools.partial(qtbot.waitUntil, timeout=PATIENCE_MS)
    return qtbot


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch computes with one thread for the length of a test."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
