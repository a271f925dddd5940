"""Names of what comes out of a network, from keys and fields."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from laconic.errors import CaptureError
from laconic.export.build import build_packed
from laconic.export.graph_capture import capture
from laconic.export.outputs import described
from laconic.runtime import Network
from tests.helpers.parity import Fn

X = torch.randn(2, 4)


class Pair(NamedTuple):
    mean: torch.Tensor
    variance: torch.Tensor


@dataclass
class Output:
    logits: torch.Tensor
    states: Any = None


@pytest.mark.parametrize(
    ("result", "names", "keyed"),
    [
        (X, (), False),
        ((X, X), (), False),
        ((X, (X, None)), ("0", "1.0"), False),
        ({"a": X, "b": None, "c": (X, X)}, ("a", "c.0", "c.1"), True),
        (OrderedDict(z=X, a={"b": X}), ("z", "a.b"), True),
        (Pair(X, X), ("mean", "variance"), False),
        (Output(X), ("logits",), True),
        (Output(X, [X, X]), ("logits", "states.0", "states.1"), True),
        ((X, {"a": X}), ("0", "1.a"), False),
        ({1: X, "1": X}, (), True),  # two keys that read alike
    ],
)
def test_what_a_module_returns(result: object, names: tuple[str, ...], keyed: bool) -> None:
    found = described(result)
    assert (found.names, found.keyed) == (names, keyed)


def test_what_is_no_tensor_is_named() -> None:
    with pytest.raises(CaptureError, match=r"returns a range as 'states'.*Cure"):
        described(Output(X, range(3)))


class DynamicCache:
    """In the manner of a text generator's keys and values."""


def test_a_cache_of_states_is_switched_off() -> None:
    with pytest.raises(CaptureError, match=r"a DynamicCache as 'states'.*Cure: switch the cache off"):
        described(Output(X, DynamicCache()))


def test_nested_tuples_say_where_their_tensors_were() -> None:
    """A recurrent layer's (outputs, (h, c)) comes back as three arrays; their names say which is which."""
    model = build_packed(nn.LSTM(4, 3), {}, torch.randn(5, 2, 4))[0]
    network = Network.from_packed(model)
    assert network.output_names == ("0", "1.0", "1.1")
    assert [y.shape for y in network(np.zeros((5, 2, 4), np.float32))] == [(5, 2, 3), (1, 2, 3), (1, 2, 3)]


def test_a_graph_says_whether_its_module_returns_names() -> None:
    pair = capture(Fn(lambda layer, x: Pair(layer(x), x), nn.Linear(4, 4)), X).graph
    assert pair.output_names == ("mean", "variance") and not pair.keyed
    assert capture(Fn(lambda layer, x: Output(layer(x)), nn.Linear(4, 4)), X).graph.keyed
