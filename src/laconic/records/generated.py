"""Tensors whose values are computed from less data: hashed weights, random codes, products of two factors.

Their values are computed by integer arithmetic, table look-ups and single IEEE operations, so that they have
the same bits on every machine. Engines without support for them multiply by these values in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from laconic.errors import InputError
from laconic.records.base import AnyArray, FloatArray, record
from laconic.records.facts import TensorFacts
from laconic.records.grids import UniformGrid
from laconic.records.random_bits import QUANTILE_BITS, normal_quantiles, random_words
from laconic.records.tensors import IntTensor, RawTensor, Tensor, described

_PIECE = 1 << 16
_LARGEST_SCALE = 2.0**120


def _check_seed(name: str, seed: int) -> None:
    if not 0 <= seed < 2**64:
        raise InputError(f"tensor {name!r}: the seed must be in 0..2^64-1, got {seed}. Cure: seed=0")


def _part(name: str, what: str, tensor: Tensor, rank: int) -> None:
    """Refuse a part of another kind, type or rank, naming both."""
    if not isinstance(tensor, IntTensor | RawTensor):
        raise InputError(
            f"tensor {name!r}: its {what} are a {type(tensor).__name__}. Cure: an IntTensor or a RawTensor"
        )
    if tensor.dtype != "float32" or len(tensor.shape) != rank:
        raise InputError(
            f"tensor {name!r}: its {what} are {tensor.dtype} of shape {tensor.shape}. "
            f"Cure: float32 of {rank} dimension{'s' * (rank > 1)}"
        )


def _bytes_of(part: IntTensor | RawTensor) -> int:
    """Bytes of a part's codes, side by side, and of its grid's numbers."""
    own = part.cost()
    return -(-own.entries * own.bits // 8) + own.table_bytes


def _pieces(size: int) -> Iterator[slice]:
    """0..size in pieces that fit in the cache."""
    return (slice(start, min(size, start + _PIECE)) for start in range(0, size, _PIECE))


@record
class HashedTensor(Tensor):
    """Weights that share the values of a few buckets, chosen by a hash of their position.

    Entry e (in C order) is ``s(e) * bucket[h(e)]``; with the 64 random bits r of (seed, e), h is
    ``(r >> 32) * m >> 32`` for m buckets and s is -1 if r is odd, else 1.

    Args:
        name: The tensor's name.
        shape: Its dimensions.
        seed: 0..2^64-1.
        buckets: Float32 values of shape (m,), m in 1..2^32-1: an IntTensor or a RawTensor.

    Raises:
        InputError: A seed out of range, or buckets of another type, shape or number.

    Source: Chen, Wilson, Tyree, Weinberger and Chen, "Compressing neural networks with the hashing trick",
    ICML 2015, equations 3 and 7.

    >>> hashed = HashedTensor("w", (2, 3), 7, RawTensor("", np.array([1.0, 2.0], np.float32)))
    >>> hashed.values().tolist()
    [[-1.0, 1.0, 2.0], [-2.0, 1.0, -1.0]]
    """

    name: str
    shape: tuple[int, ...]
    seed: int
    buckets: IntTensor | RawTensor

    def __post_init__(self) -> None:
        _check_seed(self.name, self.seed)
        _part(self.name, "buckets", self.buckets, 1)
        if not 1 <= self.buckets.size < 2**32:
            raise InputError(f"tensor {self.name!r} has {self.buckets.size} buckets. Cure: at least one")

    def places(self, entries: slice) -> tuple[AnyArray, AnyArray]:
        """Of these entries in C order: each one's bucket (uint64), and whether it is negated."""
        numbers = np.arange(entries.start, entries.stop, dtype=np.uint64)
        r = random_words(np.array([self.seed], np.uint64), numbers)
        bucket = (r >> np.uint64(32)) * np.uint64(self.buckets.size) >> np.uint64(32)
        return bucket, (r & np.uint64(1)).astype(np.bool_)

    def values(self) -> FloatArray:
        """The bucket of each entry, or 0 minus it."""
        table = self.buckets.values()
        out = np.empty(self.size, np.float32)
        for piece in _pieces(self.size):
            bucket, negated = self.places(piece)
            found = table[bucket]
            out[piece] = np.where(negated, np.float32(0) - found, found)
        return out.reshape(self.shape)

    def cost(self) -> TensorFacts:
        """No bits for each entry; the buckets and the seed."""
        return TensorFacts(self.name, self.shape, self.nonzeros(), 0, 32, _bytes_of(self.buckets) + 8)


@record
class RandomCodeTensor(Tensor):
    """Blocks of weights, each the sample number ``indices[b]`` that a shared random generator draws for it.

    Entry j of block b is ``float32(scale) * quantile[r >> 52]`` with the 64 random bits r of position j under
    the key of (seed, b, indices[b]), and the 4096 normal quantiles of :func:`laconic.records.random_bits`.

    Args:
        name: The tensor's name.
        shape: Its dimensions.
        seed: 0..2^64-1.
        block: Consecutive entries (in C order) of one block, at least 1; the last block may be shorter.
        indices: One integer from 0 on for each block: an IntTensor on the grid ``UniformGrid(1.0)``.
        scales: Standard deviations, float32 in 0..2^120: one, or one for each index of the first dimension.

    Raises:
        InputError: A field out of range, or indices or scales of another number.

    Source: Havasi, Peharz and Hernandez-Lobato, "Minimal random code learning", ICLR 2019, section 3.

    >>> indices = IntTensor("", np.array([0, 5], np.int32), UniformGrid(1.0))
    >>> code = RandomCodeTensor("w", (3,), 7, 2, indices, (1.0,))
    >>> code.values()[:2].tolist()
    [0.27800846099853516, -0.2299697995185852]
    """

    name: str
    shape: tuple[int, ...]
    seed: int
    block: int
    indices: IntTensor
    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_seed(self.name, self.seed)
        problem = self._problem()
        if problem is not None:
            raise InputError(f"tensor {self.name!r}: {problem}")

    def _problem(self) -> str | None:
        if self.block < 1:
            return f"a block has {self.block} entries. Cure: at least 1"
        blocks, rows = -(-self.size // self.block), self.shape[0] if self.shape else 1
        own = self.indices
        if not isinstance(own, IntTensor) or own.grid != UniformGrid(1.0) or own.shape != (blocks,):
            return (
                f"its indices are {described(own)}. Cure: an IntTensor of shape ({blocks},) on "
                "UniformGrid(1.0)"
            )
        if int(own.integers.min(initial=0)) < 0:
            return f"index {int(own.integers.min())} is negative. Cure: indices from 0"
        if not self.scales or len(self.scales) not in (1, rows):
            return f"it has {len(self.scales)} scales. Cure: one" + (f", or {rows}" if rows > 1 else "")
        for scale in self.scales:
            if not (0 <= scale <= _LARGEST_SCALE and float(np.float32(scale)) == scale):
                return f"a scale must be a float32 in 0..2^120, got {scale!r}. Cure: 0.5"
        return None

    def values(self) -> FloatArray:
        """The drawn samples times their scales."""
        table, out = normal_quantiles(), np.empty(self.size, np.float32)
        for piece in _pieces(self.size):
            entries = np.arange(piece.start, piece.stop, dtype=np.uint64)
            block, place = np.divmod(entries, np.uint64(self.block))
            first = int(block[0])
            keys = self._keys(first, int(block[-1]) + 1)[block - np.uint64(first)]
            out[piece] = table[random_words(keys, place) >> np.uint64(64 - QUANTILE_BITS)]
        found = out.reshape(self.shape)
        scales = np.array(self.scales, np.float32)
        found *= scales.reshape(-1, *[1] * (len(self.shape) - 1)) if len(self.scales) > 1 else scales[0]
        return found

    def _keys(self, first: int, last: int) -> AnyArray:
        """The seeds of blocks first..last-1."""
        blocks = random_words(np.array([self.seed], np.uint64), np.arange(first, last, dtype=np.uint64))
        return random_words(blocks, self.indices.integers[first:last].astype(np.uint64))

    def cost(self) -> TensorFacts:
        """No bits for each entry; indices, scales and the seed."""
        table = _bytes_of(self.indices) + 4 * len(self.scales) + 8
        return TensorFacts(self.name, self.shape, self.nonzeros(), 0, 32, table)


@record
class ProductTensor(Tensor):
    """A matrix of low rank as the product of two stored factors.

    ``w[i, j] = float32(sum over k of float64(left[i, k]) * float64(right[k, j]))``: the products are exact,
    the sum takes k = 0, 1, ... in order, rounded to float64 each time, and is rounded to float32 once
    at the end.

    Args:
        name: The tensor's name.
        left: (rows, rank) float32: an IntTensor or a RawTensor.
        right: (rank, columns) float32.

    Raises:
        InputError: Factors of another type or rank, or whose inner dimensions differ.

    Two layers with the factors as weights are smaller and faster at run time: a layer with this tensor
    multiplies by the whole matrix.

    >>> left = RawTensor("", np.array([[1.0], [2.0]], np.float32))
    >>> ProductTensor("w", left, RawTensor("", np.array([[0.5, -1.0]], np.float32))).values().tolist()
    [[0.5, -1.0], [1.0, -2.0]]
    """

    name: str
    left: IntTensor | RawTensor
    right: IntTensor | RawTensor

    def __post_init__(self) -> None:
        _part(self.name, "left factor's entries", self.left, 2)
        _part(self.name, "right factor's entries", self.right, 2)
        if self.left.shape[1] != self.right.shape[0]:
            raise InputError(
                f"tensor {self.name!r}: its factors have shapes {self.left.shape} and {self.right.shape}. "
                "Cure: (rows, rank) and (rank, columns)"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns)."""
        return self.left.shape[0], self.right.shape[1]

    def values(self) -> FloatArray:
        """The product."""
        total = np.zeros(self.shape)
        with np.errstate(over="ignore", invalid="ignore"):  # raw factors may hold infinities and NaN
            left, right = (part.values().astype(np.float64) for part in (self.left, self.right))
            for column, row in zip(left.T, right, strict=True):
                total += np.multiply.outer(column, row)
            return np.asarray(total, np.float32)

    def cost(self) -> TensorFacts:
        """No bits for each entry; both factors."""
        table = _bytes_of(self.left) + _bytes_of(self.right)
        return TensorFacts(self.name, self.shape, self.nonzeros(), 0, 32, table)

    def take(self, axis: int, index: AnyArray) -> ProductTensor:
        """The product with those rows of the left factor, or those columns of the right one."""
        if axis == 0:
            return replace(self, left=self.left.take(0, index))
        return replace(self, right=self.right.take(1, index))
