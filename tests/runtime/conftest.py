from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from laconic.records import AnyArray, PackedModel

if TYPE_CHECKING:  # most of this folder needs no torch, which takes a minute to import under an emulator
    from torch import nn


@dataclass(frozen=True, eq=False)
class Digits:
    """A small trained network, float32 and calibrated, with the test set."""

    module: nn.Module
    plain: PackedModel
    ready: PackedModel
    train: AnyArray
    test: AnyArray
    labels: AnyArray


def trained(module: nn.Module, x: AnyArray, labels: AnyArray, epochs: int = 8) -> nn.Module:
    """A few epochs of Adam, always the same."""
    import torch
    import torch.nn.functional as F

    optimiser = torch.optim.Adam(module.parameters(), lr=5e-3)
    inputs, classes = torch.from_numpy(x), torch.from_numpy(labels.astype(np.int64))
    order = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs), generator=order).split(64):
            optimiser.zero_grad()
            F.cross_entropy(module(inputs[batch]), classes[batch]).backward()
            optimiser.step()
    return module.eval()


@pytest.fixture(scope="session")
def digits() -> Digits:
    import torch

    from laconic.data import load
    from laconic.data.images import as_input
    from laconic.export import build_packed
    from laconic.runtime import calibrate
    from laconic.zoo import DigitsCNN

    data = load("digits")
    train, test = (as_input(part, data.scale) for part in (data.train_images, data.test_images))
    module = trained(DigitsCNN(generator=torch.Generator().manual_seed(0)), train, data.train_labels)
    plain = build_packed(module, {}, torch.from_numpy(train[:2]))[0]
    return Digits(module, plain, calibrate(plain, [(train,)]), train, test, data.test_labels)
