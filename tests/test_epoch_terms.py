"""A ``data_size`` that counts images or texts where pixels or tokens are terms is told; nothing else is."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laconic
from laconic.epoch_terms import EpochTerms
from laconic.methods import SparseVD
from laconic.tasks import SequenceLabelling

TOKENS = 8
Batches = list[tuple[Tensor, Tensor]]


def _batches(examples: int, size: int) -> Batches:
    x = torch.randn(examples, TOKENS, 4, generator=torch.Generator().manual_seed(0))
    y = (x[..., 0] > 0).long()
    return list(zip(x.split(size), y.split(size), strict=True))


def _told(data: Batches, data_size: int, epochs: int, **options: Any) -> list[str]:
    net = laconic.prepare(
        nn.Linear(4, 2), SparseVD(), data[0][0], data_size=data_size, task=SequenceLabelling(), **options
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for batch in data * epochs:
            optimizer.zero_grad()
            laconic.objective(net, batch).backward()
            optimizer.step()
            laconic.step(net)
    return [str(w.message) for w in caught if "data_size" in str(w.message)]


def test_sequences_in_place_of_tokens_are_told_once() -> None:
    (note,) = _told(_batches(100, 12), 100, epochs=5)
    assert "an epoch of this loop has 800 likelihood terms, and data_size=100" in note
    assert "weighs 8.0 times too much" in note and "Cure: data_size=800 in laconic.prepare" in note
    assert not _told(_batches(100, 12), 800, epochs=5)


def test_with_batches_at_hand_one_epoch_is_enough() -> None:
    data = _batches(96, 12)  # every batch is as large as the others
    (note,) = _told(data, 96, epochs=1, batches=data)
    assert "an epoch of this loop has 768 likelihood terms" in note
    assert not _told(data, 768, epochs=3, batches=data)
    assert not _told(data, 300, epochs=3, batches=data)  # each example is given a few times, say


def test_compress_tells_it_too() -> None:
    data = _batches(96, 12)
    with pytest.warns(UserWarning, match="an epoch of this loop has 768 likelihood terms, and data_size=100"):
        laconic.compress(
            nn.Linear(4, 2),
            data,
            data,
            SparseVD(),
            task=SequenceLabelling(),
            data_size=100,
            fit=laconic.train.fit.FitConfig(epochs=1),
        )


@pytest.mark.parametrize(
    "sizes",
    [
        [32] * 40,  # one text, cut at random: no epoch ends
        [32, 16] * 20,  # two loaders by turns
        [32, 32, 16] * 20,
        [17, 32, 5, 30, 32, 5, 11] * 6,  # batches of as many tokens, not of as many texts
        [32] * 9 + [7] + [32] * 11 + [7] + [32] * 9 + [7],
        [32] * 9 + [40] + [32] * 9 + [40],
    ],
    ids=["endless", "two by turns", "three by turns", "any size", "epochs differ", "larger"],
)
def test_what_is_no_epoch_is_not_taken_for_one(sizes: list[int]) -> None:
    watched = EpochTerms(data_size=64)
    assert not any(watched.see(size, size * TOKENS) for size in sizes)


def test_a_data_size_that_is_larger_is_not_told() -> None:
    watched = EpochTerms(data_size=10**6)
    assert not any(watched.see(size, size) for size in ([32] * 9 + [7]) * 3)


def test_steps_over_several_batches_are_not_taken_for_batches() -> None:
    data = [(torch.zeros(12, 4), torch.zeros(12, dtype=torch.long))] * 40
    net = laconic.prepare(nn.Linear(4, 2), SparseVD(), data[0][0], data_size=480, batches=data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k, batch in enumerate(data * 4, 1):
            (laconic.objective(net, batch) / 4).backward()
            if k % 4 == 0:
                laconic.step(net, terms=48)
