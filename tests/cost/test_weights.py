"""Bytes of a stored tensor in its three forms, and bits of a code."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.cost.weights import dense_bytes, few_bit_bytes, sparse_bytes, stored_bytes
from laconic.records import Codebook, IntTensor, RawTensor, TensorFacts, UniformGrid


@pytest.mark.parametrize(
    ("integers", "bits"),
    [
        ([0], 1), ([-1], 1), ([-1, 0], 1), ([1], 2), ([-1, 1], 2), ([-2, 1], 2), ([2], 3), ([-3], 3),
        ([3, -4], 3), ([127, -128], 8), ([128], 9), ([-129], 9),
    ],
)  # fmt: skip
def test_bits_of_a_uniform_grid_are_those_of_twos_complement(integers: list[int], bits: int) -> None:
    """2^(b-1) - 1 is the largest number of b bits, -2^(b-1) the smallest."""
    facts = IntTensor("w", np.array(integers, np.int32), UniformGrid(0.5)).cost()
    assert facts.bits == facts.value_bits == bits
    assert -(2 ** (bits - 1)) <= min(integers)
    assert max(integers) <= 2 ** (bits - 1) - 1


@pytest.mark.parametrize(("levels", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (16, 4), (17, 5)])
def test_bits_of_a_codebook(levels: int, bits: int) -> None:
    grid = Codebook(tuple(float(k) for k in range(levels)))
    facts = IntTensor("w", np.zeros(3, np.int32), grid).cost()
    assert (facts.bits, facts.value_bits, facts.table_bytes) == (bits, 32, 4 * levels)
    assert facts.nonzeros == 0  # index 0 stands for 0.0


def test_raw_tensors_keep_their_width() -> None:
    assert RawTensor("w", np.ones(3, np.float32)).cost().bits == 32
    assert RawTensor("w", np.ones(3, np.float16)).cost().bits == 16
    assert RawTensor("w", np.ones(3, np.int64)).cost().bits == 64
    assert RawTensor("w", np.array([1, 0], np.float32)).cost().nonzeros == 1


def test_the_three_forms_by_hand() -> None:
    """100 x 300 codes of 3 bits, 500 of them not zero; a step of 4 bytes."""
    facts = TensorFacts("w", (100, 300), 500, 3, 3, 4)
    assert dense_bytes(facts) == 120_000
    assert few_bit_bytes(facts) == 30_000 * 3 // 8 + 4
    assert sparse_bytes(facts) == -(-500 * (16 + 3) // 8) + 4 * 101 + 4
    assert stored_bytes(facts) == sparse_bytes(facts)


def test_a_full_matrix_is_stored_dense() -> None:
    facts = TensorFacts("w", (100, 300), 30_000, 32, 32)
    assert stored_bytes(facts) == few_bit_bytes(facts) == dense_bytes(facts)


def test_columns_beyond_sixteen_bits_take_wider_indices() -> None:
    narrow, wide = TensorFacts("w", (1, 65_536), 10, 32, 32), TensorFacts("w", (1, 65_537), 10, 32, 32)
    assert sparse_bytes(narrow) == 10 * 6 + 8
    assert sparse_bytes(wide) == 10 * 8 + 8


def test_a_vector_has_no_sparse_form() -> None:
    assert sparse_bytes(TensorFacts("b", (9,), 1, 32, 32)) is None
    assert stored_bytes(TensorFacts("b", (9,), 1, 32, 32)) == 36
