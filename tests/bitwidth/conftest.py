"""The demo model and the project's own files as text: enough works to learn from some and verify on others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from app.demo import demo_model_path
from engine.bitwidth.blocks import Texts, texts_of
from engine.models.skeleton import Skeleton, load_skeleton
from engine.store import Store, open_or_convert

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def store() -> Store:
    return open_or_convert(demo_model_path())


@pytest.fixture(scope="session")
def skeleton(store: Store) -> Skeleton:
    return load_skeleton(store, torch.float32)


@pytest.fixture(scope="session")
def works() -> list[str]:
    return [path.read_text() for path in sorted((ROOT / "engine").rglob("*.py")) if path.stat().st_size > 2000]


@pytest.fixture(scope="session")
def texts(skeleton: Skeleton, works: list[str]) -> Texts:
    return texts_of(skeleton.tokenizer, [works], 1024, 1024)


@pytest.fixture(autouse=True)
def computed_by_one(one_thread: None) -> None:
    """Models this small are computed fastest, and repeatably, by one thread."""
