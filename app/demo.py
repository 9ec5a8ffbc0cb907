"""The model that comes with the program."""

from __future__ import annotations

from pathlib import Path

from engine.errors import EngineError

NAME = "demo"
PROJECT = Path(__file__).resolve().parent.parent


def demo_model_path() -> Path:
    """The demo model's checkpoint folder."""
    return PROJECT / "assets" / "demo" / "model"


def sample_text_path() -> Path:
    """Text to calibrate on where the user has none at hand: files of this program, as they once were."""
    return PROJECT / "assets" / "texts" / "sources.txt.gz"


def resolve_model(text: str) -> Path:
    """The folder that ``text`` means: the demo model for ``demo``, else the folder of that name.

    Raises:
        EngineError: there is no such folder.
    """
    if text == NAME:
        return demo_model_path()
    path = Path(text).expanduser()
    if not path.is_dir():
        raise EngineError(f"{path} is no folder; give the folder of a checkpoint or of a store, or {NAME}")
    return path.resolve()
