r"""Bits of weights in the format of Deep Compression: clusters, gaps and Huffman codes, counted exactly.

Han, Mao & Dally, Deep Compression, ICLR 2016, sections 2 to 4: of a tensor only weights that are not zero
are stored, in flat order, each as the index of its cluster and the gap to the one before it. A gap takes
values below :math:`2^p`; a longer one is bridged by filler zeros, which have an index of their own. Indices
and gaps are Huffman coded. With K clusters, n stored entries of indices i and gaps g,

.. math:: bits = 32K + \sum_{entries} [h_i(i) + h_g(g)] + 5(K_i + K_g) + 8

where h are lengths of Huffman codes, :math:`K_i` and :math:`K_g` the symbols that either code may hold (K and
the filler, and :math:`2^p`), each with its length in five bits, which is all that a canonical code takes, and
eight bits say p. The p from 0 to 12 of the fewest bits is taken.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

FLOAT_BITS, LENGTH_BITS, WIDTH_BITS, WIDEST = 32, 5, 8, 12


def deep_compression_bits(values: npt.ArrayLike) -> int:
    """Bits of one tensor in Deep Compression's format; its clusters are the values that it has.

    Args:
        values: The tensor, on few values; any shape.

    Returns:
        Whole bits: codebook, codes and their tables.

    >>> deep_compression_bits([0.0, 0.5, 0.0, -0.5])  # p = 0: two clusters and two fillers
    98
    """
    flat = np.asarray(values).reshape(-1)
    places = np.flatnonzero(flat)
    if not places.size:
        return WIDTH_BITS
    clusters = Counter(flat[places].tolist())
    gaps = np.diff(places, prepend=-1) - 1
    beside = FLOAT_BITS * len(clusters) + LENGTH_BITS * (len(clusters) + 1) + WIDTH_BITS
    entries: int = min(_entries(clusters, gaps, p) for p in range(WIDEST + 1))
    return beside + entries


def _entries(clusters: Counter[float], gaps: npt.NDArray[np.int64], p: int) -> int:
    """Bits of the Huffman codes of indices and gaps of p bits, with the table of the gaps."""
    fillers, short = np.divmod(gaps, 2**p)
    filler = int(fillers.sum())
    by_gap: Counter[int] = Counter(short.tolist())
    by_gap[2**p - 1] += filler  # a filler stands 2^p - 1 zeros further on, so that it bridges 2^p places
    by_index = [*clusters.values(), *([filler] if filler else [])]
    return huffman_bits(by_index) + huffman_bits(n for n in by_gap.values() if n) + LENGTH_BITS * (1 << p)


def huffman_bits(counts: Iterable[int]) -> int:
    """Bits of all symbols in their Huffman code: the sum of the merged weights; one symbol takes none.

    >>> huffman_bits([1, 1, 2])
    6
    """
    heap: list[int] = list(counts)
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total
