"""The public verbs on networks that cannot be used, that are frozen, shared, or take several inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laconic
from laconic import pack
from laconic.errors import (
    ModelError,
)
from laconic.methods import VNQ, MagnitudePruning, Method, SparseVD
from laconic.prepared import prepared
from laconic.runtime import load as load_runtime
from laconic.tasks import Classification
from laconic.train.fit import FitConfig
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits

METHODS: dict[str, Method] = {"sparse-vd": SparseVD(), "vnq": VNQ(), "magnitude": MagnitudePruning(0.5)}


ALL = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def _mlp() -> nn.Module:
    return DigitsMLP(hidden=12, generator=torch.Generator().manual_seed(3))


def _prepare(model: nn.Module, method: Method = SparseVD(), example: object = None) -> nn.Module:  # noqa: B008
    torch.set_num_threads(1)
    return laconic.prepare(model, method, digits()[0][:2] if example is None else example, data_size=192)


class Tied(nn.Module):
    """One linear layer in two places, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = self.first
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x.flatten(1)))
        return self.head(torch.relu(self.second(x)))


@ALL
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_weights_are_refused_by_name(method: Method, value: float) -> None:
    model = _mlp()
    with torch.no_grad():
        model.fc2.weight[1, 2] = value  # type: ignore[union-attr]
    with pytest.raises(ModelError, match=r"prepare \(\w+\).*'fc2\.weight'.*\(10, 12\).* 1 NaN or inf.*Cure"):
        _prepare(model, method)


@ALL
def test_weights_that_became_nan_are_refused_by_convert(method: Method) -> None:
    net = _prepare(_mlp(), method)
    with torch.no_grad():
        net.fc1.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(ModelError, match=r"'fc1\.weight'.*768 NaN.*Cure"):
        laconic.convert(net)


@ALL
def test_a_network_without_parameters_is_refused(method: Method) -> None:
    with pytest.raises(ModelError, match="Sequential has no parameters: there is nothing to compress"):
        _prepare(nn.Sequential(nn.Flatten(), nn.ReLU()), method)


@ALL
def test_a_network_whose_weights_are_all_frozen(method: Method) -> None:
    """Only the method that trains nothing of its own takes it: to quantise it."""
    if isinstance(method, MagnitudePruning):
        small = laconic.convert(_prepare(_mlp().requires_grad_(False), method))
        assert set(small.tensors) == set(_mlp().state_dict())
        return
    with pytest.raises(ModelError, match=r"prepare \(\w+\): DigitsMLP has no weight .*Cure"):
        _prepare(_mlp().requires_grad_(False), method)


@ALL
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(method: Method, kind: torch.dtype) -> None:
    with pytest.raises(ModelError, match=r"'fc1\.weight' is b?float16; .*Cure: model\.float\(\)"):
        _prepare(_mlp().to(kind), method, digits()[0][:2].to(kind))


@ALL
def test_a_frozen_layer_is_put_on_a_grid_unless_it_is_kept(method: Method, tmp_path: Path) -> None:
    x, y = digits()
    model = _mlp()
    model.fc1.requires_grad_(False)  # type: ignore[union-attr]
    small = laconic.compress(model, [(x, y)], [(x, y)], method, fit=FitConfig(epochs=2))
    weight: Tensor = model.fc1.weight.detach()  # type: ignore[union-attr, assignment]
    step = small.tensors["fc1.weight"].grid.step  # type: ignore[union-attr]
    rms = float(weight.square().mean().sqrt())
    assert rms / 16.1 < step < rms / 5.6
    assert float((small.module.fc1.weight - weight).abs().max()) <= 1.5 * step  # type: ignore[union-attr, operator]
    assert "fc1.bias" in small.tensors and any("are frozen" in note for note in small.facts["notes"])

    kept = laconic.compress(model, [(x, y)], [(x, y)], method, keep="fc1", fit=FitConfig(epochs=2))
    assert torch.equal(kept.module.fc1.weight, weight)  # type: ignore[union-attr, arg-type]
    assert torch.equal(kept.module.fc1.bias, model.fc1.bias)  # type: ignore[union-attr, arg-type]
    told = "2 parameters (3120 bytes: 'fc1.weight', 'fc1.bias') stay as they are: keep says so"
    assert told in kept.facts["notes"] and not any("are frozen" in note for note in kept.facts["notes"])
    assert laconic.save(small, tmp_path / "small.lac") < laconic.save(kept, tmp_path / "kept.lac") - 2000


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.a(left) + self.b(right)


@pytest.mark.parametrize("by_name", [False, True])
def test_several_inputs_by_position_or_by_name(by_name: bool, tmp_path: Path) -> None:
    left, right = torch.randn(2, 3), torch.randn(2, 2)
    example = {"right": right, "left": left} if by_name else (left, right)
    task = Classification(target="label") if by_name else Classification()
    net = laconic.prepare(TwoInputs(), MagnitudePruning(0.3), example, data_size=192, task=task)
    labels = torch.tensor([3, 0])
    batch = {**example, "label": labels} if isinstance(example, dict) else (left, right, labels)
    wanted = F.cross_entropy(net(left, right), labels)
    assert torch.equal(laconic.objective(net, batch), wanted)
    laconic.step(net)
    assert prepared(net, "test").context.terms == 2
    small = laconic.convert(net)
    laconic.save(small, tmp_path / "two.lac")
    got = load_runtime(tmp_path / "two.lac")(left.numpy(), right.numpy())
    assert np.allclose(got, small.module(left, right).detach().numpy(), atol=1e-6)


@ALL
def test_a_network_is_prepared_once(method: Method) -> None:
    with pytest.raises(ModelError, match=r"prepared already\. Cure: prepare the plain network"):
        _prepare(_prepare(_mlp(), method), method)


@ALL
def test_a_shared_layer_is_coded_once_and_stays_shared(method: Method, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = digits()
    net = _prepare(Tied(), method)
    assert net.first is net.second
    optimizer = torch.optim.Adam(laconic.param_groups(net, lr=1e-3))
    loss = F.cross_entropy(net(x), y) + laconic.penalty(net)
    loss.backward()
    optimizer.step()
    laconic.step(net, terms=len(x))
    small = laconic.convert(net)
    assert small.module.first is small.module.second
    laconic.save(small, tmp_path / "tied.lac")
    packed = pack.read(tmp_path / "tied.lac")
    assert sorted(t.name for t in packed.tensors) == [
        "first.bias",
        "first.weight",
        "head.bias",
        "head.weight",
    ]
    assert packed.aliases == {"second.weight": "first.weight", "second.bias": "first.bias"}
    rows = pack.layout((tmp_path / "tied.lac").read_bytes())
    assert sum(row.weights for row in rows) == 64 * 64 + 64 + 640 + 10
    wanted = small.module(x).detach().numpy()
    assert np.abs(load_runtime(tmp_path / "tied.lac")(x.numpy()) - wanted).max() < 1e-5 * np.abs(wanted).max()
    other = laconic.restore(tmp_path / "tied.lac", into=Tied())
    assert torch.equal(other(x), small.module(x))
