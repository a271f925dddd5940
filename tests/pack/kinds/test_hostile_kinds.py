"""Hostile fields and parts behind right checksums: each is a named error of the tensor, or costs little."""

from __future__ import annotations

import math
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Sequence

import numpy as np
import pytest

from laconic.errors import FileFormatError, LaconicError
from laconic.pack import DEFAULT, decode
from laconic.pack.codecs.symbols import StreamWriter
from laconic.varint import Writer
from tests.pack.chunked import framed

SEED = bytes(range(8))
NAN, INF = math.nan, math.inf
HUGE = 2**40


def varints(*values: int) -> bytes:
    out = Writer()
    for value in values:
        out.varint(value)
    return bytes(out.data)


def shape(*lengths: int) -> bytes:
    return varints(len(lengths), *lengths)


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def raw(values: Sequence[float], *lengths: int) -> bytes:
    """A raw float32 part; ``lengths``: its shape, by default that of a vector."""
    return bytes([0, 0]) + shape(*(lengths or (len(values),))) + floats(*values)


def constant(value: int, *lengths: int, grid: bytes = b"\x80\x3f", bits: int = 4) -> bytes:
    """An integer part whose entries are all equal: it takes no symbols. By default on the step 1."""
    out = Writer()
    out.byte(1 | bits)
    out.raw(shape(*lengths) + grid)
    out.signed(value)
    out.varint(1 << 1)
    return bytes(out.data)


def hashed(dims: bytes, part: bytes) -> bytes:
    return bytes([3]) + dims + SEED + part


def codes(dims: bytes, block: int, scales: Sequence[float], part: bytes) -> bytes:
    return bytes([7]) + dims + SEED + varints(block, len(scales)) + floats(*scales) + part


def product(dims: bytes, left: bytes, right: bytes) -> bytes:
    return bytes([11]) + dims + left + right


def file_of(*headers: bytes, integers: bytes = b"") -> bytes:
    """A file of tensors "w0", "w1", ... without symbols; ``integers``: what their checksum is of."""
    names = b"".join(bytes([0, 0, 2]) + f"w{k}".encode() for k in range(len(headers)))
    return framed(
        bytes([0, len(headers), 0])
        + names
        + b"".join(headers)
        + StreamWriter().finish(zlib.crc32(integers) & (2**31 - 1))
    )


REFUSED: dict[str, tuple[bytes, str]] = {
    # hashed weights
    "no buckets": (hashed(shape(2, 3), raw([])), "buckets"),
    "a bucket without dimensions": (hashed(shape(2), bytes([0, 0, 0]) + floats(1.0)), "buckets"),
    "buckets in a matrix": (hashed(shape(2), raw([1.0], 1, 1)), "buckets"),
    "buckets claimed beyond the file": (hashed(shape(2), bytes([0, 0]) + shape(2**20) + floats(1.0)), "ends"),
    "buckets of huge number": (hashed(shape(2), constant(1, HUGE)), "elements in one tensor"),
    "huge dimension": (hashed(shape(HUGE), raw([1.0])), "elements in one tensor"),
    "huge dimension beside an empty one": (hashed(shape(0, HUGE), raw([1.0])), "elements in one tensor"),
    "a product of dimensions beyond 64 bits": (hashed(shape(*[2**20] * 4), raw([1.0])), "elements"),
    "17 dimensions": (hashed(shape(*[1] * 17), raw([1.0])), "17 dimensions"),
    "entries beyond memory": (hashed(shape(2**12, 2**12), raw([1.0])), "memory"),
    "buckets that are another kind": (hashed(shape(2), hashed(shape(2), raw([1.0]))), "starts with byte 3"),
    "buckets that are a tensor of kinds without end": (bytes([3]) * 5000, "."),
    # random codes
    "block of nothing": (codes(shape(2), 0, [1.0], constant(0, 2)), "block"),
    "no scales": (codes(shape(2), 1, [], constant(0, 2)), "scales"),
    "two scales for three rows": (codes(shape(3), 1, [1.0, 1.0], constant(0, 3)), "scales"),
    "scale NaN": (codes(shape(2), 1, [NAN], constant(0, 2)), "scale"),
    "scale infinite": (codes(shape(2), 1, [INF], constant(0, 2)), "scale"),
    "scale negative": (codes(shape(2), 1, [-1.0], constant(0, 2)), "scale"),
    "scale beyond 2^120": (codes(shape(2), 1, [2.0**121], constant(0, 2)), "scale"),
    "more scales than bytes": (bytes([7]) + shape(2) + SEED + varints(1, HUGE), "scales"),
    "too few indices": (codes(shape(5), 2, [1.0], constant(0, 2)), "indices"),
    "too many indices": (codes(shape(5), 2, [1.0], constant(0, 4)), "indices"),
    "indices in a matrix": (codes(shape(5), 2, [1.0], constant(0, 3, 1)), "indices"),
    "negative index": (codes(shape(2), 1, [1.0], constant(-1, 2)), "index -1"),
    "indices on another step": (codes(shape(2), 1, [1.0], constant(0, 2, grid=b"\0\x3f")), "indices"),
    "raw indices": (codes(shape(2), 1, [1.0], raw([0.0, 1.0])), "indices"),
    "a scale of each of no rows": (codes(shape(0, 4), 1, [], constant(0, 0)), "scales"),
    "random entries beyond memory": (codes(shape(2**26), 2**26, [1.0], constant(0, 1)), "memory|almost no"),
    "no entry of a huge dimension": (codes(shape(0, HUGE), 1, [1.0], constant(0, 0)), "elements"),
    # products
    "ranks that differ": (product(shape(2, 2), raw([1, 2], 2, 1), raw([1, 2, 3, 4], 2, 2)), "factors"),
    "another shape than its factors'": (product(shape(2, 3), raw([1, 2], 2, 1), raw([1, 2], 1, 2)), "claims"),
    "a factor that is a vector": (product(shape(2, 2), raw([1, 2]), raw([1, 2], 1, 2)), "left factor"),
    "a right factor of three dimensions": (
        product(shape(1, 1), raw([1], 1, 1), raw([1], 1, 1, 1)), "right factor"
    ),
    "a factor of bytes": (product(shape(1, 1), bytes([0, 7, 2, 1, 1, 9]), raw([1], 1, 1)), "left factor"),
    "rank 0 and a huge side": (product(shape(HUGE, 1), raw([], HUGE, 0), raw([], 0, 1)), "elements"),
    "rank 0 beyond memory": (
        product(shape(2**13, 2**13), raw([], 2**13, 0), raw([], 0, 2**13)), "memory|almost"
    ),
    "a huge rank": (product(shape(1, 1), constant(1, 1, 2**26), constant(1, 2**26, 1)), "memory|constant"),
    "a product of products": (product(shape(1, 1), bytes([11, 2, 1, 1]), b""), "starts with byte 11"),
    # grids
    "a shared grid that is itself": (constant(0, 2, grid=varints(0), bits=128), "grid 1 back, 0 came before"),
    "a shared grid before the first": (constant(0, 2, grid=varints(2**63), bits=128), "came before"),
    "a shared grid with levels of its own": (constant(0, 2, grid=varints(0), bits=128 | 8), "earlier grid"),
    "channels of no axis": (constant(0, grid=varints(0), bits=64 | 4), "axis 0 of 0"),
    "channels of a huge axis": (constant(0, 2, grid=varints(2**63), bits=64 | 4), "axis"),
    "more channels than bytes": (constant(0, 2**20, grid=varints(0), bits=64 | 4), "channels"),
    "a channel's step NaN": (constant(0, 1, grid=varints(0) + floats(NAN), bits=64), "grid value"),
    "a channel's step infinite": (constant(0, 1, grid=varints(0) + floats(INF), bits=64), "grid value"),
    "a channel's step 0": (constant(0, 1, grid=varints(0) + b"\0\0", bits=64 | 4), "step"),
    "a channel's step negative": (constant(0, 1, grid=varints(0) + b"\x80\xbf", bits=64 | 4), "step"),
    "a channel without levels": (constant(0, 1, grid=varints(0, 0), bits=64 | 8 | 4), "strictly increasing"),
    "levels that fall": (constant(0, 1, grid=varints(0, 2) + b"\x80\x3f\0\0", bits=76), "increasing"),
    "an index beyond a channel's levels": (
        constant(1, 2, grid=varints(0, 2) + b"\0\0\x80\x3f" + varints(1) + b"\0\0", bits=76), "codebook"
    ),
    "a value beyond float32": (constant(2**31 - 1, 1, grid=b"\x7f\x7f"), "float32|finite|grid"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_tensor_and_field(name: str) -> None:
    header, field = REFUSED[name]
    data = file_of(header)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match=field) as caught:
            decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = str(caught.value)
    assert "'w0'" in said or "loading takes" in said or "elements" in said, said
    assert peak < DEFAULT.allowed_memory(len(data)) // 4


READ: dict[str, tuple[bytes, tuple[int, ...], bytes]] = {
    "a hashed number": (hashed(shape(), raw([2.0])), (), b""),
    "no hashed entry": (hashed(shape(0, 5), raw([2.0])), (0, 5), b""),
    "buckets that are NaN and infinite": (hashed(shape(4), raw([NAN, INF])), (4,), b""),
    "a random number": (codes(shape(), 1, [1.0], constant(0, 1)), (), b"\0"),
    "no random entry": (codes(shape(0, 4), 3, [1.0], constant(0, 0)), (0, 4), b""),
    "no random entry in rows": (codes(shape(4, 0), 3, [1.0] * 4, constant(0, 0)), (4, 0), b""),
    "a block beyond all entries": (codes(shape(3), 2**63, [1.0], constant(127, 1)), (3,), b"\x7f"),
    "a product of rank 0": (product(shape(2, 3), raw([], 2, 0), raw([], 0, 3)), (2, 3), b""),
    "an empty product": (product(shape(0, 3), raw([], 0, 2), raw([1] * 6, 2, 3)), (0, 3), b""),
    "NaN and infinite factors": (product(shape(1, 1), raw([INF], 1, 1), raw([NAN], 1, 1)), (1, 1), b""),
    "a sum that leaves float32": (product(shape(1, 1), raw([3e38], 1, 1), raw([9], 1, 1)), (1, 1), b""),
    "channels of an empty axis": (constant(0, 0, 2, grid=varints(0), bits=64 | 4), (0, 2), b""),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_it_is_read_and_every_method_answers(name: str) -> None:
    header, dimensions, integers = READ[name]
    (tensor,) = decode(file_of(header, integers=integers)).tensors
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tensor.shape == dimensions
        assert tensor.values().shape == dimensions
        assert 0 <= tensor.nonzeros() <= tensor.size
        assert tensor.cost().entries == tensor.size
        tensor.distinct(), tensor.coded(), tensor.multiples(), tensor.layout
        assert tensor.renamed("v").name == "v"
        for axis in range(len(dimensions)):
            none = tensor.take(axis, np.arange(0))
            assert none.values().shape == (*dimensions[:axis], 0, *dimensions[axis + 1 :])


def test_a_grid_of_channels_is_shared_by_a_tensor_that_has_as_many_alone() -> None:
    channels = constant(0, 2, grid=varints(0) + b"\x80\x3f\0\x40", bits=64 | 4)
    good = decode(file_of(channels, constant(3, 2, grid=varints(0), bits=128), integers=b"\0\0\3\3")).tensors[
        1
    ]
    assert good.values().tolist() == [3.0, 6.0]
    for dims in ((3,), (), (1, 2)):
        with pytest.raises(LaconicError, match="'w1'.*does not fit its grid"):
            decode(file_of(channels, constant(3, *dims, grid=varints(0), bits=128)))


def test_buckets_take_the_grid_of_another_tensor_and_of_none_behind_them() -> None:
    """Grids of parts count in the order of the file."""
    first = constant(1, 2, grid=b"\0\x40")
    second = hashed(shape(2), constant(3, 1, grid=varints(0), bits=128))
    (_, tensor) = decode(file_of(first, second, integers=b"\1\1\3")).tensors
    assert np.abs(tensor.values()).tolist() == [6.0, 6.0]
    with pytest.raises(LaconicError, match="'w0'.*0 came before"):
        decode(file_of(second, first))
