"""How fast the native kernels are: one expert of OLMoE's size (2048 hidden, 1024 wide, three matrices), its weights never in cache.

    python tests/benchmarks/native_kernels.py [--rounds 40] [--threads 1,2]

Decode (one token): GB/s of the record's bytes, that as a share of what a plain streaming read reaches with as many threads, and how
many times as fast as torch's own products of such weights (int4pack, int8pack, bfloat16), and how many times as long an expert takes that
keeps 0.2% of its weights apart (group64+outliers). Prefill (16 and 64 tokens): how many times
as fast as torch's float32 products of weights that are dense already. Contenders take turns, each on the next of many experts;
figures are medians.

T tokens, d hidden, ff expert width.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engine.kernels.library import Native
from engine.kernels.matrices import expert_layout
from engine.models.spec import ExpertSpec, PartSpec
from engine.quant import codec_named
from engine.store.format import Layout, layout_of
from engine.store.record import encode

D, FF, GROUP = 2048, 1024, 64
COLD = 192 << 20  # bytes of weights that take turns: several times any cache
_STREAM = """
#include <cstdint>
#include <cstddef>
extern "C" uint64_t stream(const uint64_t* p, size_t n) {
  uint64_t a[16] = {};
  for (size_t i = 0; i + 16 <= n; i += 16)
    for (int j = 0; j < 16; ++j) a[j] += p[i + j];
  for (int j = 1; j < 16; ++j) a[0] += a[j];
  return a[0];
}
"""
PARTS = (PartSpec("gate_up_proj", (2 * FF, D), True), PartSpec("down_proj", (D, FF), True))
Call = Callable[[], object]


@functools.cache
def record(bits: int, quantizer: str) -> np.ndarray:
    """An expert of normal weights as the bytes of a record."""
    codec, generator = codec_named(quantizer), torch.Generator().manual_seed(1)
    spec = ExpertSpec("Benchmark", 1, ("x",), 1, 1, D, FF, PARTS, False, True, True, False)
    weights = {part.name: 0.02 * torch.randn(part.shape, generator=generator).bfloat16() for part in PARTS}
    return np.frombuffer(encode(weights, layout_of(spec, bits, codec, torch.bfloat16), codec), np.uint8)


class Records:
    """Experts of one width, all of the same random weights, as records one after the other in memory; ``next`` goes round them."""

    def __init__(self, bits: int, quantizer: str = "default") -> None:
        self.spec = ExpertSpec("Benchmark", 1, ("x",), 1, 1, D, FF, PARTS, False, True, True, False)
        self.layout: Layout = layout_of(self.spec, bits, codec_named(quantizer), torch.bfloat16)
        self.count = max(2, COLD // self.layout.nbytes)
        self.memory = np.tile(record(bits, quantizer), self.count)
        self._turn = itertools.cycle(range(self.count))

    def next(self) -> int:
        return int(self.memory.ctypes.data) + next(self._turn) * self.layout.nbytes


class Dense:
    """torch's contender at one width: as many copies of an expert's weights as are cold, by the fastest product torch has for them."""

    def __init__(self, bits: int, dtype: torch.dtype = torch.float32) -> None:
        self.bits, self.dtype = bits, dtype
        pair = [self._packed(torch.randn(2 * FF, D) * 0.02), self._packed(torch.randn(D, FF) * 0.02)]
        nbytes = sum(t.nbytes for weights in pair for t in weights)
        self.experts = [[tuple(t.clone() for t in weights) for weights in pair] for _ in range(max(2, COLD // nbytes))]
        self._turn = itertools.cycle(self.experts)

    def _packed(self, weight: Tensor) -> tuple[Tensor, ...]:
        if self.bits == 4:
            codes = torch.randint(0, 16, weight.shape, dtype=torch.int32)
            scales = torch.rand(weight.shape[1] // GROUP, weight.shape[0], 2, dtype=self.dtype) * 0.01
            return torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 2), scales
        if self.bits == 8:
            return torch.randint(-128, 128, weight.shape, dtype=torch.int8), torch.rand(weight.shape[0], dtype=self.dtype) * 0.01
        return (weight.to(self.dtype),)

    def forward(self, x: Tensor) -> Tensor:
        up, down = next(self._turn)
        gate, rest = self._product(x, up).chunk(2, -1)
        return self._product(F.silu(gate) * rest, down)

    def _product(self, x: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        if self.bits == 4:
            return torch.ops.aten._weight_int4pack_mm_for_cpu(x, weights[0], GROUP, weights[1])
        if self.bits == 8:
            return torch.ops.aten._weight_int8pack_mm(x, weights[0], weights[1])
        return F.linear(x, weights[0])


def turns(contenders: dict[str, Call], rounds: int) -> dict[str, float]:
    """Median seconds of each, all of them called in turn."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 3):
        for name, call in contenders.items():
            began = time.perf_counter()
            call()
            if number >= 3:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def streaming(threads: int) -> tuple[Call, int]:
    """Reads 16 MiB, the next of them at each call, with that many threads; and those bytes."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "stream.cpp", Path(folder) / "stream.so"
        source.write_text(_STREAM)
        subprocess.run(["c++", "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
        read = ctypes.CDLL(str(library)).stream
    read.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    part = (16 << 20) // threads
    memory = np.ones(COLD // 8, np.uint64)
    turn = itertools.cycle(range(memory.nbytes // (part * threads)))
    pool = ThreadPoolExecutor(threads)

    def call() -> None:
        start = memory.ctypes.data + next(turn) * part * threads
        list(pool.map(lambda n: read(start + n * part, part // 8), range(threads)))

    return call, part * threads


def decode(native: Native, bits: int, threads: int, rounds: int) -> None:
    records, x = Records(bits), torch.randn(1, D)
    layout = expert_layout(records.spec, records.layout, "silu")
    read, nbytes = streaming(threads)
    contenders: dict[str, Call] = {"ours": lambda: native.expert(records.next(), layout, x), "read": read}
    if bits <= 4:
        apart = Records(bits, "group64+outliers")
        wider = expert_layout(apart.spec, apart.layout, "silu")
        contenders["apart"] = lambda: native.expert(apart.next(), wider, x)
    torchs = {} if bits in (2, 3) else {"torch": Dense(bits, torch.bfloat16), "torch float32": Dense(bits)} if bits < 16 else {
        "torch": Dense(16, torch.bfloat16)
    }  # fmt: skip
    for name, dense in torchs.items():
        own = x.to(dense.dtype)
        contenders[name] = lambda dense=dense, own=own: dense.forward(own)  # type: ignore[misc]
    seconds = turns(contenders, rounds)
    speed, limit = records.layout.nbytes / seconds["ours"] / 1e9, nbytes / seconds["read"] / 1e9
    fastest = min((seconds[name] for name in torchs), default=None)
    against = f"{fastest / seconds['ours']:5.2f}x torch ({fastest * 1e6:.0f} us)" if fastest else "torch has none"
    own = f"{bits:2d} bits: {seconds['ours'] * 1e6:6.0f} us, {speed:5.1f} GB/s"
    more = f", with outliers {seconds['apart'] / seconds['ours']:.2f}x as long" if "apart" in seconds else ""
    print(f"{own}, {speed / limit:4.0%} of reading ({limit:.1f} GB/s), {against}{more}")


def prefill(native: Native, bits: int, tokens: int, rounds: int) -> None:
    records, dense, x = Records(bits), Dense(16), torch.randn(tokens, D)
    layout = expert_layout(records.spec, records.layout, "silu")
    seconds = turns({"ours": lambda: native.expert(records.next(), layout, x), "torch": lambda: dense.forward(x)}, rounds)
    work = 2 * tokens * 3 * D * FF / seconds["ours"] / 1e9
    print(f"{bits:2d} bits, {tokens:3d} tokens: {seconds['ours'] * 1e3:6.2f} ms, {work:6.1f} Gop/s, "
          f"{seconds['torch'] / seconds['ours']:4.2f}x torch float32 ({seconds['torch'] * 1e3:.2f} ms)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--bits", default="2,3,4,8,16")
    parser.add_argument("--kernels", default="", help="an instruction set by name")
    asked = parser.parse_args()
    widths = [int(bits) for bits in asked.bits.split(",")]
    for threads in map(int, asked.threads.split(",")):
        native = Native(threads, asked.kernels)
        torch.set_num_threads(threads)
        print(f"{native.name}, {threads} thread{'s' * (threads > 1)}")
        for bits in widths:
            decode(native, bits, threads, asked.rounds)
        for bits, tokens in itertools.product(widths, (16, 64)):
            prefill(native, bits, tokens, max(5, asked.rounds // 4))
        native.close()


if __name__ == "__main__":
    with torch.inference_mode():
        main()
