"""Removing units from tensors of every kind."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from laconic.methods import Compressed
from laconic.methods.common.removal import remove_dead_units
from laconic.records import HashedTensor, IntTensor, RawTensor, UniformGrid


def test_units_of_every_kind_of_tensor_are_removed_with_their_numbers() -> None:
    """Steps by unit go with their unit; hashed weights, which have no smaller form, become raw elements."""
    steps = tuple(0.5 * (k + 1) for k in range(4))
    q = np.array([[1, 2], [0, 0], [3, -1], [0, 2]], np.int32)
    first = IntTensor("0.weight", q, UniformGrid(steps, 0))
    second = HashedTensor("2.weight", (3, 4), 5, RawTensor("", np.ones(3, np.float32)))
    net = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False))
    values = {"0.weight": first.values(), "2.weight": second.values().copy()}
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(torch.from_numpy(values[name]))
        net[2].weight[:, 1] = 0
    small = remove_dead_units(Compressed(net, {"0.weight": first, "2.weight": second}, {}, torch.zeros(1, 2)))
    kept = small.tensors["0.weight"]
    assert isinstance(kept, IntTensor) and kept.grid == UniformGrid((0.5, 1.5, 2.0), 0)
    assert np.array_equal(kept.values(), first.values()[[0, 2, 3]])
    assert isinstance(small.tensors["2.weight"], RawTensor)
    assert np.array_equal(small.tensors["2.weight"].values(), second.values()[:, [0, 2, 3]])
