"""Tensors in chunks: when our encoder writes them, what is decoded of them, what is refused."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from laconic.errors import ChecksumError, CorruptFileError, FileFormatError, InputError, LimitError
from laconic.pack import Limits, coded_bytes, decode, decode_rows, encode, layout
from laconic.pack.codecs.order0 import Table
from laconic.pack.codecs.settings import Settings
from laconic.pack.codecs.symbols import StreamWriter
from laconic.pack.file.chunks import in_threads
from laconic.pack.wire.chunks import CHUNKED, Chunks
from laconic.pack.wire.grids import Grids
from laconic.pack.wire.headers import Header, put_header
from laconic.records import IntArray, IntTensor, PackedModel, RawTensor, UniformGrid
from laconic.varint import Writer
from tests.helpers.plain_decoder import plain_decode
from tests.pack.chunked import chunked_file, framed

HALF = UniformGrid(0.5)
LARGE = 2**22


def ternary(shape: tuple[int, ...], zeros: float = 0.9) -> IntArray:
    rng = np.random.default_rng(5)
    signs = rng.choice(np.array([-1, 1], np.int8), shape)
    return np.where(rng.random(shape, np.float32) < zeros, 0, signs).astype(np.int32)


@pytest.fixture(scope="module")
def large() -> IntTensor:
    """A matrix one row above the threshold."""
    return IntTensor("w", ternary((2049, 2048)), HALF)


def note(data: bytes) -> str:
    (row,) = (row for row in layout(data, limits=Limits.trusted()) if row.section == "tensor")
    return row.note


# --- the encoder ----------------------------------------------------------------------------------


def test_a_tensor_above_the_threshold_is_in_chunks_that_cost_little(large: IntTensor) -> None:
    data = encode(PackedModel((large,)))
    assert note(data).startswith("static in 8 chunks")
    below = encode(PackedModel((replace(large, integers=large.integers[:2048]),)))
    assert "chunks" not in note(below)
    whole = len(below) * 2049 / 2048
    assert whole < len(data) < 1.005 * whole
    assert abs(coded_bytes(large) - (len(data) - 18)) < 30
    again = decode(data, limits=Limits.trusted()).tensors[0]
    assert isinstance(again, IntTensor)
    assert np.array_equal(again.integers, large.integers)


def test_threads_change_no_byte(large: IntTensor) -> None:
    model = PackedModel((large,))
    one = encode(model, threads=1)
    assert encode(model, threads=3) == one
    with pytest.raises(InputError, match="threads='a' is no whole number from 1. Cure"):
        decode(one, limits=Limits.trusted(), threads="a")  # type: ignore[arg-type]
    for threads in (1, 2, 5):
        found = decode(one, limits=Limits.trusted(), threads=threads).tensors[0]
        assert isinstance(found, IntTensor)
        assert np.array_equal(found.integers, large.integers)


def test_nearly_empty_tensors_stay_whole() -> None:
    """Where a chunk would have under 4 096 bytes, its 8 or 9 would be too many."""
    integers = np.zeros((2**11, 2**11 + 1), np.int32)
    integers[::64, ::64] = 1
    assert note(encode(PackedModel((IntTensor("w", integers, HALF),)))).startswith("static, ")


def test_the_vector_behind_takes_its_length_and_no_hint(large: IntTensor) -> None:
    bias = IntTensor("b", np.ones(2049, np.int32), HALF)
    data = encode(PackedModel((large, bias)))
    alone = len(encode(PackedModel((large,))))
    assert len(data) - alone < 12
    found = decode(data, limits=Limits.trusted()).tensors[1]
    assert found.shape == (2049,)


# --- the reader -----------------------------------------------------------------------------------


def small(name: str = "w", rows: int = 256) -> IntTensor:
    return IntTensor(name, ternary((rows, 32)), HALF)


DENSE = IntTensor("w", np.random.default_rng(5).integers(0, 200, (256, 32)).astype(np.int32), HALF)


def structured(rows: int = 256) -> IntTensor:
    """A tensor that our encoder gives to the adaptive model: three quarters of its columns are empty."""
    integers = ternary((rows, 32), 0.95)
    integers[:, ::4] = integers[:, 1::4] = integers[:, 2::4] = 0
    return IntTensor("w", integers, HALF)


@pytest.mark.parametrize(("tensor", "codec"), [(DENSE, "static"), (structured(), "mixed")])
@pytest.mark.parametrize("damaged", [0, 1])
def test_chunks_are_independent(tensor: IntTensor, codec: str, damaged: int) -> None:
    assert_independent(tensor, codec, damaged)


@pytest.mark.usefixtures("without_mixing")
@pytest.mark.parametrize("damaged", [0, 1])
def test_adaptive_chunks_are_independent(damaged: int) -> None:
    assert_independent(structured(), "adaptive", damaged)


def assert_independent(tensor: IntTensor, codec: str, damaged: int) -> None:
    """Rows are decoded beside a chunk that is damaged, and behind a matrix whose rows are their columns."""
    before = IntTensor("before", ternary((32, 8)), HALF)
    data = bytearray(chunked_file([(before, 0), (tensor, 128)]))
    assert layout(bytes(data))[-2].note.startswith(f"{codec} in 2 chunks")
    end = next(k for k in range(len(data) - 1, 0, -1) if _chunk_at(bytes(data), k) == damaged)
    data[end - 5] ^= 1
    data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
    other = slice(128, 256) if damaged == 0 else slice(0, 128)
    found = decode_rows(bytes(data), "w", other.start, other.stop)
    assert np.array_equal(found.values(), tensor.values()[other])
    for read in (decode, lambda d: decode_rows(d, "w", 127, 129)):
        with pytest.raises(FileFormatError, match=f"tensor 'w': chunk {damaged}"):
            read(bytes(data))


@pytest.mark.usefixtures("without_mixing")
def test_the_plain_decoder_reads_adaptive_chunks() -> None:
    assert_plain_reads_chunks("adaptive")


def test_the_plain_decoder_reads_mixed_chunks() -> None:
    assert_plain_reads_chunks("mixed")


def assert_plain_reads_chunks(codec: str) -> None:
    data = chunked_file([(IntTensor("before", ternary((32, 8)), HALF), 0), (structured(300), 128)])
    assert layout(data)[-2].note.startswith(f"{codec} in ")
    assert plain_decode(data)[0][1].integers == structured(300).integers.reshape(-1).tolist()


def _chunk_at(data: bytes, position: int) -> int:
    """The chunk of the second tensor that a byte of the file is in; -1: none."""
    from laconic.pack.file.container import take_apart

    header = take_apart(data, Limits()).headers[1][0]
    assert isinstance(header, Header)
    assert header.chunks is not None
    start = data.index(bytes(header.chunks.data))
    ends = start + np.cumsum((0, *header.chunks.lengths))
    return int(np.searchsorted(ends, position, "right")) - 1 if position < ends[-1] else -1


def test_a_range_of_a_large_tensor_needs_memory_for_its_chunks_alone(large: IntTensor) -> None:
    data = encode(PackedModel((large,)))
    with pytest.raises(LimitError, match="memory"):
        decode(data)
    found = decode_rows(data, "w", 5, 7)
    assert np.array_equal(found.values(), large.values()[5:7])


def test_rows_of_a_tensor_in_the_files_stream() -> None:
    data = chunked_file([(small(), 128), (small("v", 70), 0)])
    assert np.array_equal(decode_rows(data, "v", 3, 69).values(), small("v", 70).values()[3:69])
    data = encode(PackedModel((small(),), aliases={"tied": "w"}))
    assert np.array_equal(decode_rows(data, "tied", 0, 2).values(), small().values()[:2])


@pytest.mark.parametrize(
    ("name", "first", "last"), [("x", 0, 1), ("w", 0, 257), ("w", -1, 3), ("w", 5, 5), ("w", 9, 3)]
)
def test_rows_that_are_not_there(name: str, first: int, last: int) -> None:
    with pytest.raises(InputError, match=f"{name}"):
        decode_rows(chunked_file([(small(), 128)]), name, first, last)


@pytest.mark.parametrize("first", [1.0, "1", None])
def test_rows_that_are_no_whole_numbers(first: Any) -> None:
    data = encode(PackedModel((small(),)))
    with pytest.raises(InputError, match=r"Cure: whole numbers 0 <= first < last <= 256"):
        decode_rows(data, "w", first, 3)


def test_the_first_failure_in_order_is_told() -> None:
    def work(k: int) -> int:
        if k in (2, 5):
            raise InputError(f"number {k}")
        return k

    for threads in (1, 4):
        with pytest.raises(InputError, match="number 2"):
            in_threads(work, range(8), threads)
        assert in_threads(work, range(3, 5), threads) == [3, 4]


# --- hostile files --------------------------------------------------------------------------------

TABLE = Table(-1, 0, (1, 8, 1))


def stream_of(integers: IntArray) -> bytes:
    out = StreamWriter()
    out.draws(TABLE.array(), integers.size, integers.reshape(-1) + 1)
    return out.finish(zlib.crc32(integers.astype(np.int8).tobytes()) & (2**31 - 1))


FIRST, SECOND = (stream_of(small().integers[k : k + 128]) for k in (0, 128))
LENGTHS = len(FIRST), len(SECOND)


def made(
    shape: tuple[int, ...] = (256, 32),
    rows: int = 128,
    lengths: tuple[int, ...] = LENGTHS,
    data: bytes = FIRST + SECOND,
    model: Table | Settings = TABLE,
) -> bytes:
    """A file of one tensor "w" in chunks as they are claimed."""
    out = Writer()
    put_header(out, Header(shape, HALF, model, chunks=Chunks(rows, lengths, data)), None, Grids())
    return of_header(bytes(out.data))


def of_header(header: bytes) -> bytes:
    return framed(bytes([0, 1, 0, 0, 0, 1]) + b"w" + header + StreamWriter().finish(0))


def test_the_file_made_by_hand_is_read() -> None:
    tensor = decode(made()).tensors[0]
    assert isinstance(tensor, IntTensor)
    assert np.array_equal(tensor.integers, small().integers)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (made(rows=0), "chunks of 0 rows"),
        (made(rows=257), "chunks of 257 rows"),
        (made(rows=2**40), f"chunks of {2**40} rows"),
        (made(rows=127), "chunks of 127 rows"),
        (made(shape=()), r"shape \(\) has chunks"),
        (made(shape=(0, 32)), "chunks of 128 rows"),
        (made(shape=(256, 0)), "chunks of 128 rows"),
        (made(lengths=(LENGTHS[0], LENGTHS[1] + 5)), "are claimed in"),
        (made(lengths=(2**63, LENGTHS[1])), "are claimed in"),
        (made(lengths=(0, sum(LENGTHS))), "chunks of 0 bytes"),
        (made(lengths=(3, sum(LENGTHS) - 3)), "chunks of 3 bytes"),
        (made(shape=(2**14, 2**12), rows=1), "16384 chunks are claimed in"),
        (of_header(bytes([CHUNKED, 0, 0, 1, 2]) + bytes(8)), "raw elements are said to be in chunks"),
        (of_header(bytes([CHUNKED, CHUNKED]) + bytes(8)), "no integer or raw tensor starts"),
        (made(shape=(2**17, 2), rows=2**16, model=Settings(100, 2)), "too large for that codec"),
    ],
)
def test_hostile_chunk_tables(data: bytes, said: str) -> None:
    with pytest.raises(CorruptFileError, match=f"tensor 'w': .*{said}"):
        decode(data)


@pytest.mark.parametrize("shift", [1, -1, 4, -4])
def test_chunks_that_overlap_or_leave_a_gap(shift: int) -> None:
    """The next chunk starts where the one before ends, so a wrong length is a wrong stream."""
    for lengths in (
        (LENGTHS[0] + shift, LENGTHS[1] - shift),
        (LENGTHS[0] + min(shift, 0), LENGTHS[1]),
        (LENGTHS[0], LENGTHS[1] + min(shift, 0)),
    ):
        if lengths != LENGTHS:
            with pytest.raises((ChecksumError, CorruptFileError), match="'w'|claim"):
                decode(made(lengths=lengths))


def test_more_or_fewer_lengths_than_chunks() -> None:
    for lengths in ((LENGTHS[0],), (*LENGTHS, 40)):
        with pytest.raises(FileFormatError, match="tensor 'w'"):
            decode(made(lengths=lengths))


def test_billions_of_chunks() -> None:
    """Refused by the number of entries, and without limits by the bytes that they would take."""
    data = made(shape=(2**32, 2**12), rows=1)
    with pytest.raises(LimitError, match="elements in one tensor"):
        decode(data)
    with pytest.raises(CorruptFileError, match="4294967296 chunks are claimed"):
        decode(data, limits=Limits.trusted())


def test_chunks_that_claim_more_than_the_limits() -> None:
    constant = Table(7, 0, (1,))
    with pytest.raises(LimitError, match="constant tensors"):
        decode(made(shape=(2**28,), rows=2**27, model=constant))
    with pytest.raises(LimitError, match="memory"):
        decode(made(shape=(2**25,), rows=2**24, model=constant))
    many = Settings(100, 2)
    with pytest.raises(LimitError, match="2048 rows and columns of adaptive tensors"):
        n = 8
        data = made(shape=(128 * n, 128), rows=128, lengths=(4,) * n, data=bytes(4 * n), model=many)
        decode(data, limits=Limits(lines=2047))


def test_a_symbol_that_leaves_the_grid_is_named() -> None:
    out = Writer()
    from laconic.records import Codebook

    book = Codebook((0.0, 1.0))
    put_header(
        out, Header((256, 32), book, TABLE, chunks=Chunks(128, LENGTHS, FIRST + SECOND)), None, Grids()
    )
    for read in (lambda d: decode(d), lambda d: decode_rows(d, "w", 0, 3)):
        with pytest.raises(CorruptFileError, match="tensor 'w'"):
            read(of_header(bytes(out.data)))


def test_flipped_bits_of_the_table_behind_right_checksums() -> None:
    """Nothing but errors of ours, in the file's head and the first bytes of each chunk."""
    good, refused = made(), 0
    start = good.index(FIRST)
    for position in range(8 * 6, 8 * (start + 8)):
        damaged = bytearray(good)
        damaged[position // 8] ^= 1 << position % 8
        damaged[-4:] = zlib.crc32(damaged[:-4]).to_bytes(4, "little")
        try:
            decode(bytes(damaged), limits=Limits(elements=100_000))
        except FileFormatError:
            refused += 1
    assert refused > 150


def test_a_part_of_another_kind_may_be_in_chunks() -> None:
    """Parts are integer tensors, so their chunks are read as those of others are."""
    header = Writer()
    header.raw(bytes([3, 1, 5]) + bytes(8))
    vector = replace(small(), integers=small().integers.reshape(-1))
    put_header(
        header,
        Header(vector.shape, HALF, TABLE, chunks=Chunks(4096, LENGTHS, FIRST + SECOND)),
        None,
        Grids(),
    )
    data = of_header(bytes(header.data))
    tensor = decode(data).tensors[0]
    assert np.array_equal(np.abs(tensor.values()), np.abs(np.array(plain_decode(data)[0][0].values)))
    assert "hashed, header" in note(data)
    assert not isinstance(tensor, RawTensor)
