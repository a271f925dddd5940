"""The public verbs: what they promise, and every bad input that a person may hand them."""

from __future__ import annotations

import copy
import errno
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laconic
from laconic import pack
from laconic.api import prepared
from laconic.errors import (
    DataError,
    InputError,
    ModelError,
    NotPreparedError,
    RunFolderError,
    ScaleError,
    WeightsOnlyError,
    WriteError,
)
from laconic.methods import VNQ, MagnitudePruning, Method, SparseVD
from laconic.methods.contract import Target
from laconic.runtime import load as load_runtime
from laconic.train.fit import FitConfig
from laconic.train.run_folder import open_run
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
        loss = F.cross_entropy(net(x), y) + laconic.penalty(net)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        laconic.step(net)
    state = prepared(net, "test").context
    assert (state.step, state.examples, state.epochs) == (3, 3 * 192, 3.0)
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
    laconic.step(first)
    saved = copy.deepcopy(prepared(first, "test").state_dict())
    prepared(second, "test").load_state_dict(saved)
    assert prepared(second, "test").context.step == 1
    assert prepared(second, "test").context.examples == 4
    assert torch.equal(first.train()(x), second.train()(x))


# --- bad networks ---------------------------------------------------------------------------------


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
    laconic.step(net)
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
    net.train()(x[:64])
    with pytest.raises(ScaleError, match=r"batch of 64 examples met data_size=3\. Cure"):
        laconic.penalty(net)


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
    laconic.step(net)
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
                WriteError, match=r"model\.lac.*No space left.*still stands.*Cure: free space"
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


# --- one call -------------------------------------------------------------------------------------

Batches = list[tuple[Tensor, Tensor]]


def _batches() -> tuple[Batches, Batches]:
    x, y = digits()
    return [(x[k : k + 32], y[k : k + 32]) for k in range(0, 128, 32)], [(x[128:], y[128:])]


class TestCompress:
    """``laconic.compress``: the same with our loop."""

    fit = FitConfig(epochs=2)

    def test_a_run_leaves_a_file_a_record_and_a_log(self, tmp_path: Path) -> None:
        train, validate = _batches()
        out = tmp_path / "run"
        small = laconic.compress(_mlp(), train, validate, MagnitudePruning(0.5), fit=self.fit, out=out)
        assert small.facts["data_size"] == 128
        assert {"model.lac", "record.json", "log.txt", "checkpoint.pt"} <= {p.name for p in out.iterdir()}
        assert (out / "log.txt").read_text().count("epoch ") == 2

    def test_without_a_folder_it_is_the_same(self, tmp_path: Path) -> None:
        train, validate = _batches()
        first = laconic.compress(_mlp(), train, validate, SparseVD(), fit=self.fit)
        second = laconic.compress(_mlp(), train, validate, SparseVD(), fit=self.fit, out=tmp_path)
        laconic.save(first, tmp_path / "first.lac")
        assert (tmp_path / "first.lac").read_bytes() == (tmp_path / "model.lac").read_bytes()
        assert first.facts == second.facts

    def test_resuming_a_finished_run_gives_the_same_file(self, tmp_path: Path) -> None:
        train, validate = _batches()
        laconic.compress(_mlp(), train, validate, SparseVD(), fit=self.fit, out=tmp_path)
        before = (tmp_path / "model.lac").read_bytes()
        laconic.compress(_mlp(), train, validate, SparseVD(), fit=self.fit, out=tmp_path, resume=True)
        assert (tmp_path / "model.lac").read_bytes() == before
        with pytest.raises(RunFolderError, match="fit=.*'epochs': 2.*'epochs': 3"):
            laconic.compress(
                _mlp(), train, validate, SparseVD(), fit=FitConfig(epochs=3), out=tmp_path, resume=True
            )

    def test_two_runs_in_one_folder_are_refused(self, tmp_path: Path) -> None:
        train, validate = _batches()
        with open_run(tmp_path, {}), pytest.raises(RunFolderError, match="another run is at work"):
            laconic.compress(_mlp(), train, validate, SparseVD(), fit=self.fit, out=tmp_path)

    def test_an_empty_loader_is_refused(self) -> None:
        train, validate = _batches()
        with pytest.raises(DataError, match=r"training loader is empty\. Cure"):
            laconic.compress(_mlp(), [], validate, SparseVD(), fit=self.fit)
        with pytest.raises(DataError, match=r"validation split.*gave no batch.*Cure"):
            laconic.compress(_mlp(), train, [], SparseVD(), fit=self.fit)

    def test_batches_that_are_no_pairs_are_refused(self) -> None:
        train, validate = _batches()
        for bad in ([train[0][0]], [{"x": train[0][0]}], [(train[0][0], [1, 2])]):
            with pytest.raises(DataError, match=r"not a pair of tensors\. Cure: batches are \(inputs, class"):
                laconic.compress(_mlp(), bad, validate, SparseVD(), fit=self.fit)  # type: ignore[arg-type]

    @pytest.mark.parametrize("label", [10, -1])
    def test_labels_out_of_range_are_refused_wherever_they_are(self, label: int) -> None:
        train, validate = _batches()
        x, y = train[0]
        bad = y.clone()
        bad[5] = label
        for first, second in (([(x, bad)], validate), ([*train, (x, bad)], validate), (train, [(x, bad)])):
            with pytest.raises(DataError, match=rf"label {label} is out of range .* 10 outputs.*Cure"):
                laconic.compress(_mlp(), first, second, SparseVD(), fit=self.fit)

    def test_inputs_of_the_wrong_shape_are_refused_with_the_layer(self) -> None:
        train, validate = _batches()
        wrong = [(F.pad(x, (1, 0)), y) for x, y in train]
        with pytest.raises(
            InputError, match=r"first training batch.*\(2, 1, 8, 9\) does not fit: layer 'fc1'"
        ):
            laconic.compress(_mlp(), wrong, validate, SparseVD(), fit=self.fit)

    def test_nan_weights_and_no_parameters_are_refused_at_once(self) -> None:
        model = _mlp()
        model.fc1.bias.data[0] = float("nan")  # type: ignore[union-attr]
        with pytest.raises(ModelError, match=r"'fc1\.bias'.*1 NaN"):
            laconic.compress(model, *_batches(), SparseVD(), fit=self.fit)
        with pytest.raises(ModelError, match="no parameters"):
            laconic.compress(nn.Flatten(), *_batches(), SparseVD(), fit=self.fit)

    def test_a_network_that_is_no_classifier_is_refused(self) -> None:
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
        with pytest.raises(ModelError, match=r"output is \(batch, classes\), got \(2,\)\. Cure"):
            laconic.compress(net, *_batches(), SparseVD(), fit=self.fit)

    def test_what_the_user_should_know_is_in_the_record(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            laconic.compress(
                Branching(),
                *_batches(),
                MagnitudePruning(0.5),
                Target(max_bytes=20),
                fit=self.fit,
                out=tmp_path,
            )
        text = (tmp_path / "record.json").read_text()
        assert "the file holds weights only; load them with laconic.restore" in text
        assert "target missed: the file has" in text
