"""Routing in files: .npz, Parquet in moe-policylang's columns, and the sessions recorded here.

An ``.npz`` holds ``experts`` [T, S, k], whole numbers, and ``lengths`` [R]; without, it is one request. Optional: ``expert_count`` (E),
``prefill`` [P, 4], ``weights`` [T, S, k] and ``softmax`` [T, S, E], all as ``Routing`` says.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from engine.errors import EngineError
from engine.recording.output import whole_file
from engine.recording.recording import Recording
from engine.simulate.live import routing_of
from engine.simulate.parquet import read_parquet, write_parquet
from engine.simulate.routing import Routing, checked

_KINDS = "a routing trace is an .npz with experts and lengths, a .parquet in moe-policylang's columns, or a session recorded here"
_BROKEN = (OSError, ValueError, KeyError, EOFError, MemoryError, BadZipFile, zlib.error, NotImplementedError, SyntaxError)


def is_session(path: Path) -> bool:
    """Whether a file is to be read as a session: it is neither .npz nor Parquet.

    Raises:
        EngineError: it cannot be opened.
    """
    return not _head(path).startswith((b"PK", b"PAR1"))


def read_routing(path: Path, expert_count: int | None = None) -> Routing:
    """The routing in a file, told apart by its first bytes. ``expert_count``: the model's E, where the file does not tell.

    Raises:
        EngineError: the file is none, damaged, or contradicts itself; nothing in it is ever executed.
    """
    head = _head(path)
    if head[:2] == b"PK":
        return _read_npz(path, expert_count)
    if head == b"PAR1":
        return read_parquet(path, expert_count)
    return _read_session(path)


def write_routing(routing: Routing, path: Path) -> int:
    """Write to ``.npz`` or ``.parquet``, by the name; returns the number of tokens (npz) or rows (Parquet).

    Raises:
        EngineError: another name, or the file cannot be written.
    """
    kinds: dict[str, Callable[[Routing, Path], int]] = {".npz": _write_npz, ".parquet": write_parquet}
    write = kinds.get(path.suffix.lower())
    if write is None:
        raise EngineError(f"{path.name} says no format of routing: let it end in .npz or .parquet")
    return write(routing, path)


def export_routing(recording: Recording, path: Path, report: object = None) -> int:
    """Write what a recording's routers chose; returns the number of tokens or rows.

    Raises:
        EngineError: it has no decoded token, or the file cannot be written.
    """
    routing = routing_of(recording)
    if not routing.tokens:
        raise EngineError("This session has no decoded token, so that there is no routing to export; record a longer one")
    return write_routing(routing, path)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise EngineError(f"{path} cannot be opened: {error.strerror}") from None


def _read_npz(path: Path, expert_count: int | None) -> Routing:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:  # opened here: a damaged one would stay open
            arrays = {name: file[name] for name in ("experts", "lengths", "expert_count", "prefill", "weights", "softmax") if name in file}
    except _BROKEN as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise EngineError(f"{path} cannot be read as .npz ({reason}); it is damaged or no routing: copy or record it again") from None
    if "experts" not in arrays:
        raise EngineError(f"{path} has no array experts; {_KINDS}")
    told = arrays.pop("expert_count", None)
    if expert_count is None and told is not None:
        if told.dtype.kind not in "iu" or told.size != 1:
            raise EngineError(f"{path}: expert_count must be one whole number")
        expert_count = int(told.reshape(-1)[0])
    if "lengths" not in arrays:
        arrays["lengths"] = np.array(arrays["experts"].shape[:1], np.int64)
    return checked(str(path), expert_count=expert_count, **arrays)


def _write_npz(routing: Routing, path: Path) -> int:
    small = routing.expert_count <= 256 and int(routing.experts.min(initial=0)) >= 0
    arrays: dict[str, Any] = {
        "experts": routing.experts.astype(np.uint8) if small else routing.experts, "lengths": routing.lengths,
        "expert_count": np.array(routing.expert_count), "prefill": routing.prefill, "weights": routing.weights, "softmax": routing.softmax,
    }  # fmt: skip
    with whole_file(path) as file:
        np.savez_compressed(file, **{name: array for name, array in arrays.items() if array is not None})
    return routing.tokens


def open_session(path: Path) -> Recording:
    """A session to take routing from.

    Raises:
        EngineError: it is no session.
    """
    try:
        return Recording.open(path)
    except EngineError as error:
        raise EngineError(f"{path} is no routing: {_KINDS}" if "is no session" in str(error) else str(error)) from None


def _read_session(path: Path) -> Routing:
    recording = open_session(path)
    try:
        return routing_of(recording)
    finally:
        recording.close()


__all__ = ["Routing", "export_routing", "is_session", "open_session", "read_routing", "routing_of", "write_routing"]
