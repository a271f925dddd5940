"""The public verbs: what they promise, and every bad input that a person may hand them."""

from __future__ import annotations

import copy
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laconic
from laconic.errors import (
    InputError,
    ModelError,
    NotPreparedError,
    ScaleError,
    WeightsOnlyError,
    WriteError,
)
from laconic.methods import VNQ, MagnitudePruning, Method, SparseVD
from laconic.prepared import prepared
from laconic.runtime import load as load_runtime
from laconic.schedules import Cubic
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits

METHODS: dict[str, Method] = {"sparse-vd": SparseVD(), "vnq": VNQ(), "magnitude": MagnitudePruning(0.5)}
ALL = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def _mlp() -> nn.Module:
    return DigitsMLP(hidden=12, generator=torch.Generator().manual_seed(3))


def _prepare(model: nn.Module, method: Method = SparseVD(), example: object = None) -> nn.Module:  # noqa: B008
    torch.set_num_threads(1)
    return laconic.prepare(model, method, digits()[0][:2] if example is None else example, data_size=192)


class Branching(nn.Module):
    """Control flow that depends on values: no graph can be captured."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.a(x) if bool((x.sum() > 100.0).item()) else self.b(x)


# --- the loop that a user writes -------------------------------------------------------------------


@ALL
def test_the_users_own_loop_ends_in_a_file_that_runs(method: Method, tmp_path: Path) -> None:
    x, y = digits()
    model = _mlp()
    net = _prepare(model, method)
    optimizer = torch.optim.SGD(laconic.param_groups(net, lr=0.1), momentum=0.9)
    for _ in range(3):
        loss = laconic.objective(net, (x, y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        laconic.step(net)
    state = prepared(net, "test").context
    assert (state.step, state.terms, state.epochs) == (3, 3 * 192, 3.0)
    small = laconic.convert(net)
    length = laconic.save(small, tmp_path / "model.lac")
    assert length == (tmp_path / "model.lac").stat().st_size
    wanted = small.module(x).detach().numpy()
    assert (
        np.abs(load_runtime(tmp_path / "model.lac")(x.numpy()) - wanted).max() < 1e-5 * np.abs(wanted).max()
    )
    restored = laconic.restore(tmp_path / "model.lac", into=_mlp())
    assert torch.equal(restored(x), small.module(x))
    laconic.export_onnx(tmp_path / "model.lac", tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").stat().st_size > 0


def test_noise_comes_from_the_seed_alone() -> None:
    x = digits()[0][:4]
    nets = [laconic.prepare(_mlp(), SparseVD(), x, data_size=9, seed=seed) for seed in (1, 1, 2)]
    torch.manual_seed(0)
    outs = []
    for net in nets:
        torch.rand(3)
        outs.append(net.train()(x))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


def test_bookkeeping_survives_a_checkpoint() -> None:
    x = digits()[0][:4]
    first, second = _prepare(_mlp()), _prepare(_mlp())
    first.train()(x)
    laconic.step(first, terms=4)
    saved = copy.deepcopy(prepared(first, "test").state_dict())
    prepared(second, "test").load_state_dict(saved)
    assert prepared(second, "test").context.step == 1
    assert prepared(second, "test").context.terms == 4
    assert torch.equal(first.train()(x), second.train()(x))


# --- bad inputs -----------------------------------------------------------------------------------


@ALL
def test_an_example_of_the_wrong_shape_is_refused_with_the_layer(method: Method) -> None:
    with pytest.raises(InputError, match=r"\(2, 1, 9, 9\) does not fit: layer 'fc1'.*\(12, 64\).*Cure"):
        _prepare(_mlp(), method, torch.zeros(2, 1, 9, 9))


@pytest.mark.parametrize("size", [0, -5, 3.5, True, None])
def test_a_data_size_that_cannot_be_is_refused(size: object) -> None:
    with pytest.raises(ScaleError, match=r"data_size must be .* got .*Cure: len\(train_set\)"):
        laconic.prepare(_mlp(), SparseVD(), digits()[0][:2], data_size=size)  # type: ignore[arg-type]


@ALL
def test_a_batch_larger_than_the_data_is_refused(method: Method) -> None:
    x = digits()[0]
    net = laconic.prepare(_mlp(), method, x[:2], data_size=3)
    batch = (x[:64], digits()[1][:64])
    for verb in (lambda: laconic.objective(net, batch), lambda: laconic.step(net, terms=64)):
        with pytest.raises(ScaleError, match=r"a batch with 64 likelihood terms met data_size=3\. Cure"):
            verb()


@pytest.mark.parametrize("verb", ["penalty", "step", "convert"])
def test_verbs_refuse_a_network_that_was_not_prepared(verb: str) -> None:
    with pytest.raises(
        NotPreparedError, match=rf"{verb}: DigitsMLP was not prepared.*Cure: net = laconic\.prepare"
    ):
        getattr(laconic, verb)(_mlp())


def test_param_groups_refuses_a_network_that_was_not_prepared() -> None:
    with pytest.raises(NotPreparedError, match="param_groups: Linear was not prepared"):
        laconic.param_groups(nn.Linear(2, 2), 0.1)


@ALL
def test_a_network_is_not_converted_twice(method: Method) -> None:
    net = _prepare(_mlp(), method)
    small = laconic.convert(net)
    with pytest.raises(
        ModelError, match=r"converted already at step 0\. Cure: keep the first result, or train"
    ):
        laconic.convert(net)
    with pytest.raises(NotPreparedError, match="convert: DigitsMLP was not prepared"):
        laconic.convert(small.module)
    with pytest.raises(NotPreparedError, match="penalty"):
        laconic.penalty(small.module)
    small.module.train()(digits()[0][:2])  # nothing of ours is left on it
    laconic.step(net, terms=2)
    laconic.convert(net)


# --- files ----------------------------------------------------------------------------------------


def test_on_a_full_disk_the_old_file_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = laconic.convert(_prepare(_mlp()))
    path = tmp_path / "model.lac"
    laconic.save(small, path)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for moment in ("write", "fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, moment, full)
            with pytest.raises(
                WriteError, match=r"model\.lac.*No space left.*is unchanged.*Cure: free space"
            ):
                laconic.save(small, path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def test_a_network_whose_graph_cannot_be_captured_is_packed_weights_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = laconic.convert(_prepare(Branching()))
    path = tmp_path / "branching.lac"
    with pytest.warns(UserWarning, match=r"the file holds weights only; load them with laconic\.restore"):
        laconic.save(small, path)
    with pytest.raises(WeightsOnlyError, match="restore"):
        load_runtime(path)
    with pytest.raises(WeightsOnlyError):
        laconic.export_onnx(path, tmp_path / "model.onnx")
    restored = laconic.restore(path, into=Branching())
    x = digits()[0][:8]
    assert torch.equal(restored(x), small.module(x))


# --- networks as people write them ------------------------------------------------------------------


class Tempered(nn.Module):
    """A number without dimensions among the parameters, and activations kept for a look."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.temperature = nn.Parameter(torch.tensor(1.3))

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = self.fc(x.flatten(1))
        return self.hidden * self.temperature


@ALL
def test_a_scalar_parameter_and_kept_activations(method: Method, tmp_path: Path) -> None:
    x, y = digits()
    net = _prepare(Tempered(), method)
    optimizer = torch.optim.Adam(laconic.param_groups(net, lr=0.01))
    (F.cross_entropy(net(x), y) + laconic.penalty(net)).backward()
    optimizer.step()
    laconic.step(net, terms=len(x))
    small = laconic.convert(net)
    assert small.tensors["temperature"].values().shape == ()
    assert abs(float(small.tensors["temperature"].values()) - float(net.temperature)) < 0.01
    laconic.save(small, tmp_path / "model.lac")
    wanted = small.module(x).detach().numpy()
    gap = np.abs(load_runtime(tmp_path / "model.lac")(x.numpy()) - wanted).max()
    assert gap < 1e-5 * np.abs(wanted).max()


class Optional(nn.Module):
    """Inputs that may be left out; the second one by name only."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, z: Tensor | None = None) -> Tensor:
        y = self.a(x) if mask is None else self.a(x) * mask
        return y if z is None else y + self.b(z)


def test_an_example_by_name_is_captured_with_what_it_names(tmp_path: Path) -> None:
    x, z = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(1))
    net = _prepare(Optional(), SparseVD(), {"x": x, "z": z})
    small = laconic.convert(net)
    laconic.save(small, tmp_path / "model.lac")
    network = load_runtime(tmp_path / "model.lac")
    assert len(network.inputs) == 2
    wanted = small.module(x, z=z).detach().numpy()
    assert np.abs(network(x.numpy(), z.numpy()) - wanted).max() < 1e-5
    assert type(small.module) is Optional


@ALL
def test_schedules_go_on_after_load_state_dict(method: Method) -> None:
    x, _ = digits()
    first = _prepare(_mlp(), method)
    for _ in range(3):
        first.train()(x)
        laconic.step(first, terms=len(x))
    again = _prepare(_mlp(), method)
    again.load_state_dict(first.state_dict())
    at, of = prepared(again, "test").context, prepared(first, "test").context
    assert (at.step, at.terms) == (of.step, of.terms) == (3, 3 * 192)
    assert float(laconic.penalty(again)) == float(laconic.penalty(first))
    without = {k: v for k, v in first.state_dict().items() if k != "laconic_progress"}
    again.load_state_dict(without)
    assert prepared(again, "test").context.step == 3
    small = laconic.convert(again)
    assert "laconic_progress" not in small.module.state_dict()
    small.module.load_state_dict(_mlp().state_dict())


def test_nan_in_a_buffer_is_refused_by_name_and_an_infinite_mask_is_not() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))
    model.register_buffer("mask", torch.full((3,), -torch.inf))
    _prepare(model)
    model[2].running_var[0] = torch.nan
    with pytest.raises(ModelError, match=r"buffer '2.running_var' of shape \(10,\) holds 1 NaN"):
        _prepare(model)


def test_a_layer_frozen_after_prepare_is_trained_and_pruned_no_more() -> None:
    x, y = digits()
    net = _prepare(_mlp(), MagnitudePruning(0.9, every=1, schedule=Cubic(end=0.001)))
    kept = net.fc1.weight.detach().clone()
    net.fc1.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    F.cross_entropy(net(x), y).backward()
    optimizer.step()
    laconic.step(net, terms=len(x))
    assert torch.equal(net.fc1.weight, kept)
    small = laconic.convert(net)
    step = small.tensors["fc1.weight"].grid.step
    values = small.module.fc1.weight.detach()
    alive = values.any(1)  # a unit that nothing reads any more is removed
    assert alive.any() and step <= float(kept.square().mean().sqrt()) / 15.9
    assert float((values - kept)[alive].abs().max()) <= step / 2 + 1e-7
    assert small.tensors["fc2.weight"].nonzeros() <= 0.11 * net.fc2.weight.numel()


@pytest.mark.parametrize("method", [SparseVD(), VNQ()], ids=["sparse-vd", "vnq"])
def test_weight_decay_leaves_log_variances_and_codebooks_alone(method: Method) -> None:
    net = _prepare(_mlp(), method)
    optimizer = torch.optim.AdamW(laconic.param_groups(net, lr=0.01), weight_decay=0.5)
    spared = {n: p.detach().clone() for n, p in net.named_parameters() if "log_var" in n or "scale" in n}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert spared
    assert all(torch.equal(dict(net.named_parameters())[n], old) for n, old in spared.items())


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (SparseVD, r"the class SparseVD is no method\. Cure: an instance, as SparseVD\(\)"),
        (
            "sparse-vd",
            r"the text 'sparse-vd' is no method\. Cure: an object, as laconic\.methods\.SparseVD\(\)",
        ),
        (None, r"a NoneType is no method\. Cure: an object whose class inherits laconic\.methods\.Method"),
    ],
)
def test_what_is_no_method_is_refused_with_an_example(method: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        laconic.prepare(nn.Linear(2, 2), method, torch.zeros(1, 2), data_size=4)


def test_an_example_without_a_tensor_is_refused_by_its_type() -> None:
    with pytest.raises(InputError, match=r"holds no tensor, got ndarray. Cure: torch.as_tensor"):
        laconic.prepare(nn.Linear(2, 2), SparseVD(), np.zeros((1, 2), np.float32), data_size=4)
