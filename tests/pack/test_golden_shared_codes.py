"""A golden file of random codes that several tensors share. Never regenerate it: add one."""

from __future__ import annotations

import copy

import numpy as np

from laconic.pack import decode, encode
from laconic.records import PackedModel, SharedCode, SharedCodeTensor, Tensor
from tests.helpers.plain_decoder import plain_decode

FIRST = SharedCode(300, 23, 11, np.array([2047, 0, 1234], np.int32))
SECOND = SharedCode(2**64 - 1, 7, 4, np.array([15, 3], np.int32))
MADE = PackedModel(
    (
        SharedCodeTensor("a.weight", (3, 4), FIRST, 0, 0, 0.5),
        SharedCodeTensor("a.bias", (3,), FIRST, 12, 0, 0.25),
        SharedCodeTensor("tied", (2, 3, 5), FIRST, 16, 7, 3.0),  # one weight is passed over
        SharedCodeTensor("again", (2,), FIRST, 12, 0, 1.0),  # an earlier place: it is reached from the end
        SharedCodeTensor("other", (7,), SECOND, 0, 0, 0.10009765625),
    )
)
MADE_HEX = (
    "4c4143016600050001610200000474696564000005616761696e0000056f746865722b02030417ac02030bffe0026900"
    "0000003f2b0103000000803e2b0302030500010740402b0102000c00803f2b010707ffffffffffffffffff010204f300"
    "00cd3d00000080c61931d3"
)
VALUES: dict[str, list[str]] = {  # the first four
    "a.weight": [
        "-0x1.0c99d60000000p-2",
        "-0x1.aac5940000000p-2",
        "-0x1.0eb80c0000000p-8",
        "-0x1.85ea420000000p-3",
    ],
    "a.bias": ["0x1.43fae20000000p-4", "0x1.0b2b1e0000000p-1", "0x1.6684400000000p-2"],
    "tied": ["0x1.92da100000000p+2", "0x1.fcc0e60000000p-1", "-0x1.87dad00000000p+2", "0x1.87dad00000000p+2"],
    "again": ["0x1.43fae20000000p-2", "0x1.0b2b1e0000000p+1"],
    "other": [
        "-0x1.c81c3e0000000p-7",
        "-0x1.d8d0160000000p-5",
        "0x1.5138e00000000p-11",
        "0x1.4f04e20000000p-6",
    ],
}


def same(found: Tensor, made: Tensor) -> bool:
    return found.name == made.name and found.values().tobytes() == made.values().tobytes()


def test_the_file_decodes_to_the_same_tensors() -> None:
    found = decode(bytes.fromhex(MADE_HEX)).tensors
    assert all(same(f, m) for f, m in zip(found, MADE.tensors, strict=True))
    codes = [t.code for t in found if isinstance(t, SharedCodeTensor)]
    assert codes[0] is codes[1] is codes[2] is codes[3] is not codes[4]
    assert codes[0].indices.tolist() == FIRST.indices.tolist()


def test_it_is_written_again_to_the_same_bytes() -> None:
    assert encode(decode(bytes.fromhex(MADE_HEX))).hex() == MADE_HEX == encode(MADE).hex()


def test_tensors_that_were_copied_one_by_one_are_written_to_the_same_bytes() -> None:
    copied = PackedModel(tuple(copy.deepcopy(tensor) for tensor in MADE.tensors))
    assert encode(copied).hex() == MADE_HEX


def test_their_values_stay_the_same_bits() -> None:
    for tensor in decode(bytes.fromhex(MADE_HEX)).tensors:
        expected = np.array([float.fromhex(x) for x in VALUES[tensor.name]], np.float32)
        assert tensor.values().reshape(-1)[: len(expected)].tobytes() == expected.tobytes()


def test_the_plain_decoder_reads_them() -> None:
    found, _ = plain_decode(bytes.fromhex(MADE_HEX))
    for plain, tensor in zip(found, MADE.tensors, strict=True):
        assert plain.shape == tensor.shape
        assert np.array(plain.values, np.float32).tobytes() == tensor.values().tobytes()
