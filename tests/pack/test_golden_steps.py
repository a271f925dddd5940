"""A golden file of coded steps: both predictions, dropped bits, another axis, chunks, a grid taken again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laconic.errors import CorruptFileError, LimitError, TruncatedFileError
from laconic.pack import Limits, decode, decode_rows, encode, read
from laconic.pack.wire import grids
from laconic.pack.wire.steps import coded_steps, read_steps
from laconic.records import IntArray, IntTensor, PackedModel, UniformGrid
from laconic.varint import Writer
from tests.helpers.plain_decoder import plain_decode
from tests.pack.chunked import chunked_file, framed
from tests.pack.strategies import assert_same

GOLDEN = Path(__file__).parent / "golden" / "steps.lac"
LARGEST = float(np.uint32(0x7F7F0000).view(np.float32))


def steps_of(codes: list[int]) -> tuple[float, ...]:
    """Steps whose upper 16 bits are these numbers."""
    return tuple((np.array(codes, np.uint32) << 16).view(np.float32).tolist())


def integers(shape: tuple[int, ...], top: int) -> IntArray:
    """Small integers of many sizes."""
    flat = np.arange(int(np.prod(shape)), dtype=np.int64)
    return ((flat * 2654435761 >> 7) % (2 * top + 1) - top).astype(np.int32).reshape(shape)


def made() -> list[tuple[IntTensor, int]]:
    """Tensors, and the rows of their chunks (0: none)."""
    rising = UniformGrid(steps_of([0x3C00 + 9 * k * k for k in range(24)]), axis=0)
    noisy = UniformGrid(steps_of([0x3D10 + 16 * (k * 7 % 11) for k in range(40)]), axis=1)
    octaves = UniformGrid(steps_of([0x3E00 + 128 * (k % 3) for k in range(12)]), axis=1)
    wide = UniformGrid(steps_of([0x3B21 + k * 37 % 101 for k in range(300)]), axis=0)
    ends = UniformGrid((*steps_of([1]), *steps_of([0x3F80] * 14), LARGEST), axis=0)
    return [
        (IntTensor("rising.weight", integers((24, 10), 3), rising), 0),
        (IntTensor("noisy.weight", integers((6, 40), 2), noisy), 0),
        (IntTensor("octaves.weight", integers((5, 12, 3, 3), 1), octaves), 0),
        (IntTensor("again.weight", integers((24, 3), 5), rising), 0),
        (IntTensor("chunks.weight", integers((300, 50), 4), wide), 100),
        (IntTensor("ends.weight", integers((16, 4), 1), ends), 0),
        (IntTensor("vector", integers((24,), 9), rising), 0),
    ]


MADE = PackedModel(tuple(tensor for tensor, _ in made()))


def test_the_file_decodes_to_the_same_tensors() -> None:
    assert_same(read(GOLDEN), MADE)


def test_the_plain_decoder_reads_it() -> None:
    found, _ = plain_decode(GOLDEN.read_bytes())
    assert len(found) == len(MADE.tensors)
    for plain, tensor in zip(found, MADE.tensors, strict=True):
        assert np.array(plain.values, np.float32).tobytes() == tensor.values().tobytes()


def test_rows_of_chunks_have_their_steps() -> None:
    found = decode_rows(GOLDEN.read_bytes(), "chunks.weight", 190, 210)
    assert found.values().tobytes() == MADE.tensors[4].values()[190:210].tobytes()


@pytest.mark.usefixtures("without_mixing")
def test_writing_it_gives_the_same_bytes() -> None:
    assert chunked_file(made()) == GOLDEN.read_bytes()


def test_both_predictions_and_all_counts_of_dropped_bits_are_in_it() -> None:
    coded = [coded_steps(tensor.grid.numbers) for tensor, _ in made()]
    forms = [found.form for found in coded if found is not None]
    assert {form >> 7 for form in forms} == {0, 1}
    assert {form >> 4 & 7 for form in forms} >= {0, 4, 7}


def test_a_file_is_shorter_by_what_the_steps_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """472 steps of three bits of mantissa, within two octaves: five bits each in place of 16."""
    codes = 0x3C00 + 16 * np.random.default_rng(0).normal(0, 8, 472).round().astype(int)
    grid = UniformGrid(steps_of(codes.tolist()), axis=0)
    model = PackedModel((IntTensor("w", integers((472, 8), 3), grid),))
    small = encode(model)
    assert_same(decode(small), model)
    monkeypatch.setattr(grids, "coded_steps", lambda steps: None)
    assert 600 < len(encode(model)) - len(small) < 700


@pytest.mark.parametrize("codes", [[1], [0x7F7F, 1], [5, 5, 5], [0x3F80] * 9, list(range(1, 200))])
def test_steps_come_back(codes: list[int]) -> None:
    found = coded_steps(steps_of(codes))
    assert found is not None
    assert read_steps(found, len(codes)) == steps_of(codes)


def test_numbers_that_are_no_bfloat16_are_written_in_full() -> None:
    grid = UniformGrid((float(np.float32(0.1)), 0.5), axis=0)
    assert coded_steps(grid.numbers) is None
    data = encode(PackedModel((IntTensor("w", integers((2, 3), 2), grid),)))
    assert_same(decode(data), PackedModel((IntTensor("w", integers((2, 3), 2), grid),)))


def file_of(form: int, first: int, bits: bytes, *, head: int = 193, axis: int = 0) -> bytes:
    """A file of a tensor of two zeros, in two rows, whose steps are these bytes."""
    out = Writer()
    out.raw(b"\0\1\0\0\0\1w" + bytes([head, 2, 2, 1, axis, form]))
    out.varint(first)
    out.block(bits)
    out.raw(b"\0\2" + b"\xff\x12\xd9\xc1")  # lowest 0, one class; the checksum of two zeros
    return framed(bytes(out.data))


def steps_in(data: bytes) -> tuple[float, ...]:
    """The steps of a file's only tensor."""
    (found,) = decode(data, limits=Limits(elements=1000, levels=50)).tensors
    assert isinstance(found, IntTensor)
    return found.grid.numbers


def test_a_reader_takes_every_form() -> None:
    assert steps_in(file_of(0x00, 0x3F80, b"\x00")) == (1.0, 1.0)
    assert steps_in(file_of(0x01, 0x3F80, b"\x00")) == (1.0, 1.0)
    assert steps_in(file_of(0x70, 0x7F, b"\x80")) == (0.5, 1.0)  # -1, 0 from the first
    assert steps_in(file_of(0xF0, 0x7F, b"\x80")) == (0.5, 0.5)  # -1, 0 from the one before
    assert steps_in(file_of(0x72, 0x7F, b"\x89")) == (4.0, 0.125)  # +2, -3: 10 00, 10 01


def test_what_no_writer_gives_is_refused() -> None:
    refused = [
        (file_of(0x00, 0x7F80, b"\x00"), CorruptFileError, "start at code 32640"),
        (file_of(0x40, 0x7F8, b"\x00"), CorruptFileError, "step 0 of a grid has code 32640"),
        (file_of(0x00, 0, b"\x00"), CorruptFileError, "step 0 of a grid has code 0"),
        (file_of(0x80, 1, b"\x40"), CorruptFileError, "step 1 of a grid has code 0"),
        (file_of(0x00, 2**63, b"\x00"), CorruptFileError, "start at code"),
        (file_of(0x00, 0x3F80, b"\x7f"), TruncatedFileError, "end before channel 1 of 2"),
        (file_of(0x0F, 0x3F80, b"\x00\x00\x00"), TruncatedFileError, "end before channel 1 of 2"),
        (file_of(0x00, 0x3F80, b"\x04"), CorruptFileError, "bits follow the last step"),
        (file_of(0x00, 0x3F80, b"\x00\x00"), CorruptFileError, "bits follow the last step"),
        (file_of(0x00, 0x3F80, b"\xff" * 4 + b"\0"), CorruptFileError, "take 5 bytes when coded"),
        (file_of(0x00, 0x3F80, b""), TruncatedFileError, "2 channels is claimed in 0 bytes"),
        (file_of(0x00, 0x3F80, b"\x00", axis=2), CorruptFileError, "axis 2 of 2 dimensions"),
        (file_of(0x00, 0x3F80, b"\x00", head=197), CorruptFileError, "both takes an earlier grid"),
        (file_of(0x00, 0x3F80, b"\x00", head=201), CorruptFileError, "both takes an earlier grid"),
    ]
    for data, error, words in refused:
        with pytest.raises(error, match=words):
            steps_in(data)


def test_more_steps_than_the_limits_allow_are_refused() -> None:
    grid = UniformGrid(steps_of([0x3C00 + k for k in range(60)]), axis=0)
    data = encode(PackedModel((IntTensor("w", integers((60, 2), 1), grid),)))
    with pytest.raises(LimitError, match="channels of a grid"):
        steps_in(data)
