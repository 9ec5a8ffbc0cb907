"""Where a user's stores are kept, and opening a model whether it is a store already or still a checkpoint."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import platformdirs

from engine.quant import codec_named
from engine.store.checkpoint import Checkpoint
from engine.store.format import VERSION, is_store
from engine.store.reader import Store, version_of
from engine.store.writer import DEFAULT_WIDTHS, CancelCallback, ProgressCallback, convert


def cache_folder() -> Path:
    """What can be made anew is kept here: stores, and how often experts were used."""
    return Path(platformdirs.user_cache_dir("edgemoe-studio", appauthor=False))


def default_store_path(checkpoint: Path, quantizer: str = "default") -> Path:
    """Where the store of ``checkpoint`` belongs: in the user's cache, under its name and what it holds.

    Raises:
        EngineError: ``checkpoint`` is no readable checkpoint.
    """
    with Checkpoint.open(checkpoint) as opened:
        digest = opened.model_hash()
    name = re.sub(r"[^A-Za-z0-9._-]", "-", checkpoint.resolve().name)
    return cache_folder() / "stores" / f"{name}-{digest[:16]}-{codec_named(quantizer).name}"


def open_or_convert(
    path: Path, widths: tuple[int, ...] = DEFAULT_WIDTHS, quantizer: str = "default",
    progress: ProgressCallback | None = None, cancel: CancelCallback | None = None,
) -> Store:  # fmt: skip
    """Open the store at ``path``; a checkpoint there is converted into the cache at first use, and found there ever after.

    Raises:
        EngineError: ``path`` is neither, or cannot be converted.
        Cancelled: ``cancel`` said so.
    """
    path = Path(path)
    if is_store(path):
        return Store.open(path)
    target = default_store_path(path, quantizer)
    if is_store(target) and (version_of(target) < VERSION or not set(widths) <= set(Store.open(target).widths)):
        shutil.rmtree(target)  # ours, in the cache, and made again from the checkpoint
    return convert(path, target, widths, quantizer, progress, cancel)
