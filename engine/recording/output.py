"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from engine.errors import EngineError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of ``path`` when all of it has reached the disk; until then nothing there changes.

    Raises:
        EngineError: it cannot be written.
    """
    part = part_of(path)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Tell before long work what would only come out after it.

    Raises:
        EngineError: ``path`` is a folder, or in none that can be written.
    """
    if path.is_dir():
        raise _refused(path, "it is a folder")
    if not path.parent.is_dir():
        raise _refused(path, f"there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise _refused(path, f"{path.parent} is not writable")


def part_of(path: Path) -> Path:
    """Where ``path`` is while it grows."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _refused(path: Path, reason: str) -> EngineError:
    return EngineError(f"{path} cannot be written ({reason}); choose another place")
