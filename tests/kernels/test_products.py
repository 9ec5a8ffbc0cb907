"""Matrix products against float64, over widths, codecs, shapes, alignments, extremes, batch sizes and threads.

Two tolerances. Against exact arithmetic on the same quantized activations: ROUNDING of the terms' sizes summed, which is
float32's own rounding. Against the activations as they were, the error's root mean square as a share of the output's
(normal weights and activations): LOSS, by the weights' width.

T tokens, R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import c_uint8
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.errors import EngineError
from engine.kernels.library import Native, NativeMatrix
from engine.kernels.matrices import plain, quantized
from engine.quant import CODECS, Matrix, codec_named
from engine.quant.outliers import Outliers, costliest, gathered
from engine.quant.packing import pack, packed_columns

from . import exact

ROUNDING = 4e-7
LOSS = {2: 9e-3, 3: 9e-3, 4: 9e-3, 8: 5e-5, 16: 4e-7}  # 8-bit activations, for 8-bit weights 16-bit ones, floats
ROWS, TOKENS = 130, 33
COLUMNS = (8, 40, 64, 96, 200, 256, 768, 1408, 2048, 2880)
BATCHES = (1, 2, 3, 4, 5, 6, 7, 8, 9, TOKENS)
FLOATS = (torch.bfloat16, torch.float16, torch.float32)
SETS = exact.instruction_sets()


@pytest.fixture(scope="module", params=SETS)
def native(request: pytest.FixtureRequest) -> Iterator[Native]:
    engine = Native(1, request.param)
    yield engine
    engine.close()


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def of_codes(codes: Tensor, bits: int, group: int, scales: Tensor | None = None, unit: float = 1.0) -> Matrix:
    """A matrix of these very codes [R, P]; scales [R, P/group] of 1 unless given."""
    rows, columns = codes.shape
    half = torch.ones(rows, columns // group) if scales is None else scales
    return Matrix(bits, rows, columns, pack(codes.to(torch.uint8), bits), half.half(), unit, ((1 << bits) - 1) / 2, group)


def random_matrix(rows: int, columns: int, bits: int, codec: str, seed: int = 1) -> Matrix:
    """As a codec would lay one out, of random codes and scales, past the last column too; a plain one in bfloat16 at 16 bits."""
    if bits == 16:
        return Matrix(16, rows, columns, random(rows, columns, seed=seed).bfloat16())
    grid, generator = codec_named(codec).grid(columns, bits), torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 1 << bits, (rows, grid.columns), generator=generator, dtype=torch.uint8)
    scales = torch.rand(rows, grid.groups, generator=generator).half()
    apart = random_outliers(rows, columns, codec_named(codec).outliers(rows, columns, bits), generator)
    return Matrix(bits, rows, columns, pack(codes, bits), scales, 2.0**-7, grid.center, grid.group, apart)


def random_outliers(rows: int, columns: int, number: int, generator: torch.Generator) -> Outliers | None:
    """Some rows have many, some none."""
    if not number:
        return None
    costs = torch.rand(rows, columns, generator=generator) * torch.rand(rows, 1, generator=generator).square()
    return gathered(torch.randn(rows, columns, generator=generator), costliest(costs, number), 1.0)


def moved(tensor: Tensor, nbytes: int) -> Tensor:
    """The same values at an address that is ``nbytes`` past a multiple of 64."""
    memory = torch.zeros(tensor.nbytes + 128, dtype=torch.uint8)
    start = -memory.data_ptr() % 64 + nbytes
    place = memory[start : start + tensor.nbytes]
    place.copy_(tensor.contiguous().view(torch.uint8).flatten())
    return place.view(tensor.dtype).view(tensor.shape)


def stretch(matrix: NativeMatrix, begin: int, end: int) -> NativeMatrix:
    """Rows [begin, end) of a matrix, in place."""
    part = NativeMatrix.from_buffer_copy(matrix)
    size = {32: 4, 16: 2, 17: 2}.get(matrix.kind)
    part.codes = matrix.codes + begin * (matrix.columns * size if size else packed_columns(matrix.padded, matrix.kind))
    if matrix.scales:
        part.scales = matrix.scales + 2 * begin * (matrix.padded // matrix.group)
    if matrix.outliers:
        before = sum((c_uint8 * begin).from_address(matrix.outlier_counts))
        part.outliers, part.outlier_counts = matrix.outliers - before, matrix.outlier_counts + begin
        part.outlier_columns, part.outlier_values = matrix.outlier_columns + 2 * before, matrix.outlier_values + 2 * before
    if matrix.bias:
        part.bias = matrix.bias + begin * (4 if matrix.bias_kind == 32 else 2)
    part.rows = end - begin
    return part


def check(native: Native, matrix: Matrix, x: Tensor, y: Tensor, bias: Tensor | None = None) -> None:
    """y is exact to float32's rounding."""
    seen = exact.activations(native, x, matrix.bits if matrix.scales is not None else 16)
    wanted, size = seen @ exact.dense(matrix).T, seen.abs() @ exact.size(matrix).T
    added = exact.apart(matrix)
    wanted, size = wanted + x.double() @ added.T, size + x.double().abs() @ added.abs().T
    if bias is not None:
        wanted, size = wanted + bias.double(), size + bias.double().abs()
    excess = ((y.double() - wanted).abs() - ROUNDING * size - 1e-37).max()
    assert excess <= 0, f"{float(((y.double() - wanted).abs() / size).max()):.2g} of the terms' size"


def check_all(native: Native, matrix: Matrix, made: NativeMatrix, x: Tensor, bias: Tensor) -> None:
    """Exact for all tokens and rows, and the same bits for fewer of either, from wherever they begin."""
    whole = native.linear(made, x)
    check(native, matrix, x, whole, bias)
    for tokens in BATCHES:
        assert torch.equal(native.linear(made, x[:tokens]), whole[:tokens]), f"{tokens} tokens"
    assert torch.equal(native.linear(made, x[5:6]), whole[5:6])
    for begin, end in ((0, 1), (1, 4), (3, 10), (2, ROWS), (ROWS - 1, ROWS)):
        part = stretch(made, begin, end)
        for tokens in (1, 5):
            assert torch.equal(native.linear(part, x[:tokens]), whole[:tokens, begin:end]), f"rows {begin} to {end}, {tokens} tokens"


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_quantized_products_are_exact_and_bits_do_not_depend_on_the_company(native: Native, bits: int, codec: str) -> None:
    for columns in COLUMNS:
        matrix = random_matrix(ROWS, columns, bits, codec, seed=columns)
        bias = random(ROWS, seed=3).to(FLOATS[columns % 3])
        check_all(native, matrix, quantized(matrix, bias), random(TOKENS, columns, seed=2), bias)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_plain_products_are_exact_and_bits_do_not_depend_on_the_company(native: Native, dtype: torch.dtype) -> None:
    for columns in (1, 7, 33, *COLUMNS):
        weight, bias = random(ROWS, columns, seed=columns).to(dtype), random(ROWS, seed=3).to(dtype)
        check_all(native, Matrix(16, ROWS, columns, weight), plain(weight, bias), random(TOKENS, columns, seed=2), bias)


@pytest.mark.parametrize("bits", LOSS)
def test_quantized_activations_lose_no_more_than_stated(native: Native, bits: int) -> None:
    for columns in (256, 2048):
        weight, x = random(ROWS, columns), random(TOKENS, columns, seed=2)
        matrix = Matrix(16, ROWS, columns, weight) if bits == 16 else codec_named("default").quantize(weight, bits)
        loss = exact.error(native.linear(quantized(matrix), x), x.double() @ exact.dense(matrix).T)
        assert LOSS[bits] / 5 < loss < LOSS[bits], f"{loss:.2g}"


@settings(deadline=None, max_examples=60)
@given(
    bits=st.sampled_from((2, 3, 4, 8)), codec=st.sampled_from(list(CODECS)), columns=st.integers(1, 700), rows=st.integers(1, 130),
    tokens=st.integers(1, 9), codes_at=st.integers(0, 63), x_at=st.integers(0, 15), threads=st.integers(1, 3), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape_at_any_address(
    bits: int, codec: str, columns: int, rows: int, tokens: int, codes_at: int, x_at: int, threads: int, seed: int
) -> None:
    matrix = random_matrix(rows, columns, bits, codec, seed)
    x = moved(random(tokens, columns, seed=seed + 1), 4 * x_at)
    codes = moved(matrix.codes, codes_at)
    results = []
    for name in SETS:
        native = Native(threads, name)
        made = quantized(matrix)
        made.codes = codes.data_ptr()
        results.append(native.linear(made, x))
        check(native, matrix, x, results[-1])
        native.close()


@pytest.mark.parametrize("codec", ["channel", "group64", "gptq64+outliers"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_threads_share_the_rows_and_change_no_bit(native: Native, bits: int, codec: str) -> None:
    matrix, x = random_matrix(1000, 512, bits, codec), random(6, 512, seed=2)
    made = quantized(matrix)
    alone = native.linear(made, x)
    try:
        for threads in (2, 3, 1):
            native.set_threads(threads)
            for tokens in (1, 6):
                assert all(torch.equal(native.linear(made, x[:tokens]), alone[:tokens]) for _ in range(10))
    finally:
        native.set_threads(1)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 40), columns=st.integers(1, 300), number=st.integers(1, 400), tokens=st.integers(1, 5), threads=st.integers(1, 2),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_outliers_that_no_codec_wrote_add_what_lies_inside(
    rows: int, columns: int, number: int, tokens: int, threads: int, seed: int
) -> None:
    """Counts that sum to too many or too few, columns anywhere: nothing past either end is read, and torch leaves out the same."""
    generator = torch.Generator().manual_seed(seed)
    apart = Outliers(
        torch.randint(0, 256, (rows,), generator=generator).to(torch.uint8),
        torch.randint(0, 2 * columns, (number,), generator=generator).to(torch.uint16),
        torch.randn(number, generator=generator).half(),
    )
    matrix = replace(of_codes(torch.zeros(rows, 8 * -(-columns // 8)), 4, 8), columns=columns, outliers=apart)
    x = random(tokens, columns, seed=seed)
    for name in SETS:
        native = Native(threads, name)
        check(native, matrix, x, native.linear(quantized(matrix), x))
        native.close()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_at_their_ends_meet_activations_at_theirs(native: Native, bits: int) -> None:
    """Where 8- and 16-bit sums would overflow, if they could."""
    top, columns = (1 << bits) - 1, 512
    codes = torch.cat((torch.zeros(4, columns), torch.full((4, columns), top), torch.arange(columns).remainder(2).mul(top).expand(4, -1)))
    ones = torch.ones(columns)
    x = torch.stack((ones, -ones, ones * torch.tensor((1.0, -1.0)).repeat(columns // 2), 3e4 * ones, ones * 1e-20))
    for group in (64, columns):
        matrix = of_codes(codes, bits, group)
        y = native.linear(quantized(matrix), x)
        check(native, matrix, x, y)
        assert torch.allclose(y[0, :8], torch.tensor([-top / 2] * 4 + [top / 2] * 4) * columns, rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_scales_of_all_sizes(native: Native, bits: int) -> None:
    codes = torch.randint(0, 1 << bits, (8, 256), generator=torch.Generator().manual_seed(1))
    scales = torch.tensor([0.0, 6e-8, 6.1e-5, 32767.0]).repeat(8, 1)  # none, the least subnormal half, the least normal, the largest
    for unit in (2.0**-126, 1.0, 2.0**40):
        matrix = of_codes(codes, bits, 64, scales, unit)
        x = random(5, 256)
        check(native, matrix, x, native.linear(quantized(matrix), x))


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
def test_extremes_of_activations(native: Native, bits: int) -> None:
    columns = 320
    bias = random(12, seed=5)
    matrix = random_matrix(12, columns, bits, "group64")
    made = quantized(matrix, bias)
    x = random(8, columns, seed=2)
    x[0] = 0
    x[1, 77] = 1e20  # its group has only it; the others are as precise as ever
    x[2] = 1e-40  # denormal
    x[3, :64] = 1e-33  # too small to divide by
    x[4] = x[4].sign() * 7  # all are the largest
    x[5, 3], x[6, 319], x[7] = torch.inf, torch.nan, -torch.inf
    y = native.linear(made, x)
    check(native, matrix, x[:5], y[:5], bias)
    assert torch.equal(y[0], bias) and torch.equal(y[2], bias)
    assert torch.equal(y.isfinite().all(1), torch.tensor([True] * 5 + [False] * 3)) and not y[5:].isfinite().any()
    for t in range(5):
        assert torch.equal(native.linear(made, x[t : t + 1])[0], y[t]), "what is not finite stays with its token"


@settings(deadline=None, max_examples=80)
@given(columns=st.integers(1, 300), kind=st.integers(0, 5), bits=st.sampled_from((8, 16)), seed=st.integers(0, 1000))
def test_activations_are_quantized_to_the_nearest_code_alike_by_all(columns: int, kind: int, bits: int, seed: int) -> None:
    x = random(2, columns, seed=seed)
    x = (x, x * 1e30, x * 1e-35, x.round(), torch.full_like(x, -2.5), x.where(x > 1, torch.zeros(())))[kind]
    if seed % 7 == 0:
        x[1, seed % columns] = (torch.nan, torch.inf, -torch.inf, 3.4028e38, 3.4e38)[seed // 7 % 5]
    top, made = (1 << (bits - 1)) - 1, []
    for name in SETS:
        native = Native(1, name)
        made.append(exact.quantized(native, x, bits))
        native.close()
    for other in made[1:]:
        for a, b in zip(made[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=0, rtol=0, equal_nan=True)
    found = made[0]
    assert int(found.codes.abs().max()) <= top and not found.codes[:, columns:].any()
    finite = found.scales.isfinite()
    for t, start in ((t, start) for t in range(2) for start in range(0, columns, exact.GROUP)):
        part, g = x[t, start : start + exact.GROUP], start // exact.GROUP
        assert bool(finite[t, g]) == bool(part.isfinite().all())
        if finite[t, g]:
            wrong = (found.values(columns)[t, start : start + exact.GROUP] - part.double()).abs().max()
            assert wrong <= (0.5 + 1e-2) * float(part.abs().max()) / top or wrong <= 1e-30
            total = float(found.scales[t, g]) * float(found.codes[t, start : start + exact.GROUP].long().sum())
            assert float(found.sums[t, g]) == pytest.approx(total, rel=1e-6)


def test_the_best_set_is_taken_and_unknown_ones_are_refused() -> None:
    native = Native()
    assert native.name == SETS[0]
    native.close()
    with pytest.raises(EngineError, match="does not run the MMX kernels"):
        Native(1, "MMX")


