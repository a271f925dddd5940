"""A graph that does not compute what the module computes never reaches a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from laconic.export import build_packed
from laconic.export.lowering import Call, Lowering
from laconic.export.rules import RULES
from laconic.export.verify import compare
from laconic.runtime import Network
from tests.helpers.parity import Fn

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def with_rule(monkeypatch: pytest.MonkeyPatch, op: Any, rule: Callable[[Lowering, Call], Any]) -> None:
    monkeypatch.setitem(RULES, op, rule)


def wrong_relu(low: Lowering, call: Call) -> Any:
    return low.emit("abs", call.value("self"))


def test_a_rule_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with_rule(monkeypatch, torch.ops.aten.relu, wrong_relu)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU()).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    model, (note,) = build_packed(module, {}, X)
    assert model.graph is None
    assert "other numbers than the module (largest difference" in note
    assert "weights only" in note and "laconic.restore" in note
    assert module.training and all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_a_rule_that_is_wrong_at_another_batch_size_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with_rule(
        monkeypatch,
        torch.ops.aten.relu,
        lambda low, call: low.emit("add", low.emit("relu", call.value("self")), torch.zeros(3, 1)),
    )
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    model, (note,) = build_packed(module, {}, X)
    assert model.graph is None
    assert "does not run on (4, 4)" in note


def test_an_example_of_zeros_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_rule(monkeypatch, torch.ops.aten.relu, wrong_relu)
    model, (note,) = build_packed(nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU()), {}, 0 * X)
    assert model.graph is None
    assert "for inputs (4, 4)" in note


@pytest.mark.parametrize(
    "function",
    [lambda layer, x: (layer(x) > 0) + (x[:, :2] > 0), lambda layer, x: (layer(x), x.int().floor() + 1)],
)
def test_a_graph_that_the_runtime_refuses_is_not_written(function: object) -> None:
    model, (note,) = build_packed(Fn(function, nn.Linear(4, 2)), {}, X)
    assert model.graph is None
    assert "does not run (CorruptFileError" in note or "cannot be captured" in note


class Counting(nn.Module):
    """Each forward pass leaves a trace in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return self.layer(x) * self.passes


def test_a_module_that_writes_into_its_buffers() -> None:
    module = Counting()
    model, notes = build_packed(module, {}, X)
    assert model.graph is not None and notes == ()
    assert module.passes == 0


def test_global_random_numbers_are_left_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2)
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    torch.manual_seed(3)
    build_packed(module, {}, X)
    assert torch.equal(torch.rand(2), wanted)


def test_comparison() -> None:
    one = np.array([1.0, np.nan, np.inf, -2.0], np.float32)
    assert compare([one], [one.copy()]) is None
    assert compare([one + np.float32(1e-5)], [one]) is None
    assert "largest difference 0.001, largest output 2" in str(compare([one + np.float32(1e-3)], [one]))
    assert "NaN or infinite" in str(compare([np.nan_to_num(one)], [one]))
    assert "NaN or infinite" in str(compare([np.abs(one) * np.float32(-1)], [-one * np.float32(-1)]))
    assert "shape (4,) and type float32, the module (4, 1)" in str(compare([one], [one[:, None]]))
    assert "int64" in str(compare([np.zeros(2, np.int64)], [np.zeros(2, np.int32)]))
    assert "1 outputs, the module 2" in str(compare([one], [one, one]))
    assert compare([np.zeros(0, np.float32)], [np.zeros(0, np.float32)]) is None


class Options(nn.Module):
    """Optional and keyword-only inputs, and a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Any, mask: Any = None, z: Any = None, *, w: Any = None, twice: bool = False) -> Any:
        y = self.layer(x)
        y = y if mask is None else y * mask
        y = y if z is None else y + z
        y = y if w is None else y - w
        return 2 * y if twice else y


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("second", ["z", "w"])
def test_an_example_by_name(second: str, twice: bool) -> None:
    module = Options().eval()
    example = {second: X + 1, "x": X, "twice": twice}
    model, notes = build_packed(module, {}, example)
    assert model.graph is not None and notes == ()
    assert [spec.shape for spec in model.graph.inputs] == [(None, 4), (None, 4)]
    x, other = X[:2], X[1:] * 3
    with torch.no_grad():
        wanted = module(x=x, twice=twice, **{second: other}).numpy()
    got = Network.from_packed(model, threads=1)(x.numpy(), other.numpy())
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    assert type(module) is Options


class Padded(nn.Module):
    """An encoder over a batch that is padded at its end."""

    def __init__(self, nested: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.encoder(x, src_key_padding_mask=x[..., 0] == 0)
        return y


@pytest.mark.parametrize("padding", [True, False], ids=["padded", "full"])
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "plain"])
def test_zeros_that_pytorch_puts_at_padded_positions_are_told(nested: bool, padding: bool) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 4) + 1
    x[1, 2] = 0.0 if padding else 1.0
    module = Padded(nested).eval()
    model, notes = build_packed(module, {}, x)
    y = Network.from_packed(model)(x.numpy())
    with torch.no_grad():
        plain = module(x).numpy()
    assert ["zeros at padded positions" in note for note in notes] == [True] * (nested and padding)
    assert bool((plain[1, 2] == 0).all()) is (nested and padding)
    rows = np.s_[:, :2] if nested and padding else np.s_[:]
    np.testing.assert_allclose(np.asarray(y)[rows], plain[rows], rtol=1e-5, atol=1e-5)
