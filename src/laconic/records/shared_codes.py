"""One random code for the weights of many tensors: blocks of weights from all of them, an index for each.

Everything is integer arithmetic, table look-ups and single IEEE multiplications, so that the values have the
same bits on every machine. FORMAT.md, "Other kinds", code 10.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from laconic.errors import InputError
from laconic.records.base import AnyArray, FloatArray, IntArray, Record, record
from laconic.records.facts import TensorFacts
from laconic.records.random_bits import QUANTILE_BITS, Words, normal_quantiles, random_words
from laconic.records.tensors import Tensor

MAX_VALUES = 1 << 22
"""The most weights of one code: a reader sorts so many words."""
MAX_BITS = 30
"""The most bits of an index."""
PLACES = 5
"""Weights that take their 12 bits from one word of 64."""
_ORDER = 2**64 - 1
_TIES = 2**63
_MASK = np.uint64((1 << QUANTILE_BITS) - 1)
_PIECE = 1 << 16
_TOGETHER = 1 << 12  # words that are computed at once, so that one long block takes no longer than many short


def word(seed: int, counter: int) -> int:
    """Number ``counter`` of a seed (:func:`~laconic.records.random_bits.random_words`).

    >>> hex(word(0, 1))
    '0x6e789e6aa1b965f4'
    """
    return int(random_words(np.array([seed], np.uint64), np.array([counter], np.uint64))[0])


def code_order(seed: int, size: int) -> AnyArray:
    """The weights of a code in the order in which blocks take them: int64, a permutation of 0..size-1.

    Weight e comes before weight f if ``word(k, e) < word(k, f)``, with k = ``word(seed, 2^64 - 1)``.

    >>> code_order(7, 4).tolist()
    [1, 0, 3, 2]
    """
    key = np.array([word(seed, _ORDER)], np.uint64)
    return np.argsort(random_words(key, np.arange(size, dtype=np.uint64)), kind="stable")


def block_starts(size: int, blocks: int) -> AnyArray:
    """Where each block begins in :func:`code_order`, and the end of the last: int64, (blocks + 1).

    Block b begins at ``ceil(b * size / blocks)``.

    >>> block_starts(7, 3).tolist()
    [0, 3, 5, 7]
    """
    return -(-np.arange(blocks + 1, dtype=np.int64) * size // blocks)


def block_key(seed: int, block: int) -> int:
    """The seed of a block's candidates."""
    return word(seed, block)


def candidate_bits(keys: Words, words: int, first: int = 0) -> Words:
    """The 12 bits of each place of some candidates, one row for each place.

    Place j of a candidate of key k has bits ``word(k, j // 5) >> (52 - 12 * (j % 5))`` modulo 4096.

    Args:
        keys: Keys of the candidates, uint64 (n).
        words: How many words of each are taken, 5 places each.
        first: Number of the first of them.

    Returns:
        Uint64 in 0..4095, of shape (5 * words, n).
    """
    out = np.empty((words, PLACES, len(keys)), np.uint64)
    together = max(1, _TOGETHER // max(1, len(keys)))  # words: few keys would make a pass over the words slow
    for number in range(0, words, together):
        rows = out[number : number + together]
        counters = np.arange(first + number, first + number + len(rows), dtype=np.uint64)
        r = random_words(keys, counters[:, None])
        for place in range(PLACES):
            np.right_shift(r, np.uint64(52 - QUANTILE_BITS * place), out=rows[:, place])
        rows &= _MASK
    return out.reshape(PLACES * words, len(keys))


def tied_places(seed: int, first: int, entries: slice, buckets: int) -> tuple[AnyArray, AnyArray]:
    """Of these entries of a tensor with tied weights: each one's bucket (uint64), and whether it is negated.

    With r = ``word(word(seed, 2^63 + first), e)``: bucket ``(r >> 32) * buckets >> 32``, negated if r is odd.
    """
    key = np.array([word(seed, _TIES + first)], np.uint64)
    r = random_words(key, np.arange(entries.start, entries.stop, dtype=np.uint64))
    return (r >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32), (r & np.uint64(1)).astype(np.bool_)


@record
class SharedCode(Record):
    """Indices of pseudo-random candidates, one for each block of weights of several tensors.

    The ``size`` weights are taken in the order of :func:`code_order` and divided into blocks whose lengths
    differ by one at most. Candidate i of block b draws each weight of the block as one of 4096 equally likely
    quantiles of the standard normal distribution.

    Args:
        seed: 0..2^64-1: of the order, the candidates and the ties.
        size: Number of weights, 1..2^22.
        bits: Bits of an index, 1..30.
        indices: Int32, one for each block, in 0..2^bits-1; at most ``size`` of them, at least one.

    Raises:
        InputError: A field out of range.

    Source: Havasi, Peharz and Hernandez-Lobato, "Minimal random code learning", ICLR 2019, section 3.

    >>> code = SharedCode(7, 3, 10, np.array([0, 1000], np.int32))
    >>> code.normals.tolist()
    [-1.4053672552108765, 0.27800846099853516, 1.3305120468139648]
    """

    seed: int
    size: int
    bits: int
    indices: IntArray
    __eq__ = object.__eq__  # tensors of one code hold the same object
    __hash__ = object.__hash__

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise InputError(f"the seed of a random code must be in 0..2^64-1, got {self.seed}. Cure: seed=0")
        if not 1 <= self.size <= MAX_VALUES:
            raise InputError(f"a random code has {self.size} weights. Cure: 1 to {MAX_VALUES}")
        if not 1 <= self.bits <= MAX_BITS:
            raise InputError(f"an index of a random code has {self.bits} bits. Cure: 1 to {MAX_BITS}")
        if not 1 <= len(self.indices) <= self.size:
            raise InputError(
                f"a random code of {self.size} weights has {len(self.indices)} blocks. Cure: 1 to {self.size}"
            )
        low, high = int(self.indices.min()), int(self.indices.max())
        if low < 0 or high >> self.bits:
            raise InputError(
                f"indices of {self.bits} bits are in {low}..{high}. Cure: 0 to {2**self.bits - 1}"
            )

    @property
    def index_bytes(self) -> int:
        """Bytes of the indices side by side."""
        return -(-len(self.indices) * self.bits // 8)

    @cached_property
    def normals(self) -> FloatArray:
        """Each weight before it is scaled: float32 (size), read-only."""
        ordered = self._ordered()  # its arrays are gone before the order is sorted
        out = np.empty(self.size, np.float32)
        out[code_order(self.seed, self.size)] = ordered
        out.setflags(write=False)
        return out

    def _ordered(self) -> FloatArray:
        """The same in the order in which blocks take them."""
        blocks = len(self.indices)
        starts = block_starts(self.size, blocks)
        most = int(np.diff(starts).max())
        keys = random_words(np.array([self.seed], np.uint64), np.arange(blocks, dtype=np.uint64))
        keys = random_words(keys, self.indices.astype(np.uint64))
        ordered = np.empty(self.size, np.float32)
        table, rows = normal_quantiles(), max(1, _PIECE // most)
        for first in range(0, blocks, rows):
            last = min(blocks, first + rows)
            bits = candidate_bits(keys[first:last], -(-most // PLACES))[:most].T
            inside = np.arange(most) < np.diff(starts[first : last + 1])[:, None]
            ordered[starts[first] : starts[last]] = table[bits[inside]]
        return ordered


@record
class SharedCodeTensor(Tensor):
    """A tensor whose weights are a part of a random code that several tensors share.

    Without tied weights entry e (in C order) is ``float32(scale) * normals[first + e]``. With ``buckets`` it
    is plus or minus ``float32(scale) * normals[first + h(e)]`` (:func:`tied_places`).

    Args:
        name: The tensor's name.
        shape: Its dimensions.
        code: The code, the same object in all its tensors.
        first: The tensor's first weight in the code.
        buckets: How many weights of the code its entries share; 0: each entry has its own.
        scale: Standard deviation, a bfloat16 number in 0..2^120.

    Raises:
        InputError: A field out of range.

    Sources: Havasi, Peharz and Hernandez-Lobato 2019; the ties: Chen et al., "Compressing neural networks
    with the hashing trick", ICML 2015.

    >>> code = SharedCode(7, 3, 10, np.array([0, 1000], np.int32))
    >>> SharedCodeTensor("w", (2,), code, 1, 0, 0.5).values().tolist()
    [0.13900423049926758, 0.6652560234069824]
    """

    name: str
    shape: tuple[int, ...]
    code: SharedCode
    first: int
    buckets: int
    scale: float

    def __post_init__(self) -> None:
        if not 0 <= self.buckets <= self.size:
            raise InputError(
                f"tensor {self.name!r} of {self.size} entries has {self.buckets} buckets. Cure: 0 to its size"
            )
        if not 0 <= self.first <= self.code.size - self.count:
            raise InputError(
                f"tensor {self.name!r} has weights {self.first} to {self.first + self.count} of a code of "
                f"{self.code.size}. Cure: 0 <= first, and a code of {self.first + self.count} weights or more"
            )
        bits = np.float32(self.scale).view(np.uint32)
        if not 0 <= self.scale <= 2.0**120 or float(np.float32(self.scale)) != self.scale or bits & 0xFFFF:
            raise InputError(
                f"tensor {self.name!r}: the scale must be a bfloat16 number in 0..2^120, got {self.scale!r}. "
                "Cure: scale=0.5"
            )

    @property
    def count(self) -> int:
        """Weights of the code that the tensor has."""
        return self.buckets or self.size

    def values(self) -> FloatArray:
        """The weights of the code times the scale."""
        own = np.float32(self.scale) * self.code.normals[self.first : self.first + self.count]
        if not self.buckets:
            return own.reshape(self.shape)
        out = np.empty(self.size, np.float32)
        for start in range(0, self.size, _PIECE):
            piece = slice(start, min(self.size, start + _PIECE))
            bucket, negated = tied_places(self.code.seed, self.first, piece, self.buckets)
            found = own[bucket]
            out[piece] = np.where(negated, np.float32(0) - found, found)
        return out.reshape(self.shape)

    def cost(self) -> TensorFacts:
        """No bits for each entry; the scale, and the tensor's share of the indices."""
        share = -(-self.code.index_bytes * self.count // self.code.size)
        return TensorFacts(self.name, self.shape, self.nonzeros(), 0, 32, share + 2)
