"""Models this small are computed fastest, and repeatably, by one thread."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def computed_by_one(one_thread: None) -> None:
    """Models this small are computed fastest, and repeatably, by one thread."""
