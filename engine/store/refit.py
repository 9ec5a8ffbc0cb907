"""Converting again, by a quantizer that listens to text: what went into each expert's matrices decides how they are rounded.

B blocks, W tokens a block; T = B · W tokens, k experts a token, d hidden; S MoE layers, E experts a layer.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
import xxhash
from torch import Tensor

from engine.errors import Cancelled, EngineError
from engine.kernels import reference
from engine.quant import ExpertWeights, Feedback, Inputs
from engine.store.format import CHECKSUMS, MANIFEST, SKELETON, VALUE_DTYPES, Manifest, layout_of
from engine.store.partial import Partial, disk_errors
from engine.store.reader import Store
from engine.store.record import encode
from engine.store.writer import CancelCallback, Progress, ProgressCallback, checked_widths, copy_companions, one_thread

if TYPE_CHECKING:
    from engine.models.skeleton import Skeleton

_STAGE = "Converting experts"


def refit(
    skeleton: Skeleton, target: Path, blocks: Tensor, codec: Feedback, widths: tuple[int, ...],
    progress: ProgressCallback | None = None, cancel: CancelCallback | None = None,
) -> Store:  # fmt: skip
    """Make a store at ``target`` of the 16-bit experts of the skeleton's store, with text [B, W] to listen to.

    The text goes through the model once, all of it through a layer at a time, at 16 bits. What is there of an interrupted one is kept.

    Raises:
        EngineError: that store has no 16-bit records, or the target cannot be used.
        Cancelled: ``cancel`` said so.
    """
    source, widths = skeleton.store, checked_widths(widths)
    if 16 not in source.widths:
        raise EngineError(f"{source.name} is not stored at 16 bits; give the checkpoint, or a store with 16 bits among its widths")
    if target.exists():
        raise EngineError(f"{target} exists; give a folder that does not exist yet")
    with disk_errors(target), one_thread(), _Writing(source, target, codec, widths, blocks, progress, cancel) as writing:
        skeleton.bind(writing)
        with torch.inference_mode():
            skeleton.model.base_model(input_ids=blocks, use_cache=False)
        writing.finish()
    return Store.open(target)


class _Writing:
    """A runtime that writes each layer's records when the text comes by."""

    def __init__(
        self, source: Store, target: Path, codec: Feedback, widths: tuple[int, ...], blocks: Tensor,
        progress: ProgressCallback | None, cancel: CancelCallback | None,
    ) -> None:  # fmt: skip
        self.source, self.target, self.codec, self.widths = source, target, codec, widths
        self._progress, self._cancel = progress, cancel
        self.values = source.layout(16).parts[0].codes.dtype
        self.layouts = {bits: layout_of(source.spec, bits, codec, self.values) for bits in widths}
        self.text = xxhash.xxh3_64_hexdigest(blocks.numpy().tobytes())
        self._each = sum(layout.nbytes for layout in self.layouts.values())

    def __enter__(self) -> _Writing:
        identity: dict[str, object] = {
            "model": self.source.model_hash, "widths": list(self.widths), "quantizer": self.codec.name, "text": self.text,
            "source": self.source.digest,
        }  # fmt: skip
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._partial = Partial(self.target, {bits: layout.nbytes for bits, layout in self.layouts.items()}, identity)
        self._partial.recover(lambda nbytes: None)
        return self

    def __exit__(self, *_: object) -> None:
        self._partial.close()

    def forward(self, module: Any, layer: int, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """See ``interface.Runtime``; the outputs are those at 16 bits."""
        out = torch.zeros_like(hidden)
        for expert in range(self.source.spec.experts):
            exact = self.source.load(layer, expert, 16)
            tokens, place = torch.where(index == expert)
            x = hidden[tokens]
            middle = reference.inner(x, exact, module)
            self._write(layer, expert, exact, x, middle)
            if len(tokens):
                out.index_add_(0, tokens, reference.outer(middle, exact, module) * weights[tokens, place, None])
        return out

    def finish(self) -> None:
        """All layers were passed: make it a store."""
        path = self._partial.path
        shutil.copyfile(self.source.path / SKELETON, path / SKELETON)
        copy_companions(self.source.path, path)
        manifest = Manifest(
            name=self.source.name, model_hash=self.source.model_hash, quantizer=self.codec.name,
            value_dtype=next(name for name, dtype in VALUE_DTYPES.items() if dtype == self.values), widths=self.widths,
            record_bytes=tuple(layout.nbytes for layout in self.layouts.values()), skeleton_bytes=self.source.skeleton_bytes,
            checksums=xxhash.xxh3_64_hexdigest((path / CHECKSUMS).read_bytes()), spec=self.source.spec,
        )  # fmt: skip
        (path / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        self._partial.publish(self.target)

    def _write(self, layer: int, expert: int, exact: ExpertWeights, x: Tensor, middle: Tensor) -> None:
        if layer * self.source.spec.experts + expert >= self._partial.done:
            names = [part.name for part in self.source.spec.parts if part.quantized]
            biases = [part.name for part in self.source.spec.parts if not part.quantized]
            parts = dict(zip(names, (exact.up.codes, exact.down.codes), strict=True))
            parts |= {name: bias for name, bias in zip(biases, (exact.up_bias, exact.down_bias), strict=False) if bias is not None}
            inputs = {name: Inputs(x.T @ x) for name, x in zip(names, (x.double(), middle.double()), strict=True)} if len(x) else {}
            self._partial.append({bits: encode(parts, layout, self.codec, inputs) for bits, layout in self.layouts.items()})
        if self._progress:
            done = layer * self.source.spec.experts + expert + 1
            self._progress(Progress(_STAGE, done * self._each, self.source.spec.layers * self.source.spec.experts * self._each))
        if self._cancel and self._cancel():
            raise Cancelled(f"Conversion stopped; convert to {self.target} again and it continues where it was")
