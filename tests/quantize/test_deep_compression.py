"""Deep Compression's format: lengths of Huffman codes by trees, and a coder that writes every entry."""

import numpy as np
import pytest

from laconic.quantize.deep_compression import deep_compression_bits, huffman_bits


def lengths(counts):
    """Code lengths by building the tree, one merge after the other."""
    trees = [(n, [k]) for k, n in enumerate(counts)]
    depth = [0] * len(counts)
    while len(trees) > 1:
        trees.sort(key=lambda t: t[0])
        (a, left), (b, right) = trees[0], trees[1]
        for k in left + right:
            depth[k] += 1
        trees = [*trees[2:], (a + b, left + right)]
    return depth


def by_writing(values, p):
    """Bits of a tensor whose entries are written one by one, with gaps of p bits and fillers."""
    entries, gap = [], 0
    for v in values:
        if v != 0:
            entries.append((v, gap))
            gap = 0
        elif gap == 2**p - 1:
            entries.append((0.0, gap))  # this zero itself is the filler
            gap = 0
        else:
            gap += 1
    while entries and entries[-1][0] == 0.0:
        entries.pop()  # zeros behind the last weight need no filler
    bits = 8 + 5 * 2**p
    for part in ([v for v, _ in entries], [g for _, g in entries]):
        symbols = sorted(set(part))
        counts = [part.count(s) for s in symbols]
        bits += sum(n * d for n, d in zip(counts, lengths(counts), strict=True))
    clusters = len({v for v in values if v != 0})
    return bits + 32 * clusters + 5 * (clusters + 1)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.9, 1.0])
def test_bits_are_those_of_a_coder_that_writes_each_entry(share):
    rng = np.random.default_rng(0)
    values = np.where(rng.random(400) < share, rng.integers(1, 6, 400) * 0.25, 0.0).astype(np.float32)
    wanted = min(by_writing(values.tolist(), p) for p in range(9))
    assert deep_compression_bits(values.reshape(20, 20)) == wanted


def test_huffman_codes_of_known_lengths():
    assert huffman_bits([5]) == 0 and huffman_bits([]) == 0
    assert huffman_bits([1, 1, 1, 1]) == 8
    counts = [40, 30, 20, 7, 3]
    assert huffman_bits(counts) == sum(n * d for n, d in zip(counts, lengths(counts), strict=True)) == 200


def test_a_tensor_of_zeros_is_its_header():
    assert deep_compression_bits(np.zeros((3, 4))) == 8
