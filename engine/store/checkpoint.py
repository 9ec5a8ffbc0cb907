"""A safetensors checkpoint on disk, read by byte ranges: nothing is mapped, nothing stays in memory but what was asked for."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor

from engine.errors import EngineError

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_HEADER_LIMIT = 100 << 20  # the format's own limit
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_HASHED_TENSORS, _HASHED_BYTES = 2048, 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: a stretch of one shard."""

    file: Path
    offset: int
    nbytes: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class Checkpoint:
    """The tensors of a checkpoint folder by name. Use as a context manager, or ``close`` it."""

    def __init__(self, path: Path, entries: dict[str, Entry]) -> None:
        self.path = path
        self.entries = entries
        self._files: dict[Path, int] = {}

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Read the headers of every shard in the folder ``path``.

        Raises:
            EngineError: no such folder, no safetensors in it, or a shard that is missing, truncated or foreign.
        """
        if not path.is_dir():
            raise EngineError(f"There is no folder {path}; give the folder of a model downloaded from Hugging Face, or \"demo\"")
        entries: dict[str, Entry] = {}
        for shard in _shards(path):
            entries.update(_read_header(shard))
        if not entries:
            raise EngineError(f"The safetensors files in {path} hold no tensors; download the model again")
        return cls(path, entries)

    def read(self, name: str, rows: slice | None = None) -> Tensor:
        """The tensor ``name``, or only ``rows`` of its first dimension, read from disk into memory of its own.

        Raises:
            EngineError: the shard ended before the tensor did.
        """
        entry = self.entries[name]
        shape, offset, nbytes = entry.shape, entry.offset, entry.nbytes
        if rows is not None:
            start, stop, _ = rows.indices(shape[0])
            row = nbytes // shape[0]
            shape, offset, nbytes = (stop - start, *shape[1:]), offset + start * row, (stop - start) * row
        if nbytes == 0:
            return torch.empty(shape, dtype=entry.dtype)
        data = bytearray(nbytes)
        self._fill(entry.file, offset, memoryview(data))
        return torch.frombuffer(data, dtype=entry.dtype).view(shape)

    def meta(self, name: str) -> Tensor:
        """The tensor ``name`` without its values."""
        entry = self.entries[name]
        return torch.empty(entry.shape, dtype=entry.dtype, device="meta")

    def model_hash(self) -> str:
        """What this model is: a hash of its configuration, its tensors' names and shapes, and samples of their values.

        Up to 2,048 tensors, evenly over the sorted names, give 4 KiB of their middle each: seconds also for a model of
        hundreds of gigabytes, the same however it is sharded, and different after any fine-tuning.
        """
        digest = xxhash.xxh3_128()
        config = json.loads((self.path / "config.json").read_bytes())
        for volatile in ("transformers_version", "_name_or_path"):
            config.pop(volatile, None)
        digest.update(json.dumps(config, sort_keys=True).encode())
        names = sorted(self.entries)
        for name in names:
            entry = self.entries[name]
            digest.update(f"{name}{entry.dtype}{entry.shape}".encode())
        for name in names[:: max(1, math.ceil(len(names) / _HASHED_TENSORS))]:
            entry = self.entries[name]
            length = min(_HASHED_BYTES, entry.nbytes)
            sample = bytearray(length)
            self._fill(entry.file, entry.offset + (entry.nbytes - length) // 2, memoryview(sample))
            digest.update(sample)
        return digest.hexdigest()

    def _fill(self, file: Path, offset: int, target: memoryview) -> None:
        handle = self._files.get(file)
        if handle is None:
            handle = self._files[file] = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        done = 0
        while done < len(target):
            os.lseek(handle, offset + done, os.SEEK_SET)
            chunk = os.read(handle, min(len(target) - done, 64 << 20))
            if not chunk:
                raise EngineError(f"{file.name} ends before its tensors do; download that file again")
            target[done : done + len(chunk)] = chunk
            done += len(chunk)

    def close(self) -> None:
        for handle in self._files.values():
            os.close(handle)
        self._files.clear()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _shards(path: Path) -> list[Path]:
    index = path / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError):
            raise EngineError(f"{index.name} in {path} is not a readable shard index; download that file again") from None
        shards = [path / Path(name).name for name in names]
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise EngineError(f"{missing[0]}{more} missing from {path}; complete the download, then try again")
        return shards
    shards = sorted(path.glob("*.safetensors"))
    if (path / "model.safetensors") in shards:
        return [path / "model.safetensors"]
    if not shards:
        pickled = next((file.name for file in sorted(path.iterdir()) if file.suffix in _PICKLES), None)
        if pickled:
            raise EngineError(
                f"{path} has its weights only as pickle ({pickled}), which can run code and is never opened; "
                "get the model's safetensors files instead"
            )
        raise EngineError(f"{path} holds no safetensors weights; give the folder of a model downloaded from Hugging Face")
    return shards


def _read_header(shard: Path) -> dict[str, Entry]:
    size = shard.stat().st_size
    with shard.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > _HEADER_LIMIT:
            raise EngineError(f"{shard.name} is not a safetensors file; download that file again")
        if size < 8 + length:
            raise EngineError(f"{shard.name} is cut short within its header; download that file again")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            entries = {name: _entry(shard, 8 + length, name, about) for name, about in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise EngineError(f"{shard.name} is not a readable safetensors file; download that file again") from None
    end = max((entry.offset + entry.nbytes for entry in entries.values()), default=0)
    if end > size:
        raise EngineError(f"{shard.name} is cut short: {size:,} of {end:,} bytes are there; download that file again")
    return entries


def _entry(shard: Path, base: int, name: str, about: dict[str, Any]) -> Entry:
    kind, shape = about["dtype"], tuple(about["shape"])
    start, stop = about["data_offsets"]
    dtype = _DTYPES.get(kind)
    if dtype is None:
        raise EngineError(f"{shard.name}: tensor {name} is of type {kind}, which is not supported; get a 16-bit version of the model")
    if math.prod(shape) * dtype.itemsize != stop - start or start < 0:
        raise ValueError(name)
    return Entry(shard, base + start, stop - start, dtype, shape)
