"""Reading a store: where each record lies, whether it is sound, and its bytes as weights.

S MoE layers, E experts, W widths.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor
from typing_extensions import Buffer

from engine.errors import EngineError
from engine.models.spec import ExpertSpec
from engine.quant import ExpertWeights, codec_named
from engine.store import record
from engine.store.format import (
    BLOCK,
    CHECKSUMS,
    FORMAT,
    MANIFEST,
    SKELETON,
    VALUE_DTYPES,
    VERSION,
    Layout,
    Manifest,
    experts_file,
    layout_of,
)


class Record(NamedTuple):
    """Where one expert lies at one width: ``nbytes`` at ``offset`` of ``file``, both multiples of 4 KiB."""

    file: Path
    offset: int
    nbytes: int
    checksum: int


class Store:
    """An opened store. It holds no file open; it says where weights are. ``digest`` is of all its records."""

    def __init__(self, path: Path, manifest: Manifest, checksums: npt.NDArray[np.uint64]) -> None:
        self.path = path
        self.spec: ExpertSpec = manifest.spec
        self.widths = manifest.widths
        self.quantizer = manifest.quantizer
        self.model_hash = manifest.model_hash
        self.name = manifest.name
        self.skeleton_bytes = manifest.skeleton_bytes
        self.digest = manifest.checksums
        self._checksums = {bits: checksums[:, :, i].reshape(-1) for i, bits in enumerate(manifest.widths)}
        codec, values = codec_named(manifest.quantizer), VALUE_DTYPES[manifest.value_dtype]
        self._layouts = {bits: layout_of(self.spec, bits, codec, values) for bits in manifest.widths}
        self._files = {bits: path / experts_file(bits) for bits in manifest.widths}

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the store in the folder ``path``, checking that it is whole.

        Raises:
            EngineError: no store, one of another version, or files missing or of the wrong size.
        """
        manifest = _manifest(path)
        spec, shape = manifest.spec, (manifest.spec.layers, manifest.spec.experts, len(manifest.widths))
        for bits, nbytes in zip(manifest.widths, manifest.record_bytes, strict=True):
            _check_size(path / experts_file(bits), spec.layers * spec.experts * nbytes)
        _check_size(path / SKELETON, None)
        sums = path / CHECKSUMS
        _check_size(sums, 8 * shape[0] * shape[1] * shape[2])
        raw = sums.read_bytes()
        if xxhash.xxh3_64_hexdigest(raw) != manifest.checksums:
            raise EngineError(f"{sums} is damaged; delete the store and convert the model again")
        store = cls(path, manifest, np.frombuffer(raw, dtype="<u8").reshape(shape))
        if any(store.record_bytes(bits) != n for bits, n in zip(manifest.widths, manifest.record_bytes, strict=True)):
            raise EngineError(f"{path / MANIFEST} contradicts itself about the size of a record; convert the model again")
        return store

    def record(self, layer: int, expert: int, bits: int) -> Record:
        """Where expert ``expert`` of MoE layer ``layer`` lies at width ``bits``.

        Raises:
            EngineError: the store has no such width.
        """
        nbytes, index = self.record_bytes(bits), layer * self.spec.experts + expert
        return Record(self._files[bits], index * nbytes, nbytes, int(self._checksums[bits][index]))

    def checksums(self, bits: int) -> npt.NDArray[np.uint64]:
        """The checksum of every record at width ``bits``, [S · E]."""
        return self._checksums[bits]

    def record_bytes(self, bits: int) -> int:
        """The size of every record at width ``bits``, a multiple of 4 KiB."""
        try:
            return self._layouts[bits].nbytes
        except KeyError:
            has = ", ".join(map(str, self.widths))
            raise EngineError(f"{self.name} is stored at {has} bits, not at {bits}; choose one of these or convert it again") from None

    def layout(self, bits: int) -> Layout:
        """How the sections of a record at width ``bits`` lie."""
        return self._layouts[bits]

    def checksum_ok(self, layer: int, expert: int, bits: int, buffer: Buffer) -> bool:
        """Whether ``buffer``, the whole record as read, is what was written."""
        return xxhash.xxh3_64_intdigest(buffer) == self.record(layer, expert, bits).checksum

    def load(self, layer: int, expert: int, bits: int) -> ExpertWeights:
        """Read one expert, through the page cache: for work that is done once, not for running.

        Raises:
            EngineError: the record is damaged.
        """
        record = self.record(layer, expert, bits)
        with record.file.open("rb") as file:
            file.seek(record.offset)
            data = bytearray(file.read(record.nbytes))
        if len(data) != record.nbytes or not self.checksum_ok(layer, expert, bits, data):
            raise EngineError(f"Expert {expert} of layer {layer} is damaged in {record.file}; delete the store and convert the model again")
        return self.unpack(torch.frombuffer(data, dtype=torch.uint8), bits)

    def unpack(self, buffer: Tensor, bits: int) -> ExpertWeights:
        """The weights in a record's bytes, uint8 [record_bytes]: views only, valid while the buffer keeps the record."""
        return record.decode(buffer, self._layouts[bits])


def version_of(path: Path) -> int:
    """The version of the store in ``path``; 0 where its manifest tells none."""
    try:
        about = msgspec.json.decode((path / MANIFEST).read_bytes(), type=dict[str, object])
    except (OSError, msgspec.DecodeError):
        return 0
    version = about.get("version")
    return version if isinstance(version, int) else 0


def _manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    if not path.is_dir():
        raise EngineError(f"There is no folder {path}; give a store made by `convert`, a checkpoint folder, or \"demo\"")
    if not file.is_file():
        raise EngineError(f"{path} is not an expert store (it has no {MANIFEST}); make one with `convert MODEL STORE`")
    try:
        raw = file.read_bytes()
        about = msgspec.json.decode(raw, type=dict[str, object])
    except (OSError, msgspec.DecodeError):
        raise EngineError(f"{file} cannot be read; delete the store and convert the model again") from None
    if about.get("format") != FORMAT:
        raise EngineError(f"{file} is not the manifest of an expert store; give a store made by `convert`")
    if about.get("version") != VERSION:
        raise EngineError(
            f"{path} is a store of version {about.get('version')}, this program reads version {VERSION}; convert the model again"
        )
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except msgspec.ValidationError as error:
        raise EngineError(f"{file} is damaged ({error}); delete the store and convert the model again") from None
    if manifest.value_dtype not in VALUE_DTYPES or len(manifest.widths) != len(manifest.record_bytes):
        raise EngineError(f"{file} is damaged; delete the store and convert the model again")
    return manifest


def _check_size(file: Path, expected: int | None) -> None:
    try:
        size = file.stat().st_size
    except OSError:
        raise EngineError(f"{file.name} is missing from the store {file.parent}; convert the model again") from None
    if expected is not None and size != expected:
        raise EngineError(f"{file} has {size:,} bytes instead of {expected:,}; delete the store and convert the model again")


__all__ = ["BLOCK", "Record", "Store", "version_of"]
