"""What the engine's benchmarks share: the demo model in its store, sessions of it, and requests run to their end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from app.demo import demo_model_path
from engine.session import Emit, Session
from engine.store import Store, open_or_convert
from profiles.devices import load_devices
from profiles.prompts import load_prompts

PROMPT = "Once upon a time"
_DEMO = demo_model_path()


def demo_store() -> Store:
    """The demo model's store in the user's cache, made if need be."""
    return open_or_convert(demo_model_path())


def prompts(kind: str, count: int) -> list[str]:
    """The first sample prompts of a kind."""
    return [prompt.text for prompt in load_prompts() if prompt.kind == kind][:count]


def open_session(
    store: Store, emit: Emit | None = None, recording: bool = True, model: Path | None = _DEMO, **values: Any
) -> Session:
    """A session that never stops early; of another store than the demo's, ``model`` is its checkpoint's folder, or None."""
    return Session(store, {"ignore_eos": True} | values, load_devices(), emit, recording, model)


def generate(session: Session, prompt: str = PROMPT) -> list[int]:
    """The new token ids of one request."""
    request = session.begin(prompt)
    while session.request is not None:
        session.step()
    return [int(token) for token in request.ids[0, request.prompt_length :]]
