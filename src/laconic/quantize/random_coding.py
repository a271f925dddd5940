r"""Relative entropy coding of a block: which of many shared random candidates stands for a posterior's draw.

Candidates :math:`z_0, z_1, \ldots` are drawn from the prior by a generator that the decoder has too. The
encoder sends the index of one, drawn with the importance weights
:math:`a_i \propto q(z_i) / p(z_i)` (Havasi, Peharz and Hernandez-Lobato, ICLR 2019, algorithm 1). With
:math:`K = e^{KL(q\|p) + t}` candidates the bias falls with t (their theorem 3.2).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.records.random_bits import normal_quantiles, random_words
from laconic.records.shared_codes import MAX_BITS, PLACES, block_key, candidate_bits

FloatArray = npt.NDArray[np.float32]
Choice = Literal["draw", "best"]

_LOWEST = -1e30  # nats: a candidate that a narrow posterior excludes; sums of these are float32 numbers
_PIECE = 1 << 13  # candidates at a time: their words stay in a core's cache


def log_ratios(mean: FloatArray, std: FloatArray) -> FloatArray:
    r""":math:`\log q(z)/p(z)` of each of the 4096 values of a place, for :math:`p = N(0, 1)`.

    .. math:: -\log s - \frac{(z - m)^2}{2 s^2} + \frac{z^2}{2}

    Args:
        mean: m in prior standard deviations, float32 (d).
        std: s in the same unit, above 0, float32 (d).

    Returns:
        Float32 (d, 4096), in nats.

    >>> bool(log_ratios(np.float32([0]), np.float32([1])).any())
    False
    """
    z = normal_quantiles().astype(np.float64)
    m, s = mean.astype(np.float64)[:, None], std.astype(np.float64)[:, None]
    precision = s**-2
    ratios = 0.5 * (1.0 - precision) * z  # the polynomial in z: two products of the table in place of four
    ratios += m * precision
    ratios *= z
    ratios -= np.log(s) + 0.5 * m**2 * precision
    return np.maximum(ratios, _LOWEST, out=ratios).astype(np.float32)


def candidate_scores(seed: int, block: int, bits: int, mean: FloatArray, std: FloatArray) -> FloatArray:
    """Log importance weights of all ``2^bits`` candidates of a block.

    Args:
        seed: Seed of the code.
        block: The block's number.
        bits: Bits of an index.
        mean: Means of the block's weights in prior standard deviations, float32 (d).
        std: Their standard deviations in the same unit, float32 (d).

    Returns:
        Float32 (2^bits), nats.

    >>> candidate_scores(7, 0, 3, np.float32([0.0]), np.float32([1.0])).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    tables = log_ratios(mean, std)
    key = np.array([block_key(seed, block)], np.uint64)
    out = np.zeros(1 << bits, np.float32)
    for first in range(0, 1 << bits, _PIECE):
        last = min(1 << bits, first + _PIECE)
        keys = random_words(key, np.arange(first, last, dtype=np.uint64))
        total = out[first:last]
        for number in range(-(-len(mean) // PLACES)):
            part = tables[PLACES * number : PLACES * (number + 1)]
            rows = candidate_bits(keys, 1, number)
            for table, row in zip(part, rows, strict=False):
                total += table.take(row.view(np.int64))
    return out


def choose_index(scores: FloatArray, choice: Choice, generator: np.random.Generator) -> int:
    """The index that is sent.

    Args:
        scores: Log importance weights of the candidates, nats.
        choice: "draw" draws it with the importance weights, "best" takes the largest of them.
        generator: Where the draw comes from.

    Returns:
        The index.

    >>> choose_index(np.float32([0.0, 9.0]), "best", np.random.default_rng(0))
    1
    """
    if choice == "best":
        return int(scores.argmax())
    weights = np.exp(scores.astype(np.float64) - float(scores.max()))
    cumulated = np.cumsum(weights)
    at = int(np.searchsorted(cumulated, generator.random() * cumulated[-1], side="right"))
    return min(at, len(scores) - 1)


def block_normals(seed: int, block: int, index: int, size: int) -> FloatArray:
    """The weights of a candidate, before they are scaled.

    Args:
        seed: Seed of the code.
        block: The block's number.
        index: The candidate's.
        size: Weights of the block.

    Returns:
        Float32 (size).

    >>> block_normals(7, 0, 0, 2).tolist()
    [0.27800846099853516, -1.4053672552108765]
    """
    keys = random_words(np.array([block_key(seed, block)], np.uint64), np.array([index], np.uint64))
    found: FloatArray = normal_quantiles()[candidate_bits(keys, -(-size // PLACES))[:size, 0]]
    return found


def check_index_bits(bits: int) -> None:
    """Refuse a number of bits that an encoder cannot search: 2^bits candidates are looked at.

    Raises:
        InputError: Outside 1..24.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= min(24, MAX_BITS):
        raise InputError(
            f"block_bits={bits!r}: an index of so many bits takes 2^bits candidates. Cure: 8 to 20"
        )
