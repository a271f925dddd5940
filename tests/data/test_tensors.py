"""Splits and loaders: nothing lost, nothing seen twice, and an order that a seed and an epoch decide."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laconic.data import Splits, TensorLoader, TensorPair, load, split
from laconic.errors import DataError, InputError


@pytest.fixture(scope="module")
def parts() -> Splits:
    return split(load("digits"), validation=237, seed=0)


def numbered(count: int) -> TensorPair:
    """Inputs that say which example they are."""
    return TensorPair(torch.arange(count).float()[:, None], torch.zeros(count, dtype=torch.int64), 1)


def rows(loader: TensorLoader) -> list[int]:
    return [int(x) for inputs, _ in loader for x in inputs[:, 0]]


def test_split_gives_all_images_once(parts: Splits) -> None:
    data = load("digits")
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [1200, 237, 360]
    together = torch.cat([parts.train.inputs, parts.validation.inputs])
    stored = torch.from_numpy(data.train_images.copy()).float()[:, None] / 16
    assert sorted(x.numpy().tobytes() for x in together) == sorted(x.numpy().tobytes() for x in stored)
    assert torch.equal(parts.test.labels, torch.from_numpy(data.test_labels.astype("int64")))
    assert parts.train.inputs.dtype == torch.float32
    assert (parts.train.inputs.min(), parts.train.inputs.max()) == (0, 1)


def test_images_keep_their_labels(parts: Splits) -> None:
    data = load("digits")
    label_of = {
        (i / 16).astype("f4").tobytes(): int(n)
        for i, n in zip(data.train_images, data.train_labels, strict=True)
    }
    for image, label in zip(parts.validation.inputs, parts.validation.labels, strict=True):
        assert label_of[image.numpy().tobytes()] == int(label)


def test_split_depends_on_its_seed_alone(parts: Splits) -> None:
    torch.manual_seed(3)
    again = split(load("digits"), validation=237, seed=0)
    other = split(load("digits"), validation=237, seed=1)
    assert torch.equal(again.train.inputs, parts.train.inputs)
    assert not torch.equal(other.train.inputs, parts.train.inputs)


@pytest.mark.parametrize("validation", [0, -1, 1437, 5000])
def test_split_refuses_to_leave_a_set_empty(validation: int) -> None:
    with pytest.raises(InputError, match=f"validation={validation} must be between 1 and 1436"):
        split(load("digits"), validation=validation, seed=0)


def test_split_refuses_a_negative_seed() -> None:
    with pytest.raises(InputError, match="seed must be >= 0, got -1"):
        split(load("digits"), validation=10, seed=-1)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (torch.tensor([0, 1, 5]), r"label 5 is outside 0\.\.4 \(5 classes\)"),
        (torch.tensor([0, -1, 4]), r"label -1 is outside 0\.\.4"),
        (torch.tensor([0, 1]), "3 inputs but 2 labels"),
        (torch.tensor([0.0, 1.0, 2.0]), "labels should be int64"),
        (torch.zeros(3, 1, dtype=torch.int64), r"got torch.int64 \(3, 1\)"),
    ],
)
def test_a_pair_refuses_wrong_labels(labels: torch.Tensor, why: str) -> None:
    with pytest.raises(DataError, match=why):
        TensorPair(torch.zeros(3, 2), labels, 5)


def test_a_pair_refuses_to_be_empty() -> None:
    with pytest.raises(DataError, match="empty"):
        TensorPair(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 5)


@given(
    count=st.integers(1, 40),
    size=st.integers(1, 50),
    shuffle=st.booleans(),
    drop=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_a_pass_gives_every_example_once(
    count: int, size: int, shuffle: bool, drop: bool, epoch: int
) -> None:
    if drop and size > count:
        return
    loader = TensorLoader(numbered(count), size, shuffle=shuffle, drop_last=drop)
    loader.set_epoch(epoch)
    batches = [inputs for inputs, _ in loader]
    seen = sorted(int(x) for batch in batches for x in batch)
    assert len(batches) == len(loader)
    assert all(len(b) == size for b in batches[:-1])
    assert len(set(seen)) == len(seen) == (count - count % size if drop else count)
    assert loader.data_size == count


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = TensorLoader(numbered(50), 7, seed=4)
    passes = [rows(first) for _ in range(3)]
    resumed = TensorLoader(numbered(50), 7, seed=4)
    torch.manual_seed(99)
    resumed.set_epoch(2)
    assert rows(resumed) == passes[2]
    assert passes[0] != passes[1] != passes[2]
    assert rows(TensorLoader(numbered(50), 7, seed=5)) != passes[0]
    assert rows(TensorLoader(numbered(50), 7, shuffle=False)) == list(range(50))


def test_seed_and_epoch_do_not_mix_up() -> None:
    """Seed 1 in epoch 0 is not seed 0 in epoch 1."""
    loaders = [TensorLoader(numbered(50), 50, seed=seed) for seed in range(4)]
    orders = {tuple(loader.order(epoch).tolist()) for loader in loaders for epoch in range(4)}
    assert len(orders) == 16


def test_a_pass_under_way_is_not_changed_by_another() -> None:
    loader = TensorLoader(numbered(20), 5, seed=1)
    first = iter(loader)
    head = next(first)[0]
    list(loader)
    tail = [inputs for inputs, _ in first]
    assert sorted(int(x) for batch in [head, *tail] for x in batch) == list(range(20))


def test_channels_last_changes_the_layout_only() -> None:
    pair = TensorPair(torch.arange(48.0).reshape(2, 3, 2, 4), torch.zeros(2, dtype=torch.int64), 1)
    (plain, _), (by_pixel, _) = (
        next(iter(TensorLoader(pair, 2, shuffle=False, channels_last=flag))) for flag in (False, True)
    )
    assert torch.equal(plain, by_pixel)
    assert plain.is_contiguous()
    assert by_pixel.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(InputError, match="channels_last needs inputs"):
        TensorLoader(numbered(3), 1, channels_last=True)


def test_a_loader_refuses_what_gives_no_batch() -> None:
    with pytest.raises(InputError, match="batch_size >= 1"):
        TensorLoader(numbered(3), 0)
    with pytest.raises(DataError, match="3 examples do not fill one of 4"):
        TensorLoader(numbered(3), 4, drop_last=True)
