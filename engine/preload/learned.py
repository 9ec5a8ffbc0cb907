"""Finding, training and keeping the predictors of a model."""

from __future__ import annotations

from pathlib import Path as File

from engine.preload.path import Path
from engine.preload.predictor import Learned
from engine.preload.transition import Transition

KINDS: dict[str, type[Path] | type[Transition]] = {kind.name: kind for kind in (Path, Transition)}


def found(name: str, folders: list[File]) -> File | None:
    """The file of a predictor in the first folder that has one."""
    return next((folder / KINDS[name].file for folder in folders if (folder / KINDS[name].file).is_file()), None)


def load(name: str, folders: list[File], layers: int, experts: int, top_k: int) -> Learned | None:
    """The predictor of that name from the first folder that has one, or None.

    Raises:
        EngineError: it is damaged, or another model's.
    """
    file = found(name, folders)
    return KINDS[name].load(file, layers, experts, top_k) if file else None
