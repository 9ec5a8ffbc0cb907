"""Codes chosen for what goes through a matrix: less error there, in the very same format."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.quant import Inputs, codec_named


def inputs(tokens: int, columns: int, seed: int) -> Tensor:
    """Σ x xᵀ of inputs that go together, a few of them strong."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(columns, columns, generator=generator) * torch.linspace(0.1, 3, columns)
    x = torch.randn(tokens, columns, generator=generator) @ mixed / columns**0.5
    return x.double().T @ x.double()


def error(weight: Tensor, dense: Tensor, gram: Tensor) -> float:
    """Squared error of the outputs."""
    off = (weight - dense).double()
    return float(((off @ gram) * off).sum())


@settings(max_examples=30, deadline=None)
@given(bits=st.sampled_from([2, 3, 4]), rows=st.integers(16, 40), columns=st.integers(48, 200), seed=st.integers(0, 999))
def test_outputs_are_nearer_than_with_rounding_alone(bits: int, rows: int, columns: int, seed: int) -> None:
    weight, gram = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)), inputs(400, columns, seed)
    plain, heard = codec_named("group64").quantize(weight, bits), codec_named("gptq64").quantize(weight, bits, Inputs(gram))
    assert (heard.codes.shape, heard.group, heard.center) == (plain.codes.shape, plain.group, plain.center)
    before, after = (error(weight, matrix.dense(torch.float32), gram) for matrix in (plain, heard))
    assert after <= before


def test_half_the_error_where_inputs_go_together() -> None:
    weight, gram = torch.randn(64, 128, generator=torch.Generator().manual_seed(0)), inputs(1000, 128, 0)
    plain, heard = (codec_named(name).quantize(weight, 3, Inputs(gram)).dense(torch.float32) for name in ("group64", "gptq64"))
    assert error(weight, heard, gram) < 0.6 * error(weight, plain, gram)


@pytest.mark.parametrize("gram", [None, torch.zeros(96, 96)])
def test_where_nothing_goes_through_it_rounds_to_the_nearest(gram: Tensor | None) -> None:
    weight = torch.randn(8, 96, generator=torch.Generator().manual_seed(1))
    heard = codec_named("gptq64").quantize(weight, 2, None if gram is None else Inputs(gram))
    plain = codec_named("group64").quantize(weight, 2)
    assert torch.equal(plain.codes, heard.codes)


def test_zero_rows_one_token_and_weights_that_are_not_finite() -> None:
    weight, gram = torch.randn(4, 64, generator=torch.Generator().manual_seed(2)), inputs(1, 64, 2)  # of rank one
    weight[1] = 0
    dense = codec_named("gptq64").quantize(weight, 2, Inputs(gram)).dense(torch.float32)
    assert torch.isfinite(dense).all() and (dense[1] == 0).all()
    weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        codec_named("gptq64").quantize(weight, 2, Inputs(gram))
