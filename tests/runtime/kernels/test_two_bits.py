"""The two-bit kernel against sums of integers: odd shapes, strange x, all code paths, no compiler."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.records import FloatArray, IntArray
from laconic.runtime.kernels import TwoBitMatrix, native, plain, two_bits
from laconic.runtime.kernels.two_bit_forms import TwoBits, packed

compiled = pytest.mark.skipif(native.two_bit_extension() is None, reason="installed without a compiler")
STEP = 0.0123


def integers(rows: int, cols: int, lowest: int = -1, highest: int = 1, seed: int = 0) -> IntArray:
    q = np.random.default_rng(seed).integers(lowest, highest, (rows, cols), endpoint=True).astype(np.int32)
    q.reshape(-1)[:1] = lowest  # so that the whole range is used
    return q


def inputs(batch: int, cols: int, seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((batch, cols)).astype(np.float32)


def oracle(q: IntArray, x: FloatArray, bias: FloatArray | None = None, relu: bool = False) -> FloatArray:
    """Exactly what the kernel promises, bit for bit: roundings one by one, the sums in 64-bit integers."""
    y = np.empty((len(x), len(q)), np.float32)
    for b, row in enumerate(x):
        most = max((abs(value) for value in row), default=np.float32(0))
        times = np.float32(127) / most if most > 0 else np.float32(0)
        whole = [round(Fraction(float(np.float32(value * times)))) for value in row]
        sums = q.astype(np.int64) @ np.array(whole, np.int64)
        y[b] = sums.astype(np.float32) * (np.float32(STEP) * (most / np.float32(127)))
    y = y if bias is None else y + bias
    return np.maximum(y, np.float32(0)) if relu else y


@pytest.fixture(params=["compiled", "numpy"])
def code(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "numpy":
        monkeypatch.setattr(native, "two_bit_extension", lambda: None)
        monkeypatch.setattr(plain, "ROWS_AT_ONCE", 7)
        monkeypatch.setattr(plain, "EXACT", 50 * 3 * 127)
    elif native.two_bit_extension() is None:
        pytest.skip("installed without a compiler")
    return str(request.param)


@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 15), (4, 16), (5, 64), (9, 65), (6, 255), (7, 256), (2, 257), (4, 400), (11, 1025)]
)
@pytest.mark.parametrize("levels", [(-1, 1), (-2, 1), (-3, 0), (0, 3), (0, 0)])
def test_every_bit_is_the_oracles(shape: tuple[int, int], levels: tuple[int, int], code: str) -> None:
    q = integers(*shape, *levels)
    matrix = TwoBitMatrix(two_bits(q, STEP))
    bias = inputs(1, shape[0])[0]
    for batch in (0, 1, 3):
        x = inputs(batch, shape[1])
        np.testing.assert_array_equal(matrix(x), oracle(q, x))
        np.testing.assert_array_equal(matrix(x, bias, relu=True), oracle(q, x, bias, relu=True))
    np.testing.assert_array_equal(matrix(x[0]), oracle(q, x)[0])


def test_the_oracle_sees_one_wrong_weight() -> None:
    q, x = integers(5, 40), inputs(1, 40)
    wrong = q.copy()
    wrong[3, 39] = 0 if q[3, 39] else 1
    assert (TwoBitMatrix(two_bits(wrong, STEP))(x) != oracle(q, x)).any()


def test_the_error_stays_within_what_is_promised(code: str) -> None:
    q, x = integers(50, 700), inputs(6, 700)
    right = x.astype(np.float64) @ q.T * STEP
    bound = np.abs(q).sum(axis=1) * STEP * np.abs(x).max(axis=1, keepdims=True) / 254
    gap = np.abs(TwoBitMatrix(two_bits(q, STEP))(x) - right)
    assert (gap <= bound * (1 + 1e-4)).all()
    assert gap.max() > 0


def test_more_rows_of_x_than_are_rounded_together(code: str) -> None:
    q, x = integers(6, 300), inputs(131, 300)
    np.testing.assert_array_equal(TwoBitMatrix(two_bits(q, STEP))(x), oracle(q, x))


def test_strange_activations(code: str) -> None:
    q = integers(9, 300)
    matrix = TwoBitMatrix(two_bits(q, STEP))
    x = inputs(7, 300)
    x[0, 5], x[1, 299], x[2, 0] = np.nan, np.inf, -np.inf
    x[3], x[4], x[5] = 0, 1e-40, 3e38
    y = matrix(x)
    assert np.isnan(y[:3]).all()
    assert (y[3:5] == 0).all()
    np.testing.assert_array_equal(y[5:], oracle(q, x[5:]))
    assert np.isnan(matrix(x, relu=True)[:3]).all()


def test_ties_go_to_even(code: str) -> None:
    x = np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5]], np.float32)
    y = TwoBitMatrix(two_bits(np.eye(6, dtype=np.int32), 1.0))(x)
    assert y.tolist() == [[127, 0, 2, 2, 0, -2]]


@compiled
@pytest.mark.parametrize("cols", [48, 256, 333, 1100])
def test_all_code_paths_give_the_same_bits(cols: int) -> None:
    code = native.two_bit_extension()
    assert code is not None
    form, x = two_bits(integers(30, cols, -2, 1), STEP), inputs(5, cols)
    memory = np.empty(x.nbytes + 8, np.uint8)
    names = code.variants()
    assert names[0] == "baseline"
    right = oracle(form.integers, x)
    for name in names:
        matrix = TwoBitMatrix(form, variant=name)
        assert matrix.code == name
        np.testing.assert_array_equal(matrix(x), right)
        for offset in (4, 1):  # not at a vector's beginning, and not at a number's
            moved = memory[offset : offset + x.nbytes].view(np.float32).reshape(x.shape)
            moved[...] = x
            np.testing.assert_array_equal(matrix(moved), right)


def test_threads_change_no_bit() -> None:
    form = two_bits(integers(2050, 700), STEP)
    with ThreadPoolExecutor(3) as pool:
        together = TwoBitMatrix(form, threads=4, pool=pool)
        for batch in (5, 150):
            x = inputs(batch, 700)
            assert len(list(together._parts(batch))) > 1
            np.testing.assert_array_equal(together(x), TwoBitMatrix(form)(x))


@compiled
def test_memory_is_two_bits_a_weight() -> None:
    for shape in ((4096, 4096), (1000, 1000)):
        matrix = TwoBitMatrix(two_bits(integers(*shape), STEP))
        assert 8 * matrix.nbytes <= 2.1 * shape[0] * shape[1]


def test_columns_lie_where_the_kernel_looks() -> None:
    q = integers(5, 300, 0, 3)
    found = packed(two_bits(q, 1.0)).reshape(2, 4 * (64 + 16))
    for row, column in ((0, 0), (1, 63), (2, 64), (3, 255), (4, 130), (0, 256), (2, 272), (4, 299)):
        group, r = divmod(row, 4)
        if column < 256:
            byte, k = found[group, r * 64 + column % 64], column // 64
        else:
            byte, k = found[group, 256 + r * 16 + (column - 256) % 16], (column - 256) // 16
        assert byte >> 2 * k & 3 == q[row, column]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"integers -2 \.\. 2 in 3 columns do not fit in two bits"):
        two_bits(np.array([[-2, 0, 2]], np.int32), 1.0)
    with pytest.raises(InputError, match="do not fit in two bits"):
        two_bits(np.array([[5, 6]], np.int32), 1.0)
    with pytest.raises(InputError, match=r"has rows and columns, got the shape \(3,\)"):
        two_bits(np.ones(3, np.int32), 1.0)
    matrix = TwoBitMatrix(two_bits(integers(4, 6), STEP))
    with pytest.raises(InputError, match=r"a matrix of 4x6 takes float32 \(\.\.\., 6\), got"):
        matrix(np.ones((1, 5), np.float32))
    with pytest.raises(InputError, match="the bias must be float32"):
        matrix(np.ones((1, 6), np.float32), np.ones(5, np.float32))
    with pytest.raises(InputError, match=r"no avx9; it runs"):
        TwoBitMatrix(two_bits(integers(4, 6), STEP), variant="avx9")


@compiled
def test_the_compiled_code_checks_sizes_and_calls() -> None:
    code = native.two_bit_extension()
    assert code is not None
    form = two_bits(integers(10, 300), STEP)
    fine: list[Any] = [10, 300, form.lowest, STEP, packed(form)]
    changes: list[tuple[int, Any]] = [
        (0, -1),
        (0, 13),
        (0, 2**40),
        (1, -1),
        (1, 330),
        (1, 2**21),
        (2, 1),
        (2, -4),
    ]
    for place, value in [*changes, (4, packed(form)[1:])]:
        with pytest.raises(ValueError):
            code.pack(*fine[:place], value, *fine[place + 1 :])
    with pytest.raises(InputError, match="contradicts itself"):
        native.two_bit_block(TwoBits(form.integers, -9, STEP), code, 0)
    matrix, x, y = code.pack(*fine), inputs(2, 300), np.zeros((2, 10), np.float32)
    call: list[Any] = [matrix, x, 300, 2, y, None, False, False, 0, 10, 0]
    code.multiply(*call)
    np.testing.assert_array_equal(y, oracle(form.integers, x))
    wrong: list[tuple[int, Any]] = [
        (2, 299),
        (3, 3),
        (3, -1),
        (4, y[:1].copy()),
        (8, 2),
        (9, 9),
        (10, 9),
        (10, -1),
    ]
    for place, value in wrong:
        with pytest.raises(ValueError):
            code.multiply(*call[:place], value, *call[place + 1 :])
    sparse = native.extension()
    if sparse is not None:
        with pytest.raises(ValueError):
            sparse.multiply(*call)


def test_it_says_that_the_extension_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "two_bit_extension", lambda: None)
    matrix = TwoBitMatrix(two_bits(integers(4, 4), STEP))
    assert matrix.code == "numpy"
    assert "compiled kernel is missing" in matrix.note
