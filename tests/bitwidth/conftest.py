"""The demo model, and files of this project as they once were: text that stays, of enough works to learn from some and verify on others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from app.demo import demo_model_path, sample_text_path
from engine.bitwidth.blocks import Texts, texts_of
from engine.bitwidth.notebook import Notebook
from engine.corpus import read_documents
from engine.models.skeleton import Skeleton, load_skeleton
from engine.store import Store, open_or_convert


@pytest.fixture(scope="session")
def store() -> Store:
    return open_or_convert(demo_model_path())


@pytest.fixture(scope="session")
def skeleton(store: Store) -> Skeleton:
    return load_skeleton(store, torch.float32)


@pytest.fixture(scope="session")
def works() -> list[str]:
    return read_documents(sample_text_path())


@pytest.fixture(scope="session")
def texts(skeleton: Skeleton, works: list[str]) -> Texts:
    return texts_of(skeleton.tokenizer, [works], 1024, 1024)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's cache, whose calibrations have what tests found out of ``texts`` before; whoever comes first measures."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def notebook(kept: Path, store: Store, texts: Texts) -> Notebook:
    """Of ``texts``, in the cache."""
    return Notebook(store, texts.digest, kept / "calibration")
