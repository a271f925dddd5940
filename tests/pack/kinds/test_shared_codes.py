"""Random codes that several tensors share: what is refused, what is read, how long the file is."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from laconic.cli.readers import format_rows
from laconic.errors import CorruptFileError, FileFormatError, InputError, LimitError
from laconic.pack import Limits, decode, encode, layout
from laconic.pack import open as open_file
from laconic.pack import write as write_file
from laconic.pack.file.container import take_apart
from laconic.pack.file.needs import kept_bytes, listing
from laconic.pack.kinds.shared_codes import packed_indices
from laconic.records import PackedModel, SharedCode, SharedCodeTensor
from laconic.records.random_bits import normal_quantiles
from laconic.records.shared_codes import block_key, block_starts, code_order, word
from tests.pack.kinds.test_hostile_kinds import file_of, shape, varints
from tests.pack.test_golden_shared_codes import MADE

FIRST_BYTE = bytes([3 | 10 << 2])
CODE = varints(4, 7, 2, 3) + b"\xb4"  # four weights, seed 7, two indices of three bits: 5 and 5
ONE = b"\x80\x3f"


def coded(dims: bytes, code: bytes = CODE, skip: int = 0, buckets: int = 0, scale: bytes = ONE) -> bytes:
    return FIRST_BYTE + dims + code + varints(skip, buckets) + scale


def test_one_made_by_hand_is_read() -> None:
    (tensor,) = decode(file_of(coded(shape(2, 2)))).tensors
    assert isinstance(tensor, SharedCodeTensor)
    assert tensor.code.indices.tolist() == [5, 5] and (tensor.first, tensor.scale) == (0, 1.0)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ((coded(shape(2), varints(0)),), "random code before it, and there is none"),
        ((coded(shape(5)),), "weights 0 to 5 of a code of 4"),
        ((coded(shape(2), skip=3),), "weights 3 to 5 of a code of 4"),
        ((coded(shape(2), skip=4),), "passes over 4 of 4"),
        ((coded(shape(2), buckets=3),), "of 2 entries has 3 buckets"),
        ((coded(shape(2), scale=b"\x80\x7f"),), "a scale"),
        ((coded(shape(2), scale=b"\x80\xbf"),), "scale must be"),
        ((coded(shape(2), scale=b"\xc0\x7f"),), "a scale"),
        ((coded(shape(2), varints(4, 7, 2, 3) + b"\xb5"),), "after the last index"),
        ((coded(shape(2), varints(4, 7, 0, 3)),), "4 weights in 0 blocks"),
        ((coded(shape(2), varints(4, 7, 5, 3) + bytes(2)),), "4 weights in 5 blocks"),
        ((coded(shape(2), varints(4, 7, 2, 0)),), "blocks of 0 bits"),
        ((coded(shape(2), varints(4, 7, 2, 31) + bytes(8)),), "blocks of 31 bits"),
        ((coded(shape(2), varints(2**22 + 1, 7, 1, 8) + b"\0"),), "4194305 weights"),
        ((coded(shape(2), varints(2**22, 7, 2**22, 30) + b"\0"),), "ends"),
        ((coded(shape(2)), coded(shape(3), varints(0))), "weights 2 to 5 of a code of 4"),
    ],
)
def test_hostile_fields_are_refused(headers: tuple[bytes, ...], said: str) -> None:
    with pytest.raises(FileFormatError, match=said) as caught:
        decode(file_of(*headers))
    cure = str(caught.value).partition("Cure: ")[2]
    assert cure in ("", CorruptFileError.cure), "not what a record tells the caller who makes one"


def test_a_small_file_that_claims_a_long_code_is_beyond_its_memory() -> None:
    with pytest.raises(LimitError, match="memory"):
        decode(file_of(coded(shape(2), varints(2**22, 7, 1, 8) + b"\0")))


def test_every_flipped_bit_and_every_cut_is_seen() -> None:
    data = encode(MADE)
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(FileFormatError):
            decode(bytes(damaged))
    for length in range(len(data)):
        with pytest.raises(FileFormatError):
            decode(data[:length])


@pytest.mark.parametrize("bits", [1, 7, 8, 13, 30])
def test_the_indices_take_their_bits_and_no_more(bits: int) -> None:
    indices = np.random.default_rng(0).integers(0, 2**bits, 5001).astype(np.int32)
    code = SharedCode(1, 20_000, bits, indices)
    tensor = SharedCodeTensor("w", (20_000,), code, 0, 0, 1.0)
    data = encode(PackedModel((tensor,)))
    short = encode(
        PackedModel((SharedCodeTensor("w", (20_000,), SharedCode(1, 20_000, bits, indices[:8]), 0, 0, 1.0),))
    )
    counts = 1  # the varint of 5001 has a byte more than that of 8
    lengths = 2 if len(data) > 16_383 else 1 if len(data) > 127 else 0  # the varint of the file's length
    assert len(data) - len(short) == -(-5001 * bits // 8) - bits + counts + lengths
    (found,) = decode(data).tensors
    assert isinstance(found, SharedCodeTensor) and np.array_equal(found.code.indices, indices)
    assert len(packed_indices(indices, bits)) == code.index_bytes


def test_one_tensor_is_read_without_the_others(tmp_path: Path) -> None:
    write_file(tmp_path / "codes.lac", MADE)
    with open_file(tmp_path / "codes.lac") as file:
        for made in reversed(MADE.tensors):
            assert np.array_equal(file[made.name], made.values())


def test_one_tensor_counts_the_whole_code_it_refers_to(tmp_path: Path) -> None:
    """Reading the second tensor of a code computes all of it: limits hold for it as for the first."""
    code = SharedCode(1, 1 << 22, 1, np.zeros(1, np.int32))
    tensors = tuple(SharedCodeTensor(name, (1,), code, k, 0, 1.0) for k, name in enumerate("ab"))
    write_file(tmp_path / "long.lac", PackedModel(tensors))
    with open_file(tmp_path / "long.lac") as file:
        assert sorted(file.beyond_limits()) == ["a", "b"]
        with pytest.raises(LimitError):
            file["b"]


def test_codes_that_are_read_one_after_another_stay_and_are_counted(tmp_path: Path) -> None:
    """Each code keeps its weights and indices while the file is open."""
    size = 1 << 16
    codes = [SharedCode(k, size, 1, np.zeros(size, np.int32)) for k in range(8)]
    tensors = tuple(SharedCodeTensor(f"w{k}", (1,), code, 0, 0, 1.0) for k, code in enumerate(codes))
    data = encode(PackedModel(tensors))
    parts = take_apart(data, Limits())
    kept = 8 * 8 * size
    assert kept_bytes([item for item, _ in parts.headers]) == kept
    one = encode(PackedModel(tensors[:1]))
    room = 1 << 30
    listed = [listing(take_apart(d, Limits()), len(d), room).memory - 6 * len(d) for d in (one, data)]
    assert kept - kept // 8 <= listed[1] - listed[0] < kept
    write_file(tmp_path / "codes.lac", PackedModel(tensors))
    held = 48 * size + kept + kept // 8
    with open_file(tmp_path / "codes.lac", limits=Limits(memory=held - kept // 2, memory_per_byte=0)) as file:
        assert "w0" in file.beyond_limits()
    with open_file(
        tmp_path / "codes.lac", limits=Limits(memory=held + 8 * len(data), memory_per_byte=0)
    ) as file:
        assert not file.beyond_limits()


@pytest.mark.parametrize("blocks", [1, 3, 1000])
def test_a_long_block_takes_the_time_that_is_counted(blocks: int) -> None:
    size = 1 << 19
    code = SharedCode(5, size, 8, np.full(blocks, 77, np.int32))
    started = time.process_time()
    normals = code.normals
    spent = time.process_time() - started
    assert spent < 4 * 300e-9 * size + 0.3  # the steps of a weight; a busy machine takes some times as long
    slow = [
        [word(word(block_key(5, b), 77), j // 5) >> (52 - 12 * (j % 5)) & 4095 for j in (0, 1, 6, 499)]
        for b in range(min(blocks, 2))
    ]
    starts, order = block_starts(size, blocks), code_order(5, size)
    for b, bits in enumerate(slow):
        places = order[starts[b] + np.array([0, 1, 6, 499])]
        assert np.array_equal(normals[places], normal_quantiles()[bits])


def test_a_table_says_what_a_random_code_is() -> None:
    rows = [row for row in layout(encode(MADE)) if row.section == "tensor"]
    assert rows[0].levels == 0 and rows[0].note.startswith(f"random code of {MADE.tensors[0].code.bits} bits")
    assert " -  " in format_rows(rows) and "random code of" in format_rows(rows)


def test_every_method_answers() -> None:
    for tensor in decode(encode(MADE)).tensors:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert tensor.cost().entries == tensor.size and 0 <= tensor.nonzeros() <= tensor.size
            assert tensor.renamed("v").name == "v" and tensor.coded() is tensor.multiples() is None
            rows = tensor.take(0, np.array([1, 0]))
            assert np.array_equal(rows.values(), tensor.values()[[1, 0]])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SharedCode(-1, 4, 3, np.zeros(2, np.int32)), "seed"),
        (lambda: SharedCode(0, 2**22 + 1, 3, np.zeros(2, np.int32)), "weights"),
        (lambda: SharedCode(0, 4, 3, np.zeros(0, np.int32)), "0 blocks"),
        (lambda: SharedCode(0, 4, 3, np.array([8], np.int32)), "indices of 3 bits are in 8..8"),
        (lambda: SharedCode(0, 4, 3, np.array([-1], np.int32)), "in -1..-1"),
        (
            lambda: SharedCodeTensor("w", (2,), SharedCode(0, 4, 3, np.zeros(2, np.int32)), 0, 0, 0.1),
            "bfloat16",
        ),
    ],
)
def test_records_refuse_what_they_cannot_hold(make: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()  # type: ignore[operator]


def test_a_reference_without_a_code_in_another_file_is_seen() -> None:
    """A file's memory is its own: the code of a file that was read before does not count."""
    decode(file_of(coded(shape(2))))
    with pytest.raises(CorruptFileError, match="there is none"):
        decode(file_of(coded(shape(2), varints(0))))
