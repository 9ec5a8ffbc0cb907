"""One expert on its tokens: what the family's own code computes, at every width and layout.

T tokens, d hidden, ff expert width.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.kernels import reference
from engine.models.spec import ExpertSpec, PartSpec
from engine.quant import CODECS, codec_named
from engine.store.format import layout_of
from engine.store.record import decode, encode


def family(gated: bool = True, interleaved: bool = False, norm: bool = False) -> Any:
    """What the kernel asks of an experts module."""

    def gate(both: Tensor) -> Tensor:
        g, u = (both[..., ::2], both[..., 1::2]) if interleaved else both.chunk(2, dim=-1)
        return F.silu(g) * u

    def post(x: Tensor) -> Tensor:
        return F.normalize(x.float(), dim=-1).to(x.dtype)

    return SimpleNamespace(has_gate=gated, has_post_expert_norm=norm, act_fn=F.relu, _apply_gate=gate, post_expert_norm=post)


def expert(d: int, ff: int, gated: bool, biased: bool) -> tuple[ExpertSpec, dict[str, Tensor]]:
    rows = 2 * ff if gated else ff
    up = "gate_up_proj" if gated else "up_proj"
    shapes = {up: (rows, d), "down_proj": (d, ff)} | ({f"{up}_bias": (rows,), "down_proj_bias": (d,)} if biased else {})
    generator = torch.Generator().manual_seed(7)
    tensors = {name: (torch.randn(shape, generator=generator) * 0.2).bfloat16() for name, shape in shapes.items()}
    parts = tuple(PartSpec(name, shape, len(shape) == 2) for name, shape in shapes.items())
    return ExpertSpec("Test", 1, ("x",), 1, 1, d, ff, parts, False, True, gated, biased), tensors


@pytest.mark.parametrize("quantizer", CODECS)
@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
@pytest.mark.parametrize(("gated", "biased", "interleaved", "norm"), [
    (True, False, False, False), (False, False, False, False), (True, True, True, False), (True, False, False, True),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_is_the_definition_on_dequantized_weights(
    quantizer: str, bits: int, gated: bool, biased: bool, interleaved: bool, norm: bool, dtype: torch.dtype
) -> None:
    spec, tensors = expert(32, 48, gated, biased)
    codec, module = codec_named(quantizer), family(gated, interleaved, norm)
    layout = layout_of(spec, bits, codec, torch.bfloat16)
    weights = decode(torch.frombuffer(encode(tensors, layout, codec), dtype=torch.uint8), layout)

    used = {n: t.float() if bits == 16 or t.dim() == 1 else codec.quantize(t, bits).dense(torch.float32) for n, t in tensors.items()}
    up, down = (used[part.name] for part in spec.parts[:2])
    up_bias, down_bias = (used[part.name] for part in spec.parts[2:]) if biased else (None, None)
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(3)).to(dtype)
    hidden = F.linear(x.float(), up, up_bias)
    wanted = F.linear(module._apply_gate(hidden) if gated else F.relu(hidden), down, down_bias)
    wanted = module.post_expert_norm(wanted) if norm else wanted

    y = reference.forward(x, weights, module)
    assert y.dtype == dtype and y.shape == (5, 32)
    tolerance = 1e-5 if dtype == torch.float32 else 0.03 * float(wanted.detach().abs().max())
    torch.testing.assert_close(y.float(), wanted, atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_a_token_does_not_see_the_others(bits: int) -> None:
    """Which other tokens share the call changes nothing; how many may change the last digits."""
    spec, tensors = expert(64, 96, True, False)
    codec = codec_named("default")
    layout = layout_of(spec, bits, codec, torch.bfloat16)
    weights = decode(torch.frombuffer(encode(tensors, layout, codec), dtype=torch.uint8), layout)
    x, other = torch.randn(6, 64), torch.randn(6, 64) * 100
    other[2] = x[2]
    assert torch.equal(reference.forward(x, weights, family())[2], reference.forward(other, weights, family())[2])
    alone, among = reference.forward(x[2:3], weights, family())[0], reference.forward(x, weights, family())[2]
    torch.testing.assert_close(alone, among, atol=1e-5, rtol=1e-4)


def test_weights_are_views_of_the_record() -> None:
    """A slot reused for another expert is that expert: nothing was copied on unpacking."""
    spec, tensors = expert(32, 48, True, False)
    codec = codec_named("default")
    layout = layout_of(spec, 4, codec, torch.bfloat16)
    buffer = torch.frombuffer(encode(tensors, layout, codec), dtype=torch.uint8)
    weights = decode(buffer, layout)
    begin, end = buffer.data_ptr(), buffer.data_ptr() + buffer.numel()
    for tensor in (weights.up.codes, weights.up.scales, weights.down.codes, weights.down.scales):
        assert tensor is not None and begin <= tensor.data_ptr() < end
