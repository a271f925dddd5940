"""One watcher: what is shown before and after a call, by which names, and what runs in its place."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from laconic.networks.watching import Watching


def test_calls_are_shown_before_they_write_and_after_they_return():
    x = torch.zeros(3)
    seen = []
    with Watching(
        before=lambda call: seen.append((call.name, call.tensors()[0].tolist(), call.result)),
        after=lambda call: seen.append((call.name, call.results()[0].tolist())),
    ):
        x.add_(1.0)
    assert seen == [("add_", [0.0] * 3, None), ("add_", [1.0] * 3)]
    x.add_(1.0)
    assert len(seen) == 2  # nobody watches any more


def test_names_are_plain_and_a_propertys_is_its_own():
    names = []
    x, layer = torch.ones(2, 3), nn.Linear(3, 4)
    with Watching(before=lambda call: names.append(call.name)):
        _ = x.shape
        F.relu(layer(x))
        _ = x + x
        torch.special.ndtri(x)
    assert names == ["shape", "linear", "relu", "add", "special_ndtri"]


def test_arguments_by_position_and_by_name_and_tensors_in_lists():
    found = []
    x, weight = torch.ones(1, 2), torch.ones(3, 2)
    with Watching(before=lambda call: found.append(call)):
        F.linear(x, weight=weight)
        torch.cat([x, weight])
    assert found[0].argument(1, "weight") is weight and found[0].argument(2, "bias", 7) == 7
    assert [t is u for t, u in zip(found[1].tensors(), (x, weight), strict=True)] == [True, True]


def test_something_else_runs_in_a_calls_place_and_is_not_shown_after_it():
    after, x = [], torch.ones(1)
    with Watching(after=lambda call: after.append(call.name), instead={torch.relu: lambda call: "mine"}):
        got = torch.relu(x)
        torch.tanh(x)
    assert got == "mine" and after == ["tanh"]
