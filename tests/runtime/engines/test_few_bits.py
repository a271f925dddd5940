"""Weights with a step for each row, in every implementation that keeps few bits, and in the sparse kernel."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.records import Codebook, HashedTensor, IntTensor, RawTensor, Tensor, UniformGrid
from laconic.runtime.engines import measure
from laconic.runtime.engines.few_bits import PackedImplementation, implementations_for, own_two_bits, scaled
from laconic.runtime.engines.own import own_matrix

RNG = np.random.default_rng(8)
STEPS = tuple(float(s) for s in RNG.uniform(0.01, 3, 32).astype(np.float32))
X = RNG.standard_normal((5, 128)).astype(np.float32)


def by_row(low: int, high: int) -> IntTensor:
    integers = RNG.integers(low, high + 1, (32, 128)).astype(np.int32)
    return IntTensor("w", integers, UniformGrid(STEPS, 0))


@pytest.mark.parametrize(
    ("low", "high", "implementations"),
    [
        (-2, 1, {"2-bit-int8", "4-bit", "4-bit-int8", "8-bit-int8"}),
        (-8, 7, {"4-bit", "4-bit-int8", "8-bit-int8"}),
        (-127, 127, {"8-bit-int8"}),
        (-128, 127, set()),
    ],
)
def test_few_bits_with_a_step_for_each_row(
    low: int, high: int, implementations: set[PackedImplementation]
) -> None:
    weight = by_row(low, high)
    assert set(implementations_for(weight)) == implementations
    right = X @ weight.values().T
    for implementation in implementations:
        y = np.asarray(measure.layer_call(weight, implementation, X, 1)[0]()[0])
        share = np.abs(y - right).max(0) / np.abs(right).max(0)
        assert share.max() < (1e-5 if implementation == "4-bit" else 0.03), implementation


def test_our_two_bit_kernel_has_one_step() -> None:
    assert own_two_bits(by_row(-1, 1)) is None
    assert own_two_bits(IntTensor("w", by_row(-1, 1).integers, UniformGrid(0.5))) is not None


@pytest.mark.parametrize(
    "weight",
    [
        IntTensor("w", np.zeros((32, 128), np.int32), UniformGrid((1.0,) * 128, 1)),
        IntTensor("w", np.zeros((2, 2), np.int32), Codebook(((0.0, 1.0), (0.0, 2.0)), 0)),
        HashedTensor("w", (2, 2), 0, RawTensor("", np.ones(2, np.float32))),
    ],
)
def test_what_is_no_multiple_by_row_has_no_way(weight: Tensor) -> None:
    assert scaled(weight) is None
    assert implementations_for(weight) == ()


@pytest.mark.parametrize("kind", ["steps by row", "steps by column", "codebooks", "hashed"])
def test_the_sparse_kernel_takes_values_where_no_table_is_shared(kind: str) -> None:
    integers = by_row(-3, 3).integers * (RNG.random((32, 128)) < 0.1)
    weight: Tensor = IntTensor("w", integers.astype(np.int32), UniformGrid(STEPS, 0))
    if kind == "steps by column":
        weight = IntTensor("w", integers.astype(np.int32), UniformGrid(STEPS * 4, 1))
    elif kind == "codebooks":
        books = tuple((-step, 0.0, step) for step in STEPS)
        weight = IntTensor("w", np.clip(integers, -1, 1).astype(np.int32) + 1, Codebook(books, 0))
    elif kind == "hashed":
        buckets = np.where(RNG.random(40) < 0.2, RNG.normal(size=40), 0).astype(np.float32)
        weight = HashedTensor("w", (32, 128), 3, RawTensor("", buckets))
    y = np.array(own_matrix(weight, "sparse", 1, None)(X, None, False))
    assert np.allclose(y, X @ weight.values().T, atol=1e-4)
