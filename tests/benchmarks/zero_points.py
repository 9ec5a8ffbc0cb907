"""Whether zero points pay: group-wise codes whose middle is shifted for each group, against what the same bytes bring otherwise.

    python tests/benchmarks/zero_points.py [TEXT ...] [--tokens 4096]

On the demo model and, where no text is given, this program's own sources; half of the works are learned from, figures are of the others.
Prints for 2, 3 and 4 bits, by rounding (group64) and with feedback (gptq64), the divergence without zero points, and with one of 4 bits a
group (sixteen shifts, an eighth of a step apart); beside it what a plan would buy for the same bytes with wider experts: the divergence
there on the line between the plain widths, in logarithms; and by which share of the bytes zero points would be worth. Shifts are in shares
of the scale that is searched without one, which is not stored: what is shown is the most that zero points can gain.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _demo import demo_store
from torch import Tensor

from app.demo import sample_text_path
from engine.bitwidth.blocks import texts_of
from engine.bitwidth.dense import DenseExperts
from engine.bitwidth.fidelity import Yardstick
from engine.corpus import read_documents
from engine.kernels import reference
from engine.models.skeleton import load_skeleton
from engine.quant import ExpertWeights, Inputs, Matrix, codec_named
from engine.quant.group import search
from engine.store import Store

WIDTHS = (2, 3, 4)
GROUP = 64
SHIFTS = {0: (0.0,), 4: tuple(step / 8 for step in range(-8, 8))}
"""Bits of a zero point: the shifts it can tell, in scales."""


class Listening(DenseExperts):
    """Experts at 16 bits, which note Σ x xᵀ of what goes into each matrix."""

    def __init__(self, store: Store, count: int) -> None:
        super().__init__(store, [16] * count)
        self.inputs: dict[int, list[Tensor]] = {}

    def outputs(self, module: Any, number: int, bits: int, hidden: Tensor) -> Tensor:
        exact = self.weights(number, bits)
        middle = reference.inner(hidden, exact, module)
        for place, x in enumerate((hidden.double(), middle.double())):
            held = self.inputs.setdefault(number, [torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64) for x in (hidden, middle)])
            held[place] += x.T @ x
        return reference.outer(middle, exact, module)


class Rounded(DenseExperts):
    """Experts at 16 bits, each matrix as ``rounded`` leaves it."""

    def __init__(self, store: Store, count: int, rounded: Callable[[int, int, Tensor], Tensor]) -> None:
        super().__init__(store, [16] * count)
        self._rounded = rounded

    def _read(self, number: int, bits: int) -> tuple[ExpertWeights, int]:
        exact, size = super()._read(number, bits)
        up, down = (
            Matrix(16, matrix.rows, matrix.columns, self._rounded(number, place, matrix.dense(torch.float32)))
            for place, matrix in enumerate((exact.up, exact.down))
        )
        return ExpertWeights(16, up, down, exact.up_bias, exact.down_bias), size


def shift(weight: Tensor, bits: int, shifts: tuple[float, ...]) -> Tensor:
    """How far each group of a matrix [R, C] is to be shifted: what leaves the least squared error, in the matrix' shape."""
    rows, columns = weight.shape
    values = torch.nn.functional.pad(weight, (0, -columns % GROUP)).view(rows, -1, GROUP)
    scale, center = search(values, bits), ((1 << bits) - 1) / 2
    best, least = torch.zeros_like(scale), torch.full_like(scale, torch.inf)
    for share in shifts:
        moved = values - (share * scale)[..., None]
        fitted = search(moved, bits)[..., None]
        codes = (moved / fitted.clamp_min(1e-12)).add(center).round().clamp(0, 2 * center) - center
        error = (codes * fitted - moved).square().sum(-1)
        best, least = torch.where(error < least, share * scale, best), torch.minimum(error, least)
    return best.repeat_interleave(GROUP, 1)[:, :columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", type=Path)
    parser.add_argument("--tokens", type=int, default=4_096)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    store = demo_store()
    count = store.spec.layers * store.spec.experts
    skeleton = load_skeleton(store, torch.float32)
    kinds = [read_documents(path) for path in args.texts or [sample_text_path()]]
    texts = texts_of(skeleton.tokenizer, kinds, args.tokens, skeleton.context)
    listening = Listening(store, count)
    skeleton.bind(listening)
    with torch.inference_mode():
        skeleton.model.base_model(input_ids=texts.learn[:, :-1], use_cache=False)
    inputs = {(number, place): Inputs(gram) for number, grams in listening.inputs.items() for place, gram in enumerate(grams)}
    exact = DenseExperts(store, [16] * count)
    yardstick = Yardstick(skeleton, texts.verify, exact)
    groups = sum(matrix.rows * math.ceil(matrix.columns / GROUP) for matrix in (exact.weights(0, 16).up, exact.weights(0, 16).down))
    print(f"{texts.verify[:, 1:].numel():,} tokens of works held out")
    print(f"{'codec':8} {'bits':>4} {'zero':>5} {'bytes':>7} {'KL':>9} {'on the line':>12} {'worth':>7}")
    for name in ("group64", "gptq64"):
        codec = codec_named(name)
        exact.bits = [8] * count
        plain = {8: (float(store.record_bytes(8)), yardstick.measure(exact).kl)}
        for bits in reversed(WIDTHS):
            for size, shifts in SHIFTS.items():

                def rounded(number: int, place: int, weight: Tensor, bits: int = bits, shifts: tuple[float, ...] = shifts) -> Tensor:
                    moved = shift(weight, bits, shifts) if len(shifts) > 1 else torch.zeros(())
                    heard = inputs.get((number, place)) if name == "gptq64" else None  # noqa: B023
                    return codec.quantize(weight - moved, bits, heard).dense(torch.float32) + moved  # noqa: B023

                kl = yardstick.measure(Rounded(store, count, rounded)).kl
                held = store.record_bytes(bits) + groups * size / 8
                if not size:
                    plain[bits] = held, kl
                    line = ""
                else:
                    (low, at_low), (high, at_high) = plain[bits], plain[min(width for width in plain if width > bits)]
                    share = (held - low) / (high - low)
                    between = math.exp((1 - share) * math.log(at_low) + share * math.log(at_high))
                    worth = math.log(between / kl) / math.log(at_low / at_high) * (high - low) / held
                    line = f"{between:>12.5f} {worth:>7.1%}"
                print(f"{name:8} {bits:>4} {size:>5} {held:>7,.0f} {kl:>9.5f} {line}", flush=True)


if __name__ == "__main__":
    main()
