"""What all tests share."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from pytestqt.qtbot import QtBot

if TYPE_CHECKING:
    from tests.models.pair import Pair

PATIENCE_MS = 30_000  # a machine that is busy with something else must not fail a test


@pytest.fixture
def qtbot(qtbot: QtBot) -> QtBot:
    """pytest-qt's, more patient where a test does not say otherwise."""
    qtbot.waitUntil = functools.partial(qtbot.waitUntil, timeout=PATIENCE_MS)
    return qtbot


@pytest.fixture(scope="session")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """A pair by its family and shape, each made once; not to be changed."""
    from tests.models.pair import load_pair

    made: dict[str, Pair] = {}

    def pair(family: str, shape: dict[str, Any]) -> Pair:
        key = f"{family} {json.dumps(shape, sort_keys=True)}"
        if key not in made:
            made[key] = load_pair(family, tmp_path_factory.mktemp(family), shape)
        return made[key]

    return pair


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """torch computes with one thread: models this small are computed fastest, and repeatably, so, and beside another test by far."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(1)
    yield
    if torch:
        torch.set_num_threads(before)
