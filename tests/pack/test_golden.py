"""Files of version 1 that must decode for ever to these integers. Never regenerate one: add a new one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from laconic.pack import decode, read
from laconic.records import Codebook, IntTensor, PackedModel, RawTensor, UniformGrid
from tests.pack.strategies import assert_same

GOLDEN = Path(__file__).parent / "golden"

# Every kind of tensor header: both grids in both widths, both models, a dictionary, low bits, a
# background that is not zero, an inherited vector length, each sort of name, an alias.
KINDS = PackedModel(
    (
        IntTensor(
            "0.weight",
            np.array([[0, 1, 0, 0, -1], [0, 0, 0, 0, 0], [2, 0, 0, 0, 1]], np.int32),
            UniformGrid(0.5),
        ),
        IntTensor("0.bias", np.array([3, 0, -4], np.int32), UniformGrid(0.10000000149011612)),
        IntTensor(
            "conv.kernel", np.arange(8, dtype=np.int32).reshape(2, 1, 2, 2) % 3, Codebook((-1.0, 0.0, 1.5))
        ),
        IntTensor("wide", np.array([-(2**31), 7, 2**31 - 1, 7, 7, 7, 7, 7], np.int32), UniformGrid(0.25)),
        IntTensor("rough", np.array([[9, 9, 300], [9, -2000, 9]], np.int32), UniformGrid(0.0078125)),
        IntTensor(
            "words", np.array([0, 1000, -70000, 0, 50000] * 8, np.int32).reshape(8, 5), UniformGrid(1.0)
        ),
        IntTensor("all.equal", np.full((3, 2), 5, np.int32), UniformGrid(1.0)),
        IntTensor("none", np.zeros((0, 4), np.int32), UniformGrid(1.0)),
        IntTensor("point", np.array(-6, np.int32), UniformGrid(1.0)),
        RawTensor("norm.num_batches_tracked", np.array(1234567890123, np.int64)),
        RawTensor("mask", np.array([True, False, True])),
        RawTensor("half", np.array([[1.5, -0.25]], np.float16)),
    ),
    aliases={"tied.weight": "0.weight"},
)
KINDS_HEX = (
    "4c4143018502000c0101300204636f6e7600066b65726e656c00000477696465000005726f756768000005776f726473"
    "03616c6c0005657175616c0000046e6f6e65000005706f696e74046e6f726d0a0000046d61736b00000468616c660474"
    "696564010006020305003ff50020010112cdcccc3d09010d04020102020380bf0000c03f0006030302060108803e8704"
    "180e06020203003cf00060fc01031226020805803f04dfc508efa204e707e7fe02ff066001010205020302803f0a0205"
    "020004803f00020500803f0b02000300cb04fb711f010000000801030100010001020102003e00b4918788d0726f4ce0"
    "b6beffd535f7ff2c0b893315ad383edad94dc908767c0c7d99c940"
)


def test_kinds() -> None:
    assert_same(decode(bytes.fromhex(KINDS_HEX)), KINDS)


def test_lenet() -> None:
    """LeNet-5 after Sparse VD, 1 374 weights left: the same integers as the array archive beside it."""
    model = read(GOLDEN / "lenet5_sparse.lac")
    with np.load(GOLDEN / "lenet5_sparse.npz") as arrays:
        assert [t.name for t in model.tensors] == arrays.files
        for tensor in model.tensors:
            assert isinstance(tensor, IntTensor)
            assert tensor.grid == UniformGrid(0.125)
            assert np.array_equal(tensor.integers, arrays[tensor.name])


def test_static() -> None:
    """Codec 1 with a table of three classes: 70 000 symbols of a linear congruential generator."""
    state, symbols = 1, []
    for _ in range(70_000):
        state = (state * 1103515245 + 12345) % 2**31
        symbols.append({0: 1, 1: -1}.get((state >> 16) % 200, 0))
    tensor = read(GOLDEN / "static.lac").tensors[0]
    assert isinstance(tensor, IntTensor)
    assert tensor.integers.tolist() == symbols
