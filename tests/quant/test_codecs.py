"""Quantizers hold their promises for every shape and every awkward value.

R rows, C columns, b bits.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.errors import EngineError
from engine.quant import CODECS, DEFAULT, Codec, codec_named
from engine.quant.packing import WIDTHS, pack, packed_columns, unpack
from engine.quant.scales import from_half, to_half, unit_of

codecs = st.sampled_from(list(CODECS.values()))
widths = st.sampled_from(WIDTHS)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 300))
magnitudes = st.sampled_from([1e-30, 1e-12, 1e-5, 1.0, 1e4, 1e9, 1e30])


def random(shape: tuple[int, int], seed: int, magnitude: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * magnitude


def step(codec: Codec, weight: Tensor, bits: int) -> Tensor:
    """The coarsest step the codec could need for each row: its absmax over the levels of one side. [R, 1]"""
    levels = (1 << (bits - 1)) - 1 if codec.name == "channel" else ((1 << bits) - 1) / 2
    return weight.float().abs().amax(-1, keepdim=True) / levels


@given(widths, st.integers(1, 7), st.integers(1, 40), st.integers(0, 2**31))
def test_packing_is_undone_by_unpacking(bits: int, rows: int, eights: int, seed: int) -> None:
    codes = torch.randint(0, 1 << bits, (rows, 8 * eights), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8 and packed.shape == (rows, packed_columns(8 * eights, bits))
    assert torch.equal(unpack(packed, bits), codes)


def test_packing_is_by_blocks_of_planes() -> None:
    """Native kernels rely on it: at 4 bits byte j of a block of 64 columns holds column j low and column 32 + j high."""
    codes = torch.randint(0, 16, (1, 80), dtype=torch.uint8)
    c = codes[0].tolist()
    assert pack(codes, 4).tolist() == [[c[j] | c[32 + j] << 4 for j in range(32)] + [c[64 + j] | c[72 + j] << 4 for j in range(8)]]
    short = torch.arange(16, dtype=torch.uint8).view(1, 16)
    assert pack(short & 3, 2).tolist() == [[0b00_00_00_00, 0b01_01_01_01, 0b10_10_10_10, 0b11_11_11_11]]


def test_packing_refuses_what_it_cannot_hold() -> None:
    for codes, bits in ((torch.zeros(1, 7, dtype=torch.uint8), 4), (torch.zeros(1, 8, dtype=torch.uint8), 5)):
        with pytest.raises(ValueError, match="cannot pack"):
            pack(codes, bits)


@settings(deadline=None)
@given(codecs, widths, sizes, magnitudes, st.integers(0, 2**31))
def test_every_value_lands_within_its_step(codec: Codec, bits: int, shape: tuple[int, int], magnitude: float, seed: int) -> None:
    """Symmetric absmax errs by half a step at most; a searched scale may clip, but never errs more than the whole range."""
    weight = random(shape, seed, magnitude)
    dense = codec.quantize(weight, bits).dense(torch.float32)
    assert dense.shape == weight.shape and dense.isfinite().all()
    slack = 1.001 + 2.0**-10
    error = (dense - weight).abs()
    if codec.name == "channel":
        assert (error <= 0.5 * slack * step(codec, weight, bits) + weight.abs() * 2.0**-10).all()
    else:
        assert (error.square().mean(-1) <= weight.square().mean(-1) * slack + 1e-60).all()


@settings(deadline=None)
@given(codecs, widths, sizes, st.integers(0, 2**31))
def test_all_zero_rows_stay_zero(codec: Codec, bits: int, shape: tuple[int, int], seed: int) -> None:
    weight = random(shape, seed)
    weight[0] = 0
    assert (codec.quantize(weight, bits).dense(torch.float32)[0] == 0).all()
    assert (codec.quantize(torch.zeros(shape), bits).dense(torch.float32) == 0).all()


@settings(deadline=None)
@given(codecs, widths, sizes, st.integers(-20, 20), st.integers(0, 2**31))
def test_scaling_by_a_power_of_two_scales_the_result(codec: Codec, bits: int, shape: tuple[int, int], power: int, seed: int) -> None:
    """Only the unit changes: FP16 scales neither overflow nor lose precision, whatever the weights' magnitude."""
    weight = random(shape, seed)
    dense = codec.quantize(weight, bits).dense(torch.float32)
    assert torch.equal(codec.quantize(weight * 2.0**power, bits).dense(torch.float32), dense * 2.0**power)


@settings(deadline=None)
@given(codecs, widths, sizes, st.integers(0, 2**31))
def test_negation_negates(codec: Codec, bits: int, shape: tuple[int, int], seed: int) -> None:
    weight = random(shape, seed)
    dense, negated = (codec.quantize(w, bits).dense(torch.float64) for w in (weight, -weight))
    # Ties may round to either side, by one step, and so tip the choice between scales that are equally good; everything else mirrors.
    assert ((dense + negated).abs() <= 2.1 * step(codec, weight, bits)).all()
    error, mirrored = ((w - weight).square().mean() for w in (dense, -negated))
    assert 0.9 * error - 1e-12 <= mirrored <= 1.1 * error + 1e-12


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_more_bits_err_less(codec: Codec) -> None:
    weight = random((64, 256), 3)
    errors = [(codec.quantize(weight, bits).dense(torch.float32) - weight).square().mean() for bits in (2, 3, 4, 8)]
    assert all(high > 2 * low for high, low in zip(errors, errors[1:], strict=False))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_groups_hold_an_outlier_s_damage_to_its_neighbours(bits: int) -> None:
    weight = random((8, 256), 5)
    weight[:, 0] = 50.0
    rest = slice(128, None)
    errors = {name: (codec.quantize(weight, bits).dense(torch.float32) - weight)[:, rest].square().mean() for name, codec in CODECS.items()}
    assert errors["group64"] < 0.4 * errors["channel"] and errors["group32"] < 0.4 * errors["channel"]


@pytest.mark.parametrize("name", ["group32", "group64", "group128"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_searched_scale_beats_the_plain_one(name: str, bits: int) -> None:
    codec = codec_named(name)
    weight = torch.distributions.Laplace(0.0, 1.0).sample((64, 256))
    grid = codec.grid(256, bits)
    values = weight.view(64, grid.groups, grid.group)
    plain = values.abs().amax(-1, keepdim=True) / grid.center
    codes = (values / plain + grid.center).round().clamp(0, 2 * grid.center)
    absmax = ((codes - grid.center) * plain).view(64, 256)
    searched = codec.quantize(weight, bits).dense(torch.float32)
    assert (searched - weight).square().mean() < (absmax - weight).square().mean()


def test_all_levels_are_in_use() -> None:
    codes = codec_named(DEFAULT).quantize(random((64, 256), 1), 2)
    assert set(unpack(codes.codes, 2).unique().tolist()) == {0, 1, 2, 3}
    assert set(unpack(CODECS["channel"].quantize(random((64, 256), 1), 2).codes, 2).unique().tolist()) == {1, 2, 3}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    weight = random((2, 16), 1)
    weight[1, 3] = bad
    with pytest.raises(ValueError, match="not finite"):
        codec_named("default").quantize(weight, 4)


@given(st.floats(1e-37, 1e38), st.lists(st.floats(2.0**-14, 1.0), min_size=1, max_size=20))
def test_half_scales_keep_eleven_bits_over_their_range(largest: float, shares: list[float]) -> None:
    scales = torch.tensor([largest, *(largest * share for share in shares)]).view(1, -1)
    unit = unit_of(float(scales.max()))
    back = from_half(to_half(scales, unit), unit)
    assert back.isfinite().all()
    normal = scales >= torch.finfo(torch.float32).tiny
    assert ((back - scales).abs()[normal] <= scales[normal] * 2.0**-11).all()


def test_an_unknown_quantizer_is_named() -> None:
    with pytest.raises(EngineError, match="nothing"):
        codec_named("nothing")
    assert codec_named("default").name == DEFAULT
