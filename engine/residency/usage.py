"""How often each expert of a model was used, remembered between sessions so that the next begins with the most used in memory.

S MoE layers, E experts a layer; an expert's number is layer · E + expert.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from engine.events import ACCESS, Batch, Finished, Message
from engine.store import Store
from engine.store.catalog import cache_folder

SHIPPED = "usage.json"
"""In a model's folder: counts to begin with, until there are the user's own."""
MEMORY = 10_000
"""Uses a layer that are remembered: beyond, all counts shrink, so that what is long past fades. Short, since the next request is more like
the last ones than like all."""
_FORMAT = "edgemoe-usage"
_MOST_BYTES = 16 << 20  # of a file: far more than any model's counts need


class _File(msgspec.Struct):
    format: str
    model_hash: str
    counts: list[list[float]]  # [S][E]


class Usage:
    """``counts`` [S · E], one for each token that was routed to the expert. Hears the session's notices, and is kept when requests end."""

    def __init__(self, path: Path, model_hash: str, layers: int, experts: int) -> None:
        self.path, self.model_hash, self.shape = path, model_hash, (layers, experts)
        self.counts: npt.NDArray[np.float64] = np.zeros(layers * experts)

    @classmethod
    def open(cls, store: Store, model: Path) -> Usage:
        """What was counted of the store's model so far; of a model that was never run what its folder ``model`` ships.

        A file that cannot be used is left out with one line on stderr, and written anew when the next request ends.
        """
        spec = store.spec
        usage = cls(cache_folder() / "usage" / f"{store.model_hash}.json", store.model_hash, spec.layers, spec.experts)
        if not usage.read(usage.path):
            usage.read(model / SHIPPED)
        return usage

    def order(self) -> list[int]:
        """Every expert ever used, the most used first, equals by number."""
        order = np.argsort(-self.counts, kind="stable")
        return order[: np.count_nonzero(self.counts)].tolist()  # type: ignore[no-any-return]

    def odds(self, top_k: int) -> npt.NDArray[np.float64]:
        """How likely a token uses each expert, [S · E], 0 to 1, where each uses ``top_k`` a layer."""
        counts = self.counts.reshape(self.shape)
        odds: npt.NDArray[np.float64] = top_k * counts / np.maximum(1.0, counts.sum(axis=1, keepdims=True))
        return np.minimum(1.0, odds).reshape(-1)

    def hear(self, notice: Message) -> None:
        """Count what a batch tells of uses; keep the counts when a request ends."""
        if isinstance(notice, Batch) and "accesses" in notice.tables:
            self.add(np.frombuffer(notice.tables["accesses"], ACCESS))
        elif isinstance(notice, Finished):
            self.save()

    def add(self, rows: np.ndarray) -> None:
        """Count some rows of ``accesses``."""
        np.add.at(self.counts, rows["layer"].astype(np.int64) * self.shape[1] + rows["expert"], rows["tokens"])
        most = float(self.counts.sum()) / self.shape[0]
        if most > MEMORY:
            self.counts *= MEMORY / most

    def save(self) -> None:
        """Write the file, whole or not at all. A folder that cannot be written costs the memory, not the request."""
        content = _File(_FORMAT, self.model_hash, self.counts.reshape(self.shape).round(2).tolist())
        partial = self.path.with_suffix(f".{os.getpid()}.part")
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=0) + b"\n")
            partial.replace(self.path)

    def read(self, path: Path) -> bool:
        """Take over a file's counts; whether there are any that can be used."""
        if not path.is_file():
            return False
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError
            content = msgspec.json.decode(path.read_bytes(), type=_File)
            counts = np.array(content.counts, dtype=np.float64)
            if (content.format, content.model_hash, counts.shape) != (_FORMAT, self.model_hash, self.shape):
                raise ValueError
            if not (np.isfinite(counts) & (counts >= 0)).all():
                raise ValueError
        except (OSError, ValueError, msgspec.MsgspecError):
            print(f"{path} does not tell how often this model's experts were used, and is left out", file=sys.stderr)
            return False
        self.counts = counts.reshape(-1)
        return True
