"""How close the coders come to what the numbers say, and that structure lowers the size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laconic.pack import decode, encode, estimate_bits, layout, measure_bits
from laconic.records import IntArray, IntTensor, PackedModel, SectionRow, Tensor, UniformGrid

SAMPLE = Path(__file__).parent / "golden" / "lenet5_sparse.npz"
SIDE_BYTES = 8  # shape, grid and codec of a tensor: not the coder's doing


def _row(integers: IntArray) -> SectionRow:
    model = PackedModel((IntTensor("w", integers, UniformGrid(0.5)),))
    data = encode(model)
    again = decode(data).tensors[0]
    assert isinstance(again, IntTensor)
    assert np.array_equal(again.integers, integers)
    (row,) = (row for row in layout(data) if row.section == "tensor")
    return row


def _draw(name: str, shape: tuple[int, ...]) -> IntArray:
    rng = np.random.default_rng(len(name))
    if name == "gauss16":
        return np.clip(np.round(rng.normal(0, 3, shape)), -8, 7).astype(np.int32)
    zeros = float(name)
    return rng.choice([0, 1, -1], shape, p=[zeros, (1 - zeros) / 2, (1 - zeros) / 2]).astype(np.int32)


@pytest.mark.parametrize("name", ["0.75", "0.9", "0.95", "0.99", "gauss16"])
@pytest.mark.parametrize("shape", [(100_000,), (250, 400), (4, 25_000)])
def test_within_one_percent_of_the_empirical_entropy(name: str, shape: tuple[int, ...]) -> None:
    integers = _draw(name, shape)
    assert _row(integers).bytes - SIDE_BYTES <= 1.01 * estimate_bits(integers) / 8


def test_wide_alphabets_split_into_classes_and_low_bits() -> None:
    integers = np.round(np.random.default_rng(0).normal(0, 10_000, 50_000)).astype(np.int32)
    normal_bits = np.log2(10_000 * np.sqrt(2 * np.pi * np.e))
    assert _row(integers).bytes < 1.03 * 50_000 * normal_bits / 8


def test_dead_rows_and_columns_cost_next_to_nothing() -> None:
    rng = np.random.default_rng(0)
    integers = np.zeros((400, 500), np.int32)
    rows, columns = rng.choice(400, 40, replace=False), rng.choice(500, 60, replace=False)
    integers[np.ix_(rows, columns)] = rng.choice([-1, 1], (40, 60))
    flags = estimate_bits(np.isin(np.arange(400), rows)) + estimate_bits(np.isin(np.arange(500), columns))
    assert _row(integers).bytes < (40 * 60 + flags) / 8 + 30


def test_image_structure_is_found() -> None:
    """Blobs in a 28 x 28 image cost far less than the same numbers in random order."""
    rng = np.random.default_rng(0)
    blobs = np.zeros((60, 28, 28), np.int32)
    for image in blobs:
        y, x = rng.integers(0, 22, 2)
        image[y : y + 6, x : x + 6] = rng.choice([-1, 1])
    flat = np.ascontiguousarray(blobs.reshape(60, 784))
    assert measure_bits(flat) < 0.4 * measure_bits(rng.permutation(flat.ravel()).reshape(60, 784))


@pytest.fixture(scope="module")
def lenet() -> PackedModel:
    """Integers of LeNet-5 after Sparse VD on MNIST, one run; 1 374 weights are left."""
    with np.load(SAMPLE) as arrays:
        tensors = tuple(IntTensor(n, arrays[n].astype(np.int32), UniformGrid(0.125)) for n in arrays.files)
    return PackedModel(tensors)


def test_a_real_sparse_network_stays_below_its_independent_floor(lenet: PackedModel) -> None:
    """Floor of coders that see no structure but empty rows and columns, values at order 0, no side bytes."""

    def floor_bits(integers: IntArray) -> float:
        matrix = integers.reshape(integers.shape[0], -1) if integers.ndim > 1 else integers[None]
        used = matrix != 0
        rows, columns = used.any(1), used.any(0)
        part = used[rows][:, columns]
        return sum(estimate_bits(x) for x in (rows, columns, part, matrix[used]))

    floor = sum(floor_bits(t.integers) for t in lenet.tensors if isinstance(t, IntTensor)) / 8
    data = encode(lenet)
    assert len(data) < 0.95 * floor
    assert len(data) <= 1400
    assert all(
        np.array_equal(a.values(), b.values())
        for a, b in zip(lenet.tensors, decode(data).tensors, strict=True)
    )


def test_tensors_learn_from_each_other(lenet: PackedModel) -> None:
    """Columns that read dead neurons cost less when the neurons are in the same file."""

    def tensor_bytes(tensors: tuple[Tensor, ...]) -> int:
        return sum(row.bytes for row in layout(encode(PackedModel(tensors))) if row.section == "tensor")

    assert tensor_bytes(lenet.tensors) < sum(tensor_bytes((t,)) for t in lenet.tensors) - 80
