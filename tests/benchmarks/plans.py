"""What bitwidth plans lose for their bytes, on works that were neither calibrated on nor verified on.

    python tests/benchmarks/plans.py [TALES.txt.gz CODE.txt.gz] [--tokens 16384] [--exhaustive] [--work DIR]

Of the works of each file in turn, three are for `calibrate` (half of them to learn from, half to verify on), the fourth is held out;
figures are of the latter. Prints, for the demo model: every quantizer at every uniform width, and its bytes as a multiple of those that
group64 (with outliers: the same without them) would need for the same divergence, between its own widths; at equal bytes a uniform width,
the paper's two widths and our plan; the bytes that tolerances need, and what is really lost; and with --exhaustive, the fast estimate of
importance against the paper's trials.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from _demo import demo_store

from app.demo import sample_text_path
from engine.bitwidth.blocks import Texts, texts_of
from engine.bitwidth.calibration import LEARN, Calibration
from engine.bitwidth.dense import DenseExperts
from engine.bitwidth.fidelity import Loss, Yardstick
from engine.bitwidth.importance import trials
from engine.bitwidth.knapsack import cheapest
from engine.bitwidth.notebook import Notebook
from engine.bitwidth.sensitivity import estimate
from engine.corpus import read_documents
from engine.models.skeleton import Skeleton, load_skeleton
from engine.quant import CODECS, Feedback
from engine.store import Store, convert
from engine.store.catalog import cache_folder
from engine.store.refit import refit

TOLERANCES = (0.005, 0.01, 0.02, 0.05)
BASES = {"group64+outliers": "group64", "gptq64+outliers": "gptq64"}  # what a quantizer is held against; group64 where it is not here
SIZES = (9.0, 10.0, 11.0, 12.0)  # MB


class Judged:
    """One store, calibrated on some works and judged by others."""

    def __init__(self, store: Store, texts: Texts, held_out: torch.Tensor, notes: Path) -> None:
        self.skeleton = load_skeleton(store, torch.float32)
        self.calibration = Calibration(self.skeleton, texts, Notebook(store, texts.digest, notes))
        self.experts = DenseExperts(store, self.calibration.uniform(max(store.widths)))
        self.yardstick = Yardstick(self.skeleton, held_out, self.experts)

    def loss(self, bits: Sequence[int]) -> Loss:
        self.experts.bits = list(bits)
        return self.yardstick.measure(self.experts)

    def size(self, bits: Sequence[int]) -> float:
        return self.calibration.bytes_of(bits) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", type=Path, help="default: this program's own sources")
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--exhaustive", action="store_true")
    parser.add_argument("--work", type=Path, default=cache_folder() / "plans", help="where stores and notes are kept")
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    plain = demo_store()
    skeleton = load_skeleton(plain, torch.float32)
    texts, held_out = parted(skeleton, args.texts or [sample_text_path()], args.tokens)
    stores = {plain.quantizer: plain} | made(skeleton, texts, args.work)
    judged = {name: Judged(store, texts, held_out, args.work) for name, store in stores.items()}
    print(f"{held_out[:, 1:].numel():,} tokens of works held out; {texts.learn[:, 1:].numel():,} learned from, as many verified on\n")
    print(f"{'quantizer':16} {'bits':>5} {'MB':>7} {'perplexity':>11} {'rise':>8} {'95%':>18} {'KL':>9}  at equal KL")
    lines = dict[str, list[tuple[float, float]]]()
    for name in sorted(judged, key=lambda name: (name in BASES, name != plain.quantizer)):
        one, base = judged[name], BASES.get(name, plain.quantizer)
        for bits in one.calibration.store.widths:
            kl = row(name, str(bits), one, one.calibration.uniform(bits), lines.get(base, []) if base != name else [])
            lines.setdefault(name, []).append((kl, one.size(one.calibration.uniform(bits))))
    for name in (plain.quantizer, "gptq64"):
        equal_bytes(name, judged[name])
    for name in (plain.quantizer, "gptq64"):
        tolerances(name, judged[name])
    if args.exhaustive:
        exhaustive(judged[plain.quantizer])


def parted(skeleton: Skeleton, files: list[Path], tokens: int) -> tuple[Texts, torch.Tensor]:
    """What to calibrate on, and blocks of the works held out."""
    kinds = [read_documents(path) for path in files]
    known = [[work for number, work in enumerate(works) if number % 4 != 3] for works in kinds]
    texts = texts_of(skeleton.tokenizer, known, tokens, skeleton.context)
    others = texts_of(skeleton.tokenizer, [works[3::4] for works in kinds], tokens // 2, skeleton.context)
    return texts, torch.cat([others.learn, others.verify])


def made(skeleton: Skeleton, texts: Texts, work: Path) -> dict[str, Store]:
    """The demo model by the other quantizers, kept for the next time."""
    stores, source = {}, skeleton.store
    for name, codec in CODECS.items():
        target = work / f"{name}-{texts.digest}"
        if name == source.quantizer:
            continue
        if target.exists():
            stores[name] = Store.open(target)
        elif isinstance(codec, Feedback):
            stores[name] = refit(skeleton, target, texts.learn[:, :-1].contiguous(), codec, source.widths)
        else:
            from _demo import demo_model_path

            stores[name] = convert(demo_model_path(), target, source.widths, name)
    return stores


def row(name: str, what: str, one: Judged, bits: Sequence[int], line: Sequence[tuple[float, float]] = ()) -> float:
    """Print what a plan loses, and how many bytes another would need for it; returns the divergence."""
    loss = one.loss(bits)
    low, high = loss.share_range
    size, change = f"{one.size(bits):>7.2f}", f"{loss.share:>8.2%} {low:>8.2%} to {high:>6.2%}"
    other = bytes_for(loss.kl, line)
    equal = f"  {one.size(bits) / other:.3f}x the bytes" if other else ""
    print(f"{name:16} {what:>5} {size} {loss.perplexity:>11.3f} {change} {loss.kl:>9.5f}{equal}", flush=True)
    return loss.kl


def bytes_for(kl: float, line: Sequence[tuple[float, float]]) -> float | None:
    """MB at which widths that diverge and weigh so much would diverge by ``kl``: straight between two in the divergence's logarithm."""
    known = sorted(pair for pair in line if pair[0] > 0)
    if not known or not known[0][0] <= kl <= known[-1][0]:
        return None
    logs, sizes = np.log([pair[0] for pair in known]), [pair[1] for pair in known]
    return float(np.interp(np.log(kl), logs, sizes))


def equal_bytes(name: str, one: Judged) -> None:
    """Ours against the paper's two neighbouring widths by importance, both filled up to a size."""
    calibration, widths = one.calibration, one.calibration.widths
    sensitivity = calibration.sensitivity()
    losses, costs = sensitivity.losses[:, : len(widths)], calibration.storage_costs()
    order = np.argsort(losses[:, 0])  # the fast estimate stands for the paper's trials, which rank alike
    print(f"\n{name} at equal bytes: uniform, or K experts at the lower of two widths; ours")
    sizes = sorted({*SIZES, *(one.size(calibration.uniform(bits)) for bits in (3, 4))})
    whole = {bits: one.size(calibration.uniform(bits)) for bits in widths}
    for size in sizes:
        low, high = max(bits for bits in widths if whole[bits] <= size), min(bits for bits in widths if whole[bits] >= size)
        lowered = 0 if low == high else np.ceil(calibration.count * (whole[high] - size) / (whole[high] - whole[low]) - 1e-9)
        paper = np.full(calibration.count, high)
        paper[order[: int(lowered)]] = low
        row(name, "paper" if low != high else str(low), one, paper.tolist())
        below, above = 0.0, float(losses.max(1).sum())
        for _ in range(60):  # the least loss that costs so much
            middle = (below + above) / 2
            packed = cheapest(costs, losses, middle)
            below, above = (middle, above) if packed is None or packed.cost > size * 1e6 else (below, middle)
        packed = cheapest(costs, losses, above)
        assert packed is not None
        row(name, "ours", one, [widths[at] for at in packed.choice])


def tolerances(name: str, one: Judged) -> None:
    print(f"\n{name}: what tolerances need, and what is lost on works held out")
    for tolerance in TOLERANCES:
        found = one.calibration.plan(tolerance)
        row(name, f"{tolerance:.1%}", one, found.bits)


def exhaustive(one: Judged) -> None:
    calibration = one.calibration
    began = time.perf_counter()
    estimate(one.skeleton, calibration.texts.learn)  # anew: the notebook may know it
    fast = time.perf_counter() - began
    began = time.perf_counter()
    tried = [calibration.measure(LEARN, plan) for plan in trials(calibration.count)]
    slow = time.perf_counter() - began
    ours = calibration.sensitivity().losses[:, 0]
    for what, values in (("divergence", [loss.kl for loss in tried]), ("perplexity", [loss.rise.mean() for loss in tried])):
        print(f"\nfast estimate against trials by {what}: rank correlation {correlation(ours, np.array(values)):.3f}", end="")
    print(f"\n{fast:.0f} s against {slow:.0f} s (what was known before takes none)")
    for tolerance in TOLERANCES[1:]:
        row("paper", f"{tolerance:.1%}", one, calibration.paper_plan(tolerance).bits)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's."""
    return float(np.corrcoef(*(np.argsort(np.argsort(x)) for x in (a, b)))[0, 1])


if __name__ == "__main__":
    main()
