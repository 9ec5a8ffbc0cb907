"""One whole expert from its record: against float64 step by step, and against the torch path.

Tolerances are of the error's root mean square as a share of the output's. EXACT: float64 on activations quantized as the kernels do;
what is left is float32's rounding, and a code of the hidden layer that it tips over now and then. TORCH: torch multiplies activations
as they are, the kernels quantize them twice, before up and before down.

T tokens, d hidden, ff expert width.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.activations import ACT2FN
from transformers.integrations.moe import _default_apply_gate

from engine.kernels import reference
from engine.kernels.experts import ExpertKernels
from engine.kernels.library import Native
from engine.models.anatomy import expert_modules
from engine.models.skeleton import load_skeleton
from engine.models.spec import ExpertSpec, PartSpec
from engine.quant import ExpertWeights, codec_named
from engine.store import convert
from engine.store.format import layout_of
from engine.store.record import decode, encode
from tests.models.families import save_random

from . import exact

EXACT = {2: 2e-3, 3: 2e-3, 4: 2e-3, 8: 3e-5, 16: 1e-6}
TORCH = {2: 0.02, 3: 0.02, 4: 0.02, 8: 1e-4, 16: 1e-6}
D, FF = 192, 136
NAMES = {"silu": "silu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "relu": "relu", "relu2": "relu2"}


@pytest.fixture(scope="module", params=exact.instruction_sets())
def native(request: pytest.FixtureRequest) -> Iterator[Native]:
    engine = Native(1, request.param)
    yield engine
    engine.close()


class Experts:
    """What kernels ask of an experts module, with the default gate of transformers."""

    has_post_expert_norm = False
    _apply_gate = _default_apply_gate

    def __init__(self, activation: str, gated: bool) -> None:
        self.act_fn, self.has_gate = ACT2FN[activation], gated


class Interleaved(Experts):
    """The same where gate and up rows alternate."""

    def _apply_gate(self, both: Tensor) -> Tensor:
        return self.act_fn(both[..., ::2]) * both[..., 1::2]


class Expert:
    """A random expert as a record of every width."""

    def __init__(self, gated: bool, biased: bool, interleaved: bool, codec: str = "default", d: int = D, ff: int = FF) -> None:
        rows, up = (2 * ff, "gate_up_proj") if gated else (ff, "up_proj")
        shapes = {up: (rows, d), "down_proj": (d, ff)} | ({f"{up}_bias": (rows,), "down_proj_bias": (d,)} if biased else {})
        generator = torch.Generator().manual_seed(7)
        tensors = {name: (torch.randn(shape, generator=generator) * 0.2).bfloat16() for name, shape in shapes.items()}
        parts = tuple(PartSpec(name, shape, len(shape) == 2) for name, shape in shapes.items())
        self.spec = ExpertSpec("Test", 1, ("x",), 1, 1, d, ff, parts, False, not interleaved, gated, biased)
        self.widths = (2, 3, 4, 8, 16)
        layouts = {bits: layout_of(self.spec, bits, codec_named(codec), torch.bfloat16) for bits in self.widths}
        self.layout = layouts.__getitem__
        self._records = {b: torch.frombuffer(encode(tensors, layouts[b], codec_named(codec)), dtype=torch.uint8) for b in self.widths}

    def weights(self, bits: int) -> ExpertWeights:
        return decode(self._records[bits], self.layout(bits))

    def address(self, bits: int) -> int:
        return self._records[bits].data_ptr()


def kernels_of(expert: Expert, module: Any, native: Native | None) -> ExpertKernels:
    store: Any = expert  # what of a store is asked for
    return ExpertKernels(store, module, native)


def exactly(native: Native, x: Tensor, weights: ExpertWeights, module: Any) -> Tensor:
    """The expert in float64, on activations quantized as the kernels do: [T, d]."""
    hidden = exact.activations(native, x, weights.bits) @ exact.dense(weights.up).T + x.double() @ exact.apart(weights.up).T
    hidden = hidden if weights.up_bias is None else hidden + weights.up_bias.double()
    hidden = module._apply_gate(hidden) if module.has_gate else module.act_fn(hidden)
    y = exact.activations(native, hidden.float(), weights.bits) @ exact.dense(weights.down).T + hidden @ exact.apart(weights.down).T
    return y if weights.down_bias is None else y + weights.down_bias.double()


def tokens(count: int, d: int = D) -> Tensor:
    return torch.randn(count, d, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize(("gated", "biased", "interleaved"), [
    (True, False, False), (True, True, True), (True, True, False), (False, False, False), (False, True, False),
])  # fmt: skip
def test_a_fused_expert_is_its_definition(native: Native, activation: str, gated: bool, biased: bool, interleaved: bool) -> None:
    expert, x = Expert(gated, biased, interleaved), tokens(9)
    module, definition = Experts(activation, gated), (Interleaved if interleaved else Experts)(activation, gated)
    kernels = kernels_of(expert, module, native)
    assert kernels.activation == NAMES[activation]
    for bits in expert.widths:
        weights = expert.weights(bits)
        y = kernels.forward(x, expert.address(bits), weights, module)
        assert exact.error(y, exactly(native, x, weights, definition)) < EXACT[bits]
        assert exact.error(y, reference.forward(x, weights, definition).double()) < TORCH[bits]
        for count in range(1, 9):
            assert torch.equal(kernels.forward(x[:count], expert.address(bits), weights, module), y[:count])
        assert torch.equal(kernels.forward(x[4:5], expert.address(bits), weights, module)[0], y[4])


@pytest.mark.parametrize("codec", ["channel", "group32", "group128", "group64+outliers"])
def test_every_codecs_records_are_read_in_place(native: Native, codec: str) -> None:
    module = Experts("silu", True)
    for d, ff in ((D, FF), (256, 128), (40, 24)):
        expert, x = Expert(True, False, False, codec, d, ff), tokens(5, d)
        kernels = kernels_of(expert, module, native)
        for bits in expert.widths:
            y = kernels.forward(x, expert.address(bits), expert.weights(bits), module)
            assert exact.error(y, exactly(native, x, expert.weights(bits), module)) < EXACT[bits]


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_threads_change_no_bit(native: Native, bits: int) -> None:
    module, x = Experts("silu", True), tokens(6, 512)
    expert = Expert(True, False, False, "channel", 512, 256)
    kernels = kernels_of(expert, module, native)
    alone = kernels.forward(x, expert.address(bits), expert.weights(bits), module)
    try:
        for threads, count in product((2, 3), (1, 6)):
            native.set_threads(threads)
            assert torch.equal(kernels.forward(x[:count], expert.address(bits), expert.weights(bits), module), alone[:count])
    finally:
        native.set_threads(1)


def test_activations_of_all_sizes(native: Native) -> None:
    """Far out and near nothing, where an exponential of one's own would go wrong first; ungated, so that none hides behind another."""
    for activation in NAMES:
        expert, module = Expert(False, False, False, d=8, ff=8), Experts(activation, False)
        kernels = kernels_of(expert, module, native)
        weights = expert.weights(16)
        weights.up.codes.copy_(torch.eye(8))
        weights.down.codes.copy_(torch.eye(8))
        sizes = torch.cat((torch.logspace(-30, 4, 200), torch.linspace(0, 100, 200)))
        x = torch.cat((sizes, -sizes)).view(-1, 8)
        wanted = module.act_fn(x.double())
        torch.testing.assert_close(kernels.forward(x, expert.address(16), weights, module).double(), wanted, atol=2e-7, rtol=1e-6)


def test_an_activation_of_the_familys_own_is_not_fused() -> None:
    expert = Expert(True, False, False)
    for module in (Experts("mish", True), Experts("quick_gelu", True), Interleaved("silu", True), SimpleNamespace(has_gate=False)):
        assert kernels_of(expert, module, None).activation is None


@pytest.mark.parametrize("family", ["GptOss", "DeepseekV4", "NemotronH", "MiniMaxM2", "Phimoe"])
def test_a_familys_own_gate_runs_between_native_products(native: Native, family: str, tmp_path: Path) -> None:
    """Fused or not, real modules get what the torch path gives them."""
    save_random(family, tmp_path / "model")
    store = convert(tmp_path / "model", tmp_path / "store")
    module = expert_modules(load_skeleton(store, torch.float32).model)[0][1]
    kernels = ExpertKernels(store, module, native)
    assert (kernels.activation is None) == (family in ("GptOss", "DeepseekV4"))
    x = tokens(5, store.spec.hidden)
    for bits in store.widths:
        record = store.record(0, 3, bits)
        with record.file.open("rb") as file:
            file.seek(record.offset)
            buffer = torch.frombuffer(bytearray(file.read(record.nbytes)), dtype=torch.uint8)
        weights = store.unpack(buffer, bits)
        for dtype, more in ((torch.float32, 0.0), (torch.bfloat16, 0.01)):
            y = kernels.forward(x.to(dtype), buffer.data_ptr(), weights, module)
            wanted = reference.forward(x.to(dtype).float(), weights, module)
            assert y.dtype == dtype and exact.error(y, wanted.double()) < TORCH[bits] + more
