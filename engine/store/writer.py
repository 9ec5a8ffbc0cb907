"""Converting a checkpoint into a store, one expert in memory at a time.

E experts, W widths.
"""

from __future__ import annotations

import contextlib
import filecmp
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
import xxhash

from engine.errors import Cancelled, EngineError
from engine.models.build import build, read_config, spec_of
from engine.models.spec import ExpertSpec
from engine.quant import Codec, Feedback, codec_named
from engine.store.checkpoint import Checkpoint
from engine.store.format import CHECKSUMS, MANIFEST, SKELETON, VERSION, WIDTHS, Layout, Manifest, is_store, layout_of
from engine.store.mapping import Mapping
from engine.store.partial import Partial, disk_errors
from engine.store.reader import Store
from engine.store.record import encode
from engine.store.skeleton_file import skeleton_bytes, write_skeleton

DEFAULT_WIDTHS = (2, 3, 4, 8, 16)
_COMPANIONS = (
    "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*",
    "merges.txt", "*.model", "*.tiktoken", "chat_template*",
)  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """How far a conversion is: in ``stage``, ``done`` of ``total`` bytes written (or checked)."""

    stage: str  # "Checking what is there", "Converting experts", "Verifying", "Converting other weights"
    done: int
    total: int


ProgressCallback = Callable[[Progress], None]
CancelCallback = Callable[[], bool]


def convert(
    source: Path, target: Path, widths: tuple[int, ...] = DEFAULT_WIDTHS, quantizer: str = "default",
    progress: ProgressCallback | None = None, cancel: CancelCallback | None = None, verify: bool = False,
) -> Store:  # fmt: skip
    """Convert the safetensors checkpoint in ``source`` into a store at ``target``, and open it.

    Works in ``target``.partial and renames it when all is there; a conversion that was interrupted, cancelled or ran out of
    disk continues where it was when called again. ``verify`` reads every record back from disk. A store of the same model
    with these widths is opened as it is.

    Raises:
        EngineError: the checkpoint or the target cannot be used; the line says which and what to do.
        Cancelled: ``cancel`` said so.
    """
    source, target = Path(source), Path(target)
    widths = checked_widths(widths)
    codec = codec_named(quantizer)
    if isinstance(codec, Feedback):
        raise EngineError(f"Quantizer {codec.name} listens to text; give some with --text")
    with Checkpoint.open(source) as checkpoint:
        config = read_config(source)
        if getattr(config, "quantization_config", None) is not None:
            raise EngineError(f"{source} is quantized already; get the 16-bit version of the model, and its experts are quantized here")
        model_hash = checkpoint.model_hash()
        finished = _existing(target, model_hash, widths, codec)
        if finished is not None:
            copy_companions(source, target)
            return finished
        model = build(config, torch.bfloat16)
        spec = spec_of(model)
        job = _Job(source, target, checkpoint, Mapping(checkpoint, model, spec), spec, codec, widths, model_hash, progress, cancel)
        with disk_errors(target), one_thread():
            job.run(verify)
    return Store.open(target)


class _Job:
    """One conversion, its stages in order."""

    def __init__(
        self, source: Path, target: Path, checkpoint: Checkpoint, mapping: Mapping, spec: ExpertSpec, codec: Codec,
        widths: tuple[int, ...], model_hash: str, progress: ProgressCallback | None, cancel: CancelCallback | None,
    ) -> None:  # fmt: skip
        self.source, self.target, self.mapping, self.spec = source, target, mapping, spec
        self.codec, self.widths, self.model_hash = codec, widths, model_hash
        # A float32 checkpoint is stored as bfloat16: same range, and what such models are run in.
        self.values = torch.float16 if mapping.expert_dtype() == torch.float16 else torch.bfloat16
        self.layouts: dict[int, Layout] = {bits: layout_of(spec, bits, codec, self.values) for bits in widths}
        self.expert_bytes = sum(layout.nbytes for layout in self.layouts.values())
        self._progress, self._cancel = progress, cancel
        self._done, self._total, self._stage = 0, 1, ""

    def run(self, verify: bool) -> None:
        count = self.spec.layers * self.spec.experts
        identity: dict[str, object] = {
            "version": VERSION, "model": self.model_hash, "widths": list(self.widths), "quantizer": self.codec.name,
        }  # fmt: skip
        self.target.parent.mkdir(parents=True, exist_ok=True)
        sizes = {bits: layout.nbytes for bits, layout in self.layouts.items()}
        with Partial(self.target, sizes, identity) as partial:
            if self.target.exists():  # another process has finished it since we looked
                partial.discard()
                return
            self._enter("Checking what is there", count * self.expert_bytes)
            partial.recover(self._step)
            self._check_space((count - partial.done) * self.expert_bytes + skeleton_bytes(self.mapping.skeleton))
            self._enter("Converting experts", count * self.expert_bytes, partial.done * self.expert_bytes)
            for index in range(partial.done, count):
                partial.append(self._records(*divmod(index, self.spec.experts)))
                self._step(self.expert_bytes)
            if verify:
                self._verify(partial, count)
            self._enter("Converting other weights", skeleton_bytes(self.mapping.skeleton))
            write_skeleton(partial.path / SKELETON, self.mapping.skeleton, self.mapping.values(), self._step)
            self._write_manifest(partial)
            partial.publish(self.target)

    def _records(self, layer: int, expert: int) -> dict[int, bytearray]:
        parts = self.mapping.expert(layer, expert)
        try:
            return {bits: encode(parts, layout, self.codec) for bits, layout in self.layouts.items()}
        except ValueError as error:
            raise EngineError(f"Expert {expert} of layer {layer} has {error}; the checkpoint is damaged, download it again") from error

    def _verify(self, partial: Partial, count: int) -> None:
        self._enter("Verifying", count * self.expert_bytes)
        sums = partial.checksums()
        for index in range(count):
            for place, bits in enumerate(self.widths):
                at = 8 * (index * len(self.widths) + place)
                if xxhash.xxh3_64_digest(partial.read(bits, index))[::-1] != sums[at : at + 8]:
                    raise EngineError(f"{self.target} did not read back as it was written: the disk is failing; choose another")
            self._step(self.expert_bytes)

    def _write_manifest(self, partial: Partial) -> None:
        copy_companions(self.source, partial.path)
        manifest = Manifest(
            name=self.source.resolve().name, model_hash=self.model_hash, quantizer=self.codec.name,
            value_dtype=str(self.values).removeprefix("torch."), widths=self.widths,
            record_bytes=tuple(layout.nbytes for layout in self.layouts.values()),
            skeleton_bytes=skeleton_bytes(self.mapping.skeleton),
            checksums=xxhash.xxh3_64_hexdigest((partial.path / CHECKSUMS).read_bytes()), spec=self.spec,
        )  # fmt: skip
        (partial.path / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.target.parent).free
        if free < needed:
            raise EngineError(
                f"{self.target} needs {needed / 1e6:,.1f} MB more and {free / 1e6:,.1f} MB are free; "
                "free some, give another folder, or convert to fewer widths with --bits"
            )

    def _enter(self, stage: str, total: int, done: int = 0) -> None:
        self._stage, self._total, self._done = stage, total, done
        self._step(0)

    def _step(self, nbytes: int) -> None:
        self._done += nbytes
        if self._progress:
            self._progress(Progress(self._stage, self._done, self._total))
        if self._cancel and self._cancel():
            raise Cancelled(f"Conversion stopped; convert to {self.target} again and it continues where it was")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """The work is thousands of short operations: on shared cores, torch's thread pool made them twenty times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def copy_companions(source: Path, target: Path) -> None:
    """Copy configuration and tokenizer where they differ: they may be mended after the weights were converted."""
    files = [file for pattern in _COMPANIONS for file in source.glob(pattern)]
    with disk_errors(target):
        for file in files:
            copy = target / file.name
            if not file.is_file() or file.suffix in (".safetensors", ".bin") or (copy.is_file() and filecmp.cmp(file, copy, shallow=False)):
                continue
            part = copy.with_name(copy.name + ".part")  # whoever opens the store meanwhile reads the old or the new, never a half
            shutil.copyfile(file, part)
            part.replace(copy)


def checked_widths(widths: tuple[int, ...]) -> tuple[int, ...]:
    wrong = [bits for bits in widths if bits not in WIDTHS]
    if wrong or not widths:
        raise EngineError(f"{wrong[0] if wrong else 'No width'} is not a width to store experts at; choose from 2, 3, 4, 8 and 16 bits")
    return tuple(sorted(set(widths)))


def _existing(target: Path, model_hash: str, widths: tuple[int, ...], codec: Codec) -> Store | None:
    """The store at ``target`` where it is just what was asked for; None where there is nothing."""
    if not target.exists():
        return None
    if not is_store(target):
        if target.is_dir() and not any(target.iterdir()):
            target.rmdir()
            return None
        raise EngineError(f"{target} exists and is no expert store; give a folder that does not exist yet")
    store = Store.open(target)
    if store.model_hash != model_hash:
        raise EngineError(f"{target} is the store of another model ({store.name}); give another folder")
    if not set(widths) <= set(store.widths) or store.quantizer != codec.name:
        has = ", ".join(map(str, store.widths))
        raise EngineError(f"{target} holds this model at {has} bits by {store.quantizer}; delete it or give another folder")
    return store
