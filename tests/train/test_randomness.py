from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from laconic.train.randomness import global_noise, kept_generators, seeded


def _drawn() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002


class Told:
    """Remembers the epoch that it was told."""

    epoch = -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def test_a_block_draws_the_same_for_the_same_seed_and_epoch_alone() -> None:
    draws = []
    for seed, epoch in ((1, 2), (1, 2), (1, 3), (2, 2), (2**62, 5)):
        _drawn()
        with global_noise(seed, epoch):
            draws.append(_drawn())
    assert draws[0] == draws[1]
    for k in range(3):
        assert len({d[k] for d in draws[1:]}) == 4, "each of the three generators is seeded by both"


def test_what_a_block_draws_is_not_missing_afterwards_even_if_it_fails() -> None:
    with kept_generators():
        wanted = _drawn()
    with pytest.raises(ZeroDivisionError), global_noise(0, 0):
        _drawn()
        1 / 0  # noqa: B018
    assert _drawn() == wanted


def test_each_part_of_a_loader_is_told_its_epoch() -> None:
    outer, sampler, batches, inner = Told(), Told(), Told(), Told()
    loader: Any = outer
    loader.sampler, loader.batch_sampler = sampler, batches
    batches.sampler = inner  # type: ignore[attr-defined]
    assert seeded(loader, 0, 7) is loader
    assert [part.epoch for part in (outer, sampler, batches, inner)] == [7] * 4


def test_each_generator_in_a_loader_is_seeded() -> None:
    made = [torch.Generator() for _ in range(3)]
    batches = SimpleNamespace(sampler=SimpleNamespace(generator=made[2]))
    loader = SimpleNamespace(
        generator=made[0], sampler=SimpleNamespace(generator=made[1]), batch_sampler=batches
    )
    seen = []
    for epoch in (0, 1, 0):
        seeded(loader, 3, epoch)
        seen.append([int(torch.randint(2**60, (), generator=g)) for g in made])
    assert seen[0] == seen[2]
    assert all(a != b for a, b in zip(seen[0], seen[1], strict=True))


def test_what_is_no_loader_is_left_alone() -> None:
    batches = [(torch.zeros(1), torch.zeros(1))]
    assert seeded(batches, 0, 0) is batches
