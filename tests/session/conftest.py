"""A small random model in a store, for the token loop's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.events import Batch, Notice
from engine.preload.device import Device
from engine.session import Session
from engine.store import Store, convert
from tests.models.families import save_random

PROMPT = torch.tensor([[5, 9, 33, 3, 17, 60, 41, 8, 12, 25, 6, 50]])
SLOW = Device("slow", "A slow device", 40e6, 0.2e-3, 2)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """OLMoE's architecture, small and random, at all widths; its experts are large enough that widths differ in pages."""
    folder = tmp_path_factory.mktemp("store")
    save_random("Olmoe", folder / "model", shape={"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 4, "head_dim": 16})
    return convert(folder / "model", folder / "store")


class Open:
    """Makes sessions and closes them at the end; collects their notices."""

    def __init__(self, store: Store) -> None:
        self.store, self.sessions = store, list[Session]()
        self.notices: list[Notice] = []

    def __call__(self, **values: Any) -> Session:
        values = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 24} | values
        session = Session(self.store, values, {SLOW.name: SLOW}, self.notices.append)
        self.sessions.append(session)
        return session

    def rows(self, table: str) -> bytes:
        return b"".join(n.tables.get(table, b"") for n in self.notices if isinstance(n, Batch))


@pytest.fixture
def open_session(store: Store) -> Iterator[Open]:
    opener = Open(store)
    yield opener
    for session in opener.sessions:
        session.close()


Between = Callable[[Session, int], None]


def generate(session: Session, between: Between | None = None) -> list[int]:
    """The new token ids of one request, ``between(session, n)`` being called before every step."""
    request = session.begin_ids(PROMPT)
    while session.request is not None:
        if between:
            between(session, request.generated)
        session.step()
    return [int(token) for token in request.ids[0, PROMPT.shape[1] :]]


def damage(path: Path, offset: int) -> None:
    """Change one byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))
