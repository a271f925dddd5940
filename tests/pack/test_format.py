"""FORMAT.md is complete: a plain decoder written from it reads what the library writes."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.pack import decode, encode, layout
from laconic.records import IntArray, IntTensor, PackedModel, UniformGrid
from tests.helpers.plain_decoder import plain_decode
from tests.pack.strategies import models
from tests.pack.test_golden import KINDS

GOLDEN = Path(__file__).parent / "golden"


def assert_plain_agrees(data: bytes) -> None:
    """The plain decoder and the library read the same file alike."""
    found, aliases = plain_decode(data)
    model = decode(data)
    assert aliases == dict(model.aliases)
    assert [plain.name for plain in found] == [tensor.name for tensor in model.tensors]
    for plain, tensor in zip(found, model.tensors, strict=True):
        assert plain.shape == tensor.shape
        values = tensor.values()
        assert np.array(plain.values, values.dtype).reshape(values.shape).tobytes() == values.tobytes()
        if isinstance(tensor, IntTensor):
            assert plain.integers == tensor.integers.reshape(-1).tolist()


@settings(max_examples=60, deadline=None)
@given(models())
def test_any_model(model: PackedModel) -> None:
    assert_plain_agrees(encode(model))


def test_every_kind_of_tensor() -> None:
    assert_plain_agrees(encode(KINDS))


def _blobs(seed: int, shape: tuple[int, ...]) -> IntArray:
    """Sparse integers with empty rows, empty columns and images that hang together."""
    rng = np.random.default_rng(seed)
    field = rng.normal(0, 1, shape)
    for axis in range(1, len(shape)):
        field = field + np.roll(field, 1, axis)
    matrix = np.where(np.abs(field) > 2.2, np.round(2 * field), 0).astype(np.int32).reshape(shape[0], -1)
    matrix[rng.random(len(matrix)) < 0.3] = 0
    matrix[:, rng.random(matrix.shape[1]) < 0.2] = 0
    return np.ascontiguousarray(matrix.reshape(shape))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_networks_with_images(seed: int) -> None:
    """Kernels, maps of the layer before, whole images, odd widths, biases: every geometry and factor."""
    shapes = ((6, 1, 5, 5), (9, 6, 3, 4), (30, 9 * 7), (8, 30), (20, 49), (40, 3, 2))
    tensors = []
    for k, shape in enumerate(shapes):
        tensors.append(IntTensor(f"{k}.weight", _blobs(seed + k, shape), UniformGrid(0.25)))
        bias = tensors[-1].integers.reshape(shape[0], -1).max(1)
        tensors.append(IntTensor(f"{k}.bias", np.ascontiguousarray(bias), UniformGrid(0.25)))
    assert_plain_agrees(encode(PackedModel(tuple(tensors))))


@pytest.mark.usefixtures("without_mixing")
def test_more_lines_than_batches() -> None:
    rng = np.random.default_rng(3)
    full = rng.random((12, 1300)) < np.linspace(0.02, 0.95, 12)[:, None]
    integers = np.where(full, rng.choice(np.array([-1, 1, 2], np.int32), full.shape), np.int32(0))
    data = encode(PackedModel((IntTensor("w", integers, UniformGrid(1.0)),)))
    (row,) = (row for row in layout(data) if row.section == "tensor")
    assert row.note.startswith("adaptive")
    assert_plain_agrees(data)


def test_a_golden_network() -> None:
    assert_plain_agrees((GOLDEN / "lenet5_sparse.lac").read_bytes())


def test_the_plain_decoder_sees_a_wrong_symbol() -> None:
    """The oracle's own checksum fails where a stream is off by one bit, its file checksum set right."""
    data = bytearray((GOLDEN / "lenet5_sparse.lac").read_bytes())
    data[700] ^= 1
    data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
    with pytest.raises((AssertionError, IndexError)):
        plain_decode(bytes(data))
