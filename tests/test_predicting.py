"""Predictions averaged over a prepared network's weights, against weights drawn by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.bayes import GaussianFamily, posteriors_of
from laconic.errors import DataError, InputError, NotPreparedError, ReadError
from laconic.files import file_hash
from laconic.methods import (
    BayesianCompression,
    MagnitudePruning,
    MCDropout,
    MeanField,
    Method,
    SparseVD,
    VariationalDropout,
)
from laconic.methods.l0 import L0
from laconic.methods.miracle import MIRACLE
from laconic.methods.structured_bayesian_pruning import StructuredBayesianPruning
from laconic.tasks import Regression
from tests.helpers.five_networks import FIVE
from tests.helpers.method_suite import digits

WIDE = SparseVD(init_log_var=-2.0, prior=laconic.bayes.Normal(std=1.0))

DRAWS = 150


def _prepared(model: nn.Module, method: Method = WIDE, **settings: Any) -> nn.Module:
    return laconic.prepare(model, method, digits()[0][:2], data_size=192, **settings)


@pytest.mark.parametrize("network", ["residual", "recurrent"])
def test_a_pass_is_the_plain_network_with_drawn_weights(network: str) -> None:
    """Not pre-activations by themselves: outputs of a convolution that share weights vary together."""
    plain, x = FIVE[network]().eval(), digits()[0][:6]
    net = _prepared(plain)
    # Oracle: the plain network, its weights drawn one by one from their moments.
    g = torch.Generator().manual_seed(3)
    passes, twin = [], copy.deepcopy(plain)
    moments = {name: q.moments() for name, q in posteriors_of(net).items()}
    with torch.no_grad():
        for _ in range(DRAWS):
            for name, parameter in twin.named_parameters():
                if name in moments:
                    mean, variance = moments[name]
                    parameter.copy_(mean + variance.sqrt() * torch.randn(mean.shape, generator=g))
            passes.append(twin(x).softmax(1))
    wanted = torch.stack(passes)
    got = laconic.predict(net, x, samples=DRAWS)
    # 60 means of DRAWS draws each: the standard error of a difference, times 6 (fails with probability 1e-7).
    error = 6 * (wanted.var(0) * 2 / DRAWS).sqrt() + 1e-4
    assert ((got.mean - wanted.mean(0)).abs() < error).all()
    ratio = got.variance.sum() / wanted.var(0).sum()
    assert 0.75 < float(ratio) < 1.33  # of 60 variances, each known within 12 %


def test_gates_are_drawn_once_a_pass_and_weights_given_them() -> None:
    plain, x = FIVE["plain"]().eval(), digits()[0][:6]
    net = _prepared(plain, StructuredBayesianPruning())
    got = laconic.predict(net, x, samples=8)
    assert (got.variance > 0).any()
    net.train()  # a method without posteriors of weights draws the same in training mode
    with torch.no_grad():
        one, two = net(x), net(x)
    assert not torch.equal(one, two)


@pytest.mark.parametrize("method", [L0(), BayesianCompression(), MIRACLE(), StructuredBayesianPruning()])
def test_methods_of_every_kind_of_randomness_predict(method: Method) -> None:
    net, x = _prepared(FIVE["plain"](), method), digits()[0][:6]
    before = copy.deepcopy(net.state_dict())
    modes = [m.training for m in net.modules()]
    got = laconic.predict(net, x, samples=5)
    assert (got.variance > 0).all() and torch.isfinite(got.mutual_information).all()
    torch.testing.assert_close(got.mean.sum(1), torch.ones(6))
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    with torch.no_grad():  # afterwards evaluation mode is the means' again
        assert torch.equal(net.eval()(x), net(x))


def test_training_goes_on_as_if_nothing_had_been_predicted() -> None:
    one, two = _prepared(FIVE["plain"]()).train(), _prepared(FIVE["plain"]()).train()
    x = digits()[0][:6]
    laconic.predict(two, x, samples=3)
    laconic.predict(two, x, samples=3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(one(x), two(x))


def test_draws_come_from_the_seed_or_the_generator() -> None:
    net, x = _prepared(FIVE["plain"]()), digits()[0][:6]
    assert torch.equal(laconic.predict(net, x, samples=3).mean, laconic.predict(net, x, samples=3).mean)
    g = torch.Generator().manual_seed(7)
    first = laconic.predict(net, x, samples=3, generator=g).mean
    assert not torch.equal(first, laconic.predict(net, x, samples=3, generator=g).mean)
    again = laconic.predict(net, x, samples=3, generator=torch.Generator().manual_seed(7)).mean
    assert torch.equal(first, again)
    assert torch.equal(
        laconic.predict(copy.deepcopy(net), x, samples=3).mean, laconic.predict(net, x, samples=3).mean
    )


def test_a_linear_regression_has_its_closed_form() -> None:
    """Variance x^2 sigma^2 + s^2: 1000 draws, a relative standard error of 4.5 %, checked within six."""
    net = laconic.prepare(
        nn.Linear(3, 1),
        SparseVD(posterior=GaussianFamily(-2.0)),
        torch.zeros(1, 3),
        data_size=50,
        task=Regression(noise=0.5),
    )
    x = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    got = laconic.predict(net, x, samples=1000)
    spread = 9.0 * torch.tensor(-2.0).exp()
    assert float(got.variance[0]) == pytest.approx(float(spread) + 0.25, rel=0.27)
    assert float(got.variance[1]) == pytest.approx(0.25, rel=1e-5)
    assert float(got.mutual_information[1]) == pytest.approx(0.0, abs=1e-5)


def test_the_padding_row_of_a_table_is_not_drawn() -> None:
    table = nn.Sequential(nn.Embedding(5, 3, padding_idx=0), nn.Flatten(), nn.Linear(6, 2, bias=False))
    net = laconic.prepare(table, WIDE, torch.ones(1, 2, dtype=torch.long), data_size=50)
    got = laconic.predict(net, torch.tensor([[0, 0], [1, 2]]), samples=5)
    assert got.variance[0].max() == 0 and got.variance[1].min() > 0


@pytest.mark.parametrize(
    ("network", "settings", "error", "told"),
    [
        (lambda: FIVE["plain"](), {}, NotPreparedError, "predict: Plain was not prepared"),
        (lambda: _prepared(FIVE["plain"](), MagnitudePruning()), {}, NotPreparedError, "draws nothing"),
        (lambda: _prepared(FIVE["plain"]()), {"samples": 0}, InputError, "samples must be a whole number"),
        (lambda: _prepared(FIVE["plain"]()), {"samples": True}, InputError, "got True"),
        (
            lambda: _prepared(FIVE["plain"](), task=lambda outputs, target: outputs.mean()),
            {},
            InputError,
            "PlainLoss does not say how targets",
        ),
    ],
)
def test_what_cannot_predict_is_refused(
    network: Any, settings: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        laconic.predict(network(), digits()[0][:2], **settings)


def test_an_error_in_a_pass_leaves_modes_and_gradients_as_they_were() -> None:
    flat = nn.Sequential(nn.Linear(4, 3), nn.Flatten(0))
    net = laconic.prepare(flat, WIDE, torch.zeros(1, 4), data_size=50).train()
    try:
        laconic.predict(net, torch.ones(2, 4), samples=2)
    except InputError as error:  # while it is held, nothing of the passes may be
        held = error
    assert "no logits of two or more classes" in str(held)
    assert torch.is_grad_enabled() and net.training


@pytest.mark.parametrize("method", [MCDropout(), VariationalDropout()])
def test_noise_that_weights_share_is_not_kept_and_the_result_refused(method: Method) -> None:
    net = _prepared(FIVE["plain"](), method)
    laconic.objective(net, tuple(t[:32] for t in digits())).backward()
    small = laconic.convert(net)
    with pytest.raises(InputError, match="kept no spread of a posterior"):
        laconic.predict(small, digits()[0][:2])


def test_a_regression_is_not_taken_for_a_classification() -> None:
    net = laconic.prepare(
        nn.Linear(3, 1), MeanField(), torch.zeros(1, 3), data_size=50, task=Regression(noise=0.5)
    )
    small = laconic.convert(net)
    with pytest.raises(InputError, match=r"no logits of two or more classes.*Cure: task="):
        laconic.predict(small, torch.ones(2, 3))
    assert laconic.predict(small, torch.ones(2, 3), task=Regression(noise=0.5)).mean.shape == (2, 1)


def _told(**changes: Any) -> dict[str, Any]:
    """A record with the spread of one tensor of (3, 4)."""
    usual = {"deviations": [0.1, 0.0], "share": 0.5, "factors": [[1.0, 2.0, 1.0], []]}
    return {"facts": {"posterior_spread": {"fc.weight": {**usual, **changes}}}}


def test_a_record_with_factors_is_read(tmp_path: Path) -> None:
    net = laconic.prepare(Fc(), MeanField(), torch.zeros(1, 4), data_size=50)
    laconic.save(laconic.convert(net), tmp_path / "model.lac")
    (tmp_path / "record.json").write_text(json.dumps(_told()))
    assert (laconic.predict(tmp_path / "model.lac", torch.ones(2, 4), samples=9).variance > 0).any()


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"facts": {"posterior_spread": {"nope.weight": [0.1, 0.0]}}}, "no integers of that name"),
        ({"facts": {"posterior_spread": {"fc.weight": [-1.0, 0.0]}}}, "two finite numbers"),
        ({"facts": {"posterior_spread": {"fc.weight": [1e300, 0.0]}}}, "two finite numbers"),
        ({"facts": {"posterior_spread": {"fc.weight": [0.1]}}}, "two finite numbers"),
        ({"facts": {"posterior_spread": ["fc.weight"]}}, "two finite numbers"),
        ({"facts": {"posterior_spread": {"fc.weight": {"deviations": [0.1, 0.0]}}}}, "factors that fit"),
        (_told(factors=[[1.0, 1.0], []]), "factors that fit"),
        (_told(factors=[[1.0, -1.0, 1.0], []]), "factors that fit"),
        (_told(factors=3), "factors that fit"),
        (_told(share=1.5), "factors that fit"),
        ({"facts": {"posterior_spread": {"fc.weight": [0.1, 0.0]}}, "file_bytes": 7}, "of a file of 7 bytes"),
        (
            {"facts": {"posterior_spread": {"fc.weight": [0.1, 0.0]}}, "file_hash": "0" * 32},
            r"of another file of the same length \(its hash is 0{32}, .*Cure: record=PATH",
        ),
        ({"facts": {"posterior_spread": {"fc.weight": [0.1, 0.0]}, "likelihood": "abc"}}, "likelihood"),
        ({"facts": 3}, "facts are 3"),
        ([[]], "cannot be read"),
    ],
)
def test_a_record_that_does_not_fit_its_file_is_refused(record: Any, told: str, tmp_path: Path) -> None:
    net = laconic.prepare(Fc(), MeanField(), torch.zeros(1, 4), data_size=50)
    laconic.save(laconic.convert(net), tmp_path / "model.lac")
    (tmp_path / "record.json").write_text(json.dumps(record))
    with pytest.raises(ReadError, match=told):
        laconic.predict(tmp_path / "model.lac", torch.ones(2, 4), samples=2)


class Fc(nn.Module):
    """One layer with a name."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


def test_a_record_is_known_by_the_hash_of_its_file(tmp_path: Path) -> None:
    net = laconic.prepare(Fc(), MeanField(), torch.zeros(1, 4), data_size=50)
    path, other = tmp_path / "model.lac", tmp_path / "other.lac"
    laconic.save(laconic.convert(net), path)
    other.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert path.stat().st_size == other.stat().st_size and file_hash(path) != file_hash(other)
    told = {"facts": {"posterior_spread": {"fc.weight": [0.1, 0.0]}}, "file_bytes": path.stat().st_size}
    for held, accepted in ((file_hash(path), True), ("", True), (None, True), (file_hash(other), False)):
        extra = {} if held is None else {"file_hash": held}
        (tmp_path / "record.json").write_text(json.dumps({**told, **extra}))
        if accepted:
            assert laconic.predict(path, torch.ones(2, 4), samples=2).mean.shape == (2, 3)
        else:
            with pytest.raises(ReadError, match="another file of the same length"):
                laconic.predict(path, torch.ones(2, 4), samples=2)


@pytest.mark.parametrize("form", ["prepared", "compressed"])
def test_numpy_arrays_are_taken_and_what_a_network_refuses_is_named(form: str) -> None:
    net: Any = laconic.prepare(Fc(), MeanField(), torch.zeros(1, 4), data_size=50)
    net = net if form == "prepared" else laconic.convert(net)
    x = torch.ones(2, 4)
    wanted = laconic.predict(net, x, samples=3).mean
    for given in (x.numpy(), (x.numpy(),), {"x": x.numpy()}):
        assert torch.equal(laconic.predict(net, given, samples=3).mean, wanted)
    cure = r"Cure: inputs of .* trained on, as \(1, 4\) float32 of its example"
    with pytest.raises(DataError, match=rf"predict: Fc refuses inputs of \(2, 5\) float32: .*{cure}"):
        laconic.predict(net, np.ones((2, 5), np.float32), samples=2)
    with pytest.raises(DataError, match=rf"refuses inputs of \(2, 4\) float64: .*{cure}"):
        laconic.predict(net, np.ones((2, 4)), samples=2)
    with pytest.raises(DataError, match=r"refuses inputs of 'text'"):
        laconic.predict(net, "text", samples=2)
    with pytest.raises(InputError, match=r"no parameter 'y'\. Cure: one of x"):
        laconic.predict(net, {"y": x}, samples=2)
