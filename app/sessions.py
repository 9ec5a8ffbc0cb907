"""Where sessions are recorded while they run, so that none is lost: a folder of the newest ones."""

from __future__ import annotations

import contextlib
import datetime
import re
from pathlib import Path

import platformdirs

SUFFIX = ".edgemoe"
KEEP = 20
KEEP_BYTES = 2 << 30


def folder() -> Path:
    return platformdirs.user_data_path("edgemoe-studio", appauthor=False) / "sessions"


def new_path(model: str, into: Path | None = None) -> Path:
    """A file of this moment and model that is not there yet; makes the folder.

    Raises:
        OSError: the folder cannot be made.
    """
    into = into or folder()
    into.mkdir(parents=True, exist_ok=True)
    moment = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    stem = f"{moment}-{re.sub(r'[^A-Za-z0-9.]+', '-', model).strip('-') or 'session'}"
    path, number = into / f"{stem}{SUFFIX}", 2
    while path.exists():
        path, number = into / f"{stem}-{number}{SUFFIX}", number + 1
    return path


def prune(inside: Path | None = None, keep: int = KEEP, keep_bytes: int = KEEP_BYTES) -> list[Path]:
    """Delete the oldest automatic recordings beyond ``keep`` files or ``keep_bytes``; returns what went."""
    files = sorted((inside or folder()).glob(f"*{SUFFIX}"), reverse=True)
    gone, total = [], 0
    for index, path in enumerate(files):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
            if index >= keep or (total > keep_bytes and index > 0):
                path.unlink()
                gone.append(path)
    return gone
