"""A golden file of grids per channel and shared, and of each other kind. Never regenerate it: add one."""

from __future__ import annotations

import numpy as np

from laconic.pack import decode, encode
from laconic.records import (
    Codebook,
    HashedTensor,
    IntTensor,
    PackedModel,
    ProductTensor,
    RandomCodeTensor,
    RawTensor,
    UniformGrid,
)
from tests.helpers.plain_decoder import plain_decode
from tests.pack.strategies import assert_same

ONE = UniformGrid(1.0)
SHARED = Codebook((-0.75, 0.0, 0.125, 2.0))
STEP = 0.10000000149011612
MADE = PackedModel(
    (
        IntTensor("steps.weight", np.array([[1, -2, 0], [3, 0, 7]], np.int32), UniformGrid((0.5, 2.0), 0)),
        IntTensor("steps.last", np.array([[1, -2], [3, 0]], np.int32), UniformGrid((STEP, 2.0), 1)),
        IntTensor("books", np.array([[0, 1], [2, 0]], np.int32), Codebook(((-1.0, 1.0), (0.0, 0.5, 3.0)), 0)),
        IntTensor("a.weight", np.array([[0, 1, 3], [2, 1, 1]], np.int32), SHARED),
        IntTensor("b.weight", np.array([[3, 3], [1, 2]], np.int32), SHARED),
        HashedTensor(
            "hashed", (2, 5), 2**63 + 11, IntTensor("", np.array([3, 0, -4], np.int32), UniformGrid(0.25))
        ),
        HashedTensor("hashed.raw", (3,), 0, RawTensor("", np.array([1.5, -2.5], np.float32))),
        RandomCodeTensor(
            "codes", (2, 4), 77, 3, IntTensor("", np.array([5, 0, 1000], np.int32), ONE), (0.5, STEP)
        ),
        ProductTensor(
            "product",
            IntTensor("", np.array([[1, 2], [0, -3]], np.int32), UniformGrid(STEP)),
            RawTensor("", np.array([[0.1, 0.2, 0.3], [1.0, -1.0, 7.0]], np.float32)),
        ),
    )
)
MADE_HEX = (
    "4c414301a602000900057374657073015000046c617374000005626f6f6b730161010162010000066861736865640668"
    "61736865640003726177000005636f64657300000770726f647563744602020300003f0040f5002001034202020201cd"
    "cccc3d00000040f8002001024d020202000280bf803f030000003f404000060201010d0202030440bf0000003e004000"
    "080103010181020202000206010102030202050b00000000000080060103803e09010301030000000000000000000001"
    "020000c03f000020c0070202044d0000000000000003020000003fcdcccc3d060103803fe907020b02020302020202cd"
    "cccc3df8002001020000020203cdcccc3dcdcc4c3e9a99993e0000803f000080bf0000e0404984ff358c94e60aa02741"
    "eea773f0bfedf20a027c0db9"
)
VALUES: dict[str, list[str]] = {
    "hashed": [
        "0x1.8000000000000p-1",
        "0x0.0p+0",
        "0x1.0000000000000p+0",
        "-0x1.0000000000000p+0",
        "0x0.0p+0",
        "0x1.0000000000000p+0",
        "0x1.0000000000000p+0",
        "0x1.0000000000000p+0",
        "0x1.0000000000000p+0",
        "0x0.0p+0",
    ],
    "codes": [
        "-0x1.1cae400000000p-3",
        "-0x1.1765040000000p+0",
        "-0x1.1bf60a0000000p-1",
        "0x1.67a9500000000p-4",
        "0x1.5b7c7c0000000p-4",
        "-0x1.883e060000000p-6",
        "-0x1.32ec680000000p-8",
        "0x1.91d18e0000000p-5",
    ],
    "product": [
        "0x1.ae147c0000000p-3",
        "-0x1.70a3d80000000p-3",
        "0x1.6e147c0000000p+0",
        "-0x1.3333340000000p-2",
        "0x1.3333340000000p-2",
        "-0x1.0cccce0000000p+1",
    ],
}


def test_the_file_decodes_to_the_same_tensors() -> None:
    assert_same(decode(bytes.fromhex(MADE_HEX)), MADE)


def test_their_values_stay_the_same_bits() -> None:
    for tensor in decode(bytes.fromhex(MADE_HEX)).tensors:
        if tensor.name in VALUES:
            expected = np.array([float.fromhex(x) for x in VALUES[tensor.name]], np.float32)
            assert tensor.values().reshape(-1).tobytes() == expected.tobytes()


def test_the_plain_decoder_reads_them() -> None:
    found, _ = plain_decode(bytes.fromhex(MADE_HEX))
    for plain, tensor in zip(found, MADE.tensors, strict=True):
        assert np.array(plain.values, np.float32).tobytes() == tensor.values().tobytes()


def test_a_shared_codebook_is_in_the_file_once() -> None:
    """Four levels of two bytes: a second tensor pays one byte for them, not nine."""
    one = IntTensor("a", np.array([0, 1, 2, 3] * 9, np.int32), SHARED)
    shared = encode(PackedModel((one, one.renamed("b"))))
    other = Codebook((-0.75, 0.0, 0.25, 2.0))
    apart = encode(PackedModel((one, IntTensor("b", one.integers, other))))
    assert len(apart) - len(shared) == 8
