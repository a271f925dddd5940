"""Tensors of other kinds: a few bytes that claim many entries, or long sums."""

from __future__ import annotations

import numpy as np

from laconic.pack.graph.ops import make_node as node
from laconic.records import (
    Codebook,
    HashedTensor,
    IntTensor,
    ProductTensor,
    RandomCodeTensor,
    RawTensor,
    UniformGrid,
)
from tests.attacks.files import constant, file_of, raw

ONE = UniformGrid(1.0)


def _linear(weight: HashedTensor | ProductTensor | RandomCodeTensor, columns: int) -> bytes:
    return file_of([(None, columns)], [node("linear", (0, -1))], [weight])


def hashed_from_one_bucket() -> bytes:
    """64 million weights, 268 MB, from one bucket."""
    return _linear(HashedTensor("w", (2**13, 2**13), 1, RawTensor("", np.ones(1, np.float32))), 2**13)


def hashed_as_large_as_memory_allows() -> bytes:
    """A million weights need little memory, but their values are computed again at each use."""
    return _linear(HashedTensor("w", (2**10, 2**10), 1, RawTensor("", np.ones(1, np.float32))), 2**10)


def random_codes_of_single_weights() -> bytes:
    """A block for each of a million weights, the indices all equal: no bits for any."""
    codes = IntTensor("", np.zeros(2**20, np.int32), ONE)
    return _linear(RandomCodeTensor("w", (2**10, 2**10), 1, 1, codes, (1.0,)), 2**10)


def product_of_long_factors() -> bytes:
    """A matrix of 16 x 16 whose entries are sums of 65 536 products."""
    left, right = constant("", 16, 2**16), constant("", 2**16, 16)
    return _linear(ProductTensor("w", left, right), 16)


def product_of_thin_factors() -> bytes:
    """8 192 x 8 192 entries from two vectors."""
    return _linear(ProductTensor("w", constant("", 2**13, 1), constant("", 1, 2**13)), 2**13)


def one_long_codebook_for_many_tensors() -> bytes:
    """Each tensor refers to it in one byte, and the table of 65 536 levels is built for each."""
    book = Codebook(tuple(float(k) for k in range(2**16)))
    tensors = [IntTensor(f"w{k}", np.zeros((2, 2), np.int32), book) for k in range(1000)]
    return file_of([(None, 2)], [node("linear", (0, -1))], tensors)


def many_small_tensors_of_kinds() -> bytes:
    """Five thousand tensors, each with a part."""
    tensors = [HashedTensor(f"w{k}", (2, 2), k, RawTensor("", np.ones(1, np.float32))) for k in range(5000)]
    return file_of([(None, 2)], [node("linear", (0, -1))], [raw("w", np.ones((2, 2))), *tensors])


def a_step_for_each_of_many_rows() -> bytes:
    """A hundred thousand steps."""
    weight = IntTensor("w", np.zeros((100_000, 1), np.int32), UniformGrid((0.5,) * 100_000, 0))
    return file_of([(None, 1)], [node("linear", (0, -1))], [weight])
