"""Sums, means and additions of integers against loops over Python integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.pack.graph.ops import make_node
from laconic.runtime.emulation import Int8, Int16x8, Quantised, kernels
from laconic.runtime.emulation.values import Encoding
from tests.helpers import gemmlowp

RNG = np.random.default_rng(7)


def encoded(integers: np.ndarray, scale: float = 0.1, zero: int = -5) -> Quantised:
    return Quantised(integers.astype(np.int64), Encoding(float(np.float32(scale)), zero, -128, 127))


@pytest.mark.parametrize("adds_only", [False, True])
def test_linear(adds_only: bool) -> None:
    x = RNG.integers(-255, 256, (2, 3, 7))
    weight = RNG.integers(-1, 2, (4, 7)) if adds_only else RNG.integers(-127, 128, (4, 7))
    got = kernels.linear_sums(x, weight.astype(np.int8), adds_only)
    for a, b, o in itertools.product(range(2), range(3), range(4)):
        assert got[a, b, o] == gemmlowp.linear_sum(x[a, b].tolist(), weight[o].tolist())
    with pytest.raises(InputError, match="7 inputs met 6"):
        kernels.linear_sums(x[..., :6], weight.astype(np.int8), adds_only)


@pytest.mark.parametrize(
    ("groups", "stride", "padding", "dilation"),
    [(1, 1, 0, 1), (1, 2, 1, 1), (2, 1, 2, 2), (4, 3, 1, 1), (4, 1, 0, 2)],
)
@pytest.mark.parametrize("adds_only", [False, True])
def test_conv(groups: int, stride: int, padding: int, dilation: int, adds_only: bool) -> None:
    x = RNG.integers(-255, 256, (2, 4, 7, 6))
    bound = 1 if adds_only else 127
    weight = RNG.integers(-bound, bound + 1, (8, 4 // groups, 3, 2))
    attrs = {"stride": (stride,), "padding": (padding,), "dilation": (dilation,), "groups": groups}
    got = kernels.conv_sums(x, weight.astype(np.int8), make_node("conv", (0, -1), **attrs), adds_only)
    for n, o, i, j in itertools.product(range(2), range(8), range(got.shape[2]), range(got.shape[3])):
        first = o // (8 // groups) * (4 // groups)
        wanted = gemmlowp.conv_sum(
            x[n].tolist(), weight[o].tolist(), (i, j), stride, padding, dilation, first
        )
        assert got[n, o, i, j] == wanted
    assert got.shape[2] == (7 + 2 * padding - 2 * dilation - 1) // stride + 1


def test_sums_are_exact_beyond_float32() -> None:
    x = np.full((1, 5000), 32767)
    weight = np.full((1, 5000), 127, np.int8)
    weight[0, 0] = 126
    assert kernels.linear_sums(x, weight, False)[0, 0] == 32767 * (127 * 5000 - 1)
    assert kernels.linear_sums(x - 1, weight, False)[0, 0] == 32766 * (127 * 5000 - 1)


def test_many_windows_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = RNG.integers(-9, 9, (5, 2, 6, 6)), RNG.integers(-9, 9, (3, 2, 3, 3)).astype(np.int8)
    node = make_node("conv", (0, -1))
    whole = kernels.conv_sums(x, weight, node, False)
    monkeypatch.setattr(kernels, "PIECE", 700)
    assert np.array_equal(kernels.conv_sums(x, weight, node, False), whole)


@pytest.mark.parametrize("zero", [-128, -5, 40])
@pytest.mark.parametrize("exclude", [False, True])
def test_average_pooling(zero: int, exclude: bool) -> None:
    x = RNG.integers(-128, 128, (2, 3, 5, 5))
    attrs = {"kernel": (3,), "stride": (2,), "padding": (1,), "exclude_pad": exclude}
    got = kernels.average(encoded(x, zero=zero), make_node("avg_pool", (0,), **attrs))
    assert got.encoding.zero_point == zero
    for n, c, i, j in itertools.product(range(2), range(3), range(3), range(3)):
        inside = [
            int(x[n, c, y, z])
            for y, z in itertools.product(range(2 * i - 1, 2 * i + 2), range(2 * j - 1, 2 * j + 2))
            if 0 <= y < 5 and 0 <= z < 5
        ]
        padded = inside if exclude else inside + [zero] * (9 - len(inside))
        assert got.integers[n, c, i, j] == gemmlowp.rounded_mean(padded, len(padded))


@pytest.mark.parametrize("arithmetic", [Int8(), Int16x8()])
def test_means_over_axes(arithmetic: Int8 | Int16x8) -> None:
    x = RNG.integers(-128, 128, (2, 3, 4, 5))
    given, zero = encoded(x), -5
    pooled = kernels.average(given, make_node("global_avg_pool", (0,))).integers
    axes = kernels.mean(given, make_node("mean", (0,), dims=(2, -1)), arithmetic).integers
    kept = kernels.mean(given, make_node("mean", (0,), dims=(2, -1), keepdim=True), arithmetic).integers
    whole = kernels.mean(given, make_node("mean", (0,), dims=()), arithmetic).integers
    assert kept.shape == (2, 3, 1, 1) and np.array_equal(kept[..., 0, 0], axes)
    for n, c in itertools.product(range(2), range(3)):
        entries = x[n, c].ravel().tolist()
        assert pooled[n, c, 0, 0] == gemmlowp.rounded_mean(entries, 20)
        assert axes[n, c] == gemmlowp.scaled_mean(entries, zero)
    assert int(whole) == gemmlowp.scaled_mean(x.ravel().tolist(), zero)


def test_additions() -> None:
    a, b = RNG.integers(-128, 128, 500), RNG.integers(-128, 128, 500)
    one, two = encoded(a, 0.07, 3), encoded(b, 0.21, -128)
    out = Encoding(float(np.float32(0.15)), -20, -128, 127)
    got = kernels.add(one, two, out, Int8())
    scales = one.encoding.scale, two.encoding.scale, out.scale
    wanted = [gemmlowp.add_int8(int(p), int(q), scales, (3, -128, -20)) for p, q in zip(a, b, strict=True)]
    assert got.tolist() == wanted
    fine = Encoding(float(np.float32(3.37e-5)), 0, -128, 127)  # where the bits below the point show
    scales = *scales[:2], fine.scale
    got_fine = kernels.add(one, two, fine, Int8()).tolist()
    zeros = (3, -128, 0)
    assert got_fine == [gemmlowp.add_int8(int(p), int(q), scales, zeros) for p, q in zip(a, b, strict=True)]
    exact = (one.values().astype(float) + two.values()) / out.scale - 20
    assert np.abs(got - exact).max() <= 0.51
    wide = Quantised(one.centred * 100, Encoding(one.encoding.scale / 100, 0, -32768, 32767))
    target = Encoding(out.scale / 200, 0, -32768, 32767)
    sixteen = kernels.add(wide, wide, target, Int16x8())
    assert np.abs(sixteen - 2 * wide.values().astype(float) / target.scale).max() <= 1.0


def test_rescaling_keeps_equal_encodings_bit_for_bit() -> None:
    x = encoded(RNG.integers(-128, 128, 50))
    assert kernels.rescale(x, x.encoding, Int8()) is x.integers
    other = Encoding(float(np.float32(0.2)), 10, -128, 127)
    multiplier = gemmlowp.quantize_multiplier(x.encoding.scale / other.scale)
    wanted = [gemmlowp.multiply(int(q) + 5, *multiplier) + 10 for q in x.integers]
    assert kernels.rescale(x, other, Int8()).tolist() == wanted


def test_sums_that_overflow_are_refused() -> None:
    assert kernels.check_sums(np.array([2**31 - 1, -(2**31) + 1]), 32) is not None
    with pytest.raises(InputError, match="overflow the 32-bit accumulator"):
        kernels.check_sums(np.array([2**31]), 32)


def test_reals_become_integers_as_in_c() -> None:
    encoding = Encoding(0.5, 3, -128, 127)
    x = np.float32([0.25, -0.25, 0.24, 100.0, -100.0, np.inf, -np.inf])
    assert encoding.encode(x).integers.tolist() == [4, 2, 3, 127, -128, 127, -128]
    assert encoding.encode(x[:3]).values().tolist() == [0.5, -0.5, 0.0]
    assert encoding.saturate(np.array([-300, 0, 300]), low=3, high=99).tolist() == [3, 3, 99]
