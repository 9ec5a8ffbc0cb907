"""Which quantizer is better, and how fast an expert is: `python tests/benchmarks/quantizers.py [MODEL]`.

Prints, per quantizer and width, on every expert of a checkpoint (the demo model unless another folder is given):

- bytes: one record;
- weights: squared error of the weights as a share of their power;
- outputs: squared error of an expert's output as a share of its power, on the hidden states that really reach it;
- KL: how far the model's next-token distribution moves from the one at 16 bits, nats a token, over text it wrote itself;
- µs: one expert on one token, one thread, its weights in cache.

`plans.py` prints what quantizers that listen to text come to, on text that they have not seen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.kernels import reference
from engine.models.skeleton import Skeleton, load_skeleton
from engine.quant import CODECS, ExpertWeights, Feedback
from engine.store import Store, convert

WIDTHS = (2, 3, 4, 8, 16)


class Resident:
    """All experts in memory at one width; keeps the hidden states that reached the first few experts of each layer."""

    def __init__(self, store: Store, bits: int, keep: bool = False) -> None:
        self.store, self.bits, self.keep = store, bits, keep
        self.seen: dict[tuple[int, int], Tensor] = {}
        self.modules: dict[int, Any] = {}
        self.load = cache(self._load)

    def forward(self, module: Any, layer: int, hidden: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        out = torch.zeros_like(hidden)
        self.modules[layer] = module
        for expert in index.unique().tolist():
            tokens, place = torch.where(index == expert)
            if self.keep:
                self.seen[layer, expert] = hidden[tokens]
            y = reference.forward(hidden[tokens], self.load(layer, expert), module)
            out.index_add_(0, tokens, y * weights[tokens, place, None])
        return out

    def _load(self, layer: int, expert: int) -> ExpertWeights:
        record = self.store.record(layer, expert, self.bits)
        with record.file.open("rb") as file:
            file.seek(record.offset)
            return self.store.unpack(torch.frombuffer(bytearray(file.read(record.nbytes)), dtype=torch.uint8), self.bits)


def write_text(skeleton: Skeleton, batch: int = 8, length: int = 96) -> Tensor:
    """Text [batch, length] that the model samples from itself, from random first tokens."""
    torch.manual_seed(0)
    first = torch.randint(3, skeleton.model.get_input_embeddings().num_embeddings, (batch, 1))
    return skeleton.model.generate(first, max_new_tokens=length - 1, min_new_tokens=length - 1, do_sample=True, top_k=0)  # type: ignore[no-any-return]


def share(error: Tensor, reference: Tensor) -> float:
    return float(error.square().sum() / reference.square().sum())


def microseconds(runtime: Resident, key: tuple[int, int]) -> float:
    weights, x, module = runtime.load(*key), runtime.seen[key][:1], runtime.modules[key[0]]
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(20):
            reference.forward(x, weights, module)
        best = min(best, (time.perf_counter() - start) / 20)
    return best * 1e6


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=ROOT / "assets" / "demo" / "model")
    model = parser.parse_args().model
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name, codec in CODECS.items() if not isinstance(codec, Feedback)]
        stores = {name: convert(model, Path(folder) / name, WIDTHS, name) for name in names}
        skeleton = load_skeleton(stores["channel"], torch.float32)
        exact = Resident(stores["channel"], 16)
        skeleton.bind(exact)
        text = write_text(skeleton)
        exact.keep = True
        wanted = skeleton.model(text).logits.log_softmax(-1)
        print(f"{skeleton.spec.architecture}, d {skeleton.spec.hidden}, ff {skeleton.spec.width}, {text.numel()} tokens")
        print(f"{'quantizer':<10} {'bits':>4} {'bytes':>9} {'weights':>10} {'outputs':>10} {'KL':>9} {'µs':>7}")
        for bits in WIDTHS:
            for name, store in stores.items():
                if bits < 16 or name == "channel":
                    print(row(name, bits, store, skeleton, exact, text, wanted))


def row(name: str, bits: int, store: Store, skeleton: Skeleton, exact: Resident, text: Tensor, wanted: Tensor) -> str:
    runtime = Resident(store, bits, keep=True)
    weights, outputs = [], []
    for key, x in exact.seen.items():
        a, b = exact.load(*key), runtime.load(*key)
        dense = [(getattr(e, part).dense(torch.float32)) for e in (a, b) for part in ("up", "down")]
        weights.append(share(torch.cat([(dense[i] - dense[i + 2]).view(-1) for i in (0, 1)]), torch.cat([w.view(-1) for w in dense[:2]])))
        y, z = (reference.forward(x, e, exact.modules[key[0]]) for e in (a, b))
        outputs.append(share(y - z, y))
    skeleton.bind(runtime)
    moved = skeleton.model(text).logits.log_softmax(-1)
    kl = float((wanted.exp() * (wanted - moved)).sum(-1).mean())
    speed = microseconds(runtime, next(key for key in runtime.seen))
    mean = [sum(values) / len(values) for values in (weights, outputs)]
    return f"{name:<10} {bits:>4} {store.record_bytes(bits):>9,} {mean[0]:>10.2e} {mean[1]:>10.2e} {kl:>9.4f} {speed:>7.0f}"


if __name__ == "__main__":
    main()
