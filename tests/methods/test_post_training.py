"""A trained network, some inputs, a target: the file is small, computes the same, and is the same again."""

from __future__ import annotations

import functools
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import laconic
from laconic.data import load
from laconic.errors import DataError, InputError
from laconic.methods import MagnitudePruning, PostTraining, Target
from laconic.tasks import Classification, PlainLoss
from laconic.tasks.likelihoods import cosine_distance
from laconic.train.fit import FitConfig
from laconic.train.job import Job, Stage
from laconic.zoo import DigitsMLP

EASY = PostTraining(trials=6)


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    images = load("digits")
    x = torch.from_numpy(np.array(images.train_images)).float().unsqueeze(1) / 16
    return x, torch.from_numpy(np.array(images.train_labels)).long()


@functools.cache
def _trained() -> nn.Module:
    """A perceptron with a batch norm, trained for some seconds."""
    torch.manual_seed(0)
    plain = DigitsMLP(hidden=24, generator=torch.Generator().manual_seed(1))
    x, y = _digits()
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 24, bias=False), nn.BatchNorm1d(24), nn.ReLU(), *list(plain)[-1:]
    )
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[:900]), y[:900]).backward()
        optimizer.step()
    return net.eval().requires_grad_(False)


def _inputs() -> list[Tensor]:
    x = _digits()[0][:900:3]  # neighbours in this set are of one writer
    return [x[:100], x[100:200], x[200:300]]


@functools.cache
def _small() -> laconic.methods.Compressed:
    return laconic.compress_trained(_trained(), _inputs(), Target(max_kl=0.02), method=EASY)


def test_the_file_is_far_below_the_plain_one_and_computes_what_the_module_does(tmp_path: Path) -> None:
    small = _small()
    x, y = _digits()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = laconic.save(_trained(), tmp_path / "plain.lac", example=x[:2])
    size = laconic.save(small, tmp_path / "small.lac")
    assert size < 0.3 * plain
    assert small.facts["target_met"] and small.facts["divergence"] <= 0.02
    floor = small.facts["floor"]
    assert 0 < floor["gaussian_bits"] < floor["coded_bits"] < 2 * floor["entropy_bits"]
    assert small.architecture_changed and small.facts["folded_norms"] == ["2"]
    out = laconic.runtime.load(tmp_path / "small.lac")(x[900:].numpy())
    with torch.no_grad():
        assert np.allclose(out, small.module(x[900:]).numpy(), atol=1e-4)
        before = float((_trained()(x[900:]).argmax(1) == y[900:]).float().mean())
    assert float((out.argmax(1) == y[900:].numpy()).mean()) > before - 0.03


def test_the_divergence_is_measured_on_inputs_that_decided_nothing() -> None:
    small = _small()
    x = _digits()[0][1:900:3]
    with torch.no_grad():
        apart = Classification().divergence(small.module(x), _trained()(x)) / len(x)
    assert small.facts["divergence_examples"] == 75
    assert float(apart) < 2.5 * small.facts["divergence"]


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    again = laconic.compress_trained(_trained(), _inputs(), Target(max_kl=0.02), method=EASY)
    for name, small in (("a", _small()), ("b", again)):
        laconic.save(small, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_length_is_kept_by_the_whole_file(tmp_path: Path) -> None:
    small = laconic.compress_trained(
        _trained(), _inputs(), Target(max_bytes=900), method=EASY, out=tmp_path / "run"
    )
    size = (tmp_path / "run" / "model.lac").stat().st_size
    assert 700 < size <= 900
    assert small.facts["outcome"].startswith("target met: the file has")


def test_a_drop_is_measured_on_labels(tmp_path: Path) -> None:
    x, y = _digits()
    validate = [(x[900:1300], y[900:1300])]
    small = laconic.compress_trained(
        _trained(), _inputs(), Target(max_drop=1.0), validate=validate, method=EASY
    )
    facts = small.facts
    assert facts["validation_metric"] <= facts["original_validation_metric"] + 1.0
    with pytest.raises(DataError, match="a drop of 1 can be measured on labels only.*Cure: validate"):
        laconic.compress_trained(_trained(), _inputs(), Target(max_drop=1.0))


def test_a_divergence_of_few_inputs_is_told() -> None:
    few = [_digits()[0][:8]]
    small = laconic.compress_trained(_trained(), few, Target(max_kl=0.1), method=EASY)
    assert "measured on 2 inputs only" in small.facts["notes"][0]
    assert (
        laconic.compress_trained(_trained(), _inputs(), Target(max_kl=0.1), method=EASY).facts["notes"] == []
    )


def test_a_target_that_cannot_be_met_says_what_can() -> None:
    with pytest.warns(UserWarning, match=r"target missed: the file has \d+ bytes, the fewest of \d+ prices"):
        small = laconic.compress_trained(_trained(), _inputs(), Target(max_bytes=40), method=EASY)
    assert not small.facts["target_met"]
    with pytest.warns(UserWarning, match="target missed: the predictions are .* nats per term"):
        laconic.compress_trained(_trained(), _inputs(), Target(max_kl=0.0), method=PostTraining(trials=2))


def test_a_stage_needs_no_epochs_and_keeps_what_was_removed() -> None:
    x, y = _digits()
    batches = [(x[:300], y[:300])]
    stages = [Stage(MagnitudePruning(0.5), FitConfig(epochs=1)), Stage(EASY, FitConfig(epochs=0))]
    small = laconic.compress(_trained().requires_grad_(True), batches, batches, stages, Target(max_kl=0.05))
    assert small.facts["divergence"] <= 0.05
    removed = small.stages[0]
    assert removed is not None
    weight = small.tensors["1.weight"]
    assert weight.nonzeros() <= 0.5 * weight.size
    with pytest.raises(InputError, match="MagnitudePruning does not measure.*max_kl=0.05"):
        Job((Stage(MagnitudePruning(0.5)),), Target(max_kl=0.05))


class Unreached(nn.Module):
    """A layer that no input reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def test_a_layer_that_is_never_reached_is_named() -> None:
    torch.manual_seed(0)
    small = laconic.compress_trained(Unreached(), [torch.randn(40, 8)], Target(max_kl=0.01), method=EASY)
    assert small.facts["unreached"] == ["spare.weight"]
    assert any("never reach 1 weight tensor ('spare.weight')" in note for note in small.facts["notes"])


def test_outputs_that_are_no_distribution_have_a_divergence_of_their_own() -> None:
    torch.manual_seed(0)
    net, loss = nn.Linear(8, 6), PlainLoss(nn.functional.mse_loss)
    batches = [torch.randn(60, 8)]
    method = PostTraining(trials=6, divergence=cosine_distance)
    small = laconic.compress_trained(net, batches, Target(max_kl=0.01), method=method, task=loss)
    assert 0 < small.facts["divergence"] <= 0.01
    with pytest.raises(InputError, match="PlainLoss does not say how far two predictions are apart"):
        laconic.compress_trained(net, batches, Target(max_kl=0.01), task=loss)


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([], "gave no example"),
        ([torch.ones(0, 8)], "gave no example"),
        ([torch.randn(4, 8), (torch.randn(4, 8), torch.zeros(3).long())], r"4 examples and labels .*\(3,\)"),
        ([torch.full((4, 8), float("nan"))], "NaN or infinite"),
        ([torch.ones(4, 8)], "all inputs of the calibration batches are 1"),
        ((x for x in [torch.ones(4, 8)]), "can be read only once"),
    ],
)
def test_calibration_inputs_that_show_nothing_are_refused(batches: list[Tensor], says: str) -> None:
    with pytest.raises(DataError, match=says):
        laconic.compress_trained(nn.Linear(8, 4), batches, Target(max_kl=0.01))


def test_calibration_inputs_that_do_not_fit_name_the_layer() -> None:
    net, target = nn.Linear(8, 4), Target(max_kl=0.01)
    with pytest.raises(InputError, match="a calibration batch: .*met an input of shape .*Cure"):
        laconic.compress_trained(net, [torch.randn(8)], target)  # one example alone
    with pytest.raises(InputError, match="a calibration batch: .*met an input of shape .*9.*Cure"):
        laconic.compress_trained(net, [torch.randn(8, 8), torch.randn(8, 9)], target)
    with pytest.raises(InputError, match=r"one tensor of the shape \(8, 8\).*Cure: \[inputs\]"):
        laconic.compress_trained(net, torch.randn(8, 8), target)


def test_a_forward_without_gradients_is_measured_by_noise() -> None:
    class Frozen(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(x)

    torch.manual_seed(0)
    small = laconic.compress_trained(Frozen(8, 4), [torch.randn(40, 8)], Target(max_kl=0.01), method=EASY)
    assert small.facts["target_met"] and small.facts["bits_per_weight"] < 16


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_a_layer_does_not_matter(scale: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    x, bits = torch.randn(64, 8), []
    for factor in (1.0, scale):
        with torch.no_grad():
            for part, by in ((net[0].weight, factor), (net[0].bias, factor), (net[2].weight, 1 / factor)):
                part *= by
        small = laconic.compress_trained(net, [x], Target(max_kl=0.005), method=EASY)
        assert small.facts["target_met"]
        bits.append(small.facts["bits_per_weight"])
    assert bits[1] < 1.3 * bits[0]


def test_a_file_short_enough_but_too_far_misses_its_target() -> None:
    target = Target(max_bytes=10_000, max_kl=0.0)
    with pytest.warns(UserWarning, match="target missed: the predictions"):
        small = laconic.compress_trained(_trained(), _inputs(), target, method=PostTraining(trials=1))
    assert not small.facts["target_met"]


def _cure(target: Target, validate: list[tuple[Tensor, Tensor]] | None = None) -> str:
    """The note on a missed target, from its cure on."""
    method = PostTraining(trials=4)
    with pytest.warns(UserWarning, match="target missed") as caught:
        laconic.compress_trained(_trained(), _inputs(), target, validate=validate, method=method)
    return next(str(w.message) for w in caught if "target missed" in str(w.message))


def test_with_two_limits_the_cure_gives_both_ways_out() -> None:
    """What is lost at this length, and which length or target loses as little as was asked for."""
    x, y = _digits()
    near = _cure(Target(max_bytes=600, max_kl=1e-6))
    assert re.search(
        r"the least in a file of at most 600 bytes; 1e-06 were asked for\. The shortest file found that "
        r"loses no more than that \([\d.e-]+ nats per term\) has (\d+) bytes\. "
        r"Cure: Target\(max_bytes=600, max_kl=[\d.e-]+\), or Target\(max_bytes=\d+, max_kl=1e-06\)",
        near,
    )
    found = re.search(
        r"at most 300 bytes; it may get worse by 0\.00 %\. .* has (\d+) bytes\. "
        r"Cure: Target\(max_bytes=300, max_drop=([\d.]+)\), or Target\(max_bytes=(\d+), max_drop=0\)",
        _cure(Target(max_bytes=300, max_drop=0.0), [(x[900:1300], y[900:1300])]),
    )
    assert found is not None and float(found[2]) > 0
    assert int(found[3]) == math.ceil(1.05 * int(found[1])) > 315


def test_the_length_in_the_cure_keeps_the_divergence() -> None:
    cure = _cure(Target(max_bytes=300, max_kl=0.05))
    found = re.search(r"or Target\(max_bytes=(\d+), max_kl=0.05\)", cure)
    assert found is not None
    target = Target(max_bytes=int(found[1]), max_kl=0.05)
    small = laconic.compress_trained(_trained(), _inputs(), target, method=PostTraining(trials=8))
    assert small.facts["target_met"] and "reachable" not in small.facts


def test_where_no_file_is_so_short_the_shortest_that_keeps_the_loss_is_told() -> None:
    cure = _cure(Target(max_bytes=1, max_kl=0.05))
    assert re.search(
        r"the file has (\d+) bytes, the fewest of \d+ prices, with predictions [\d.]+ nats per term from the "
        r"original's; 1 were asked for\. The shortest file found that loses no more than that \(0\.0\d+ nats "
        r"per term\) has \d+ bytes\. Cure: Target\(max_bytes=\1\) alone, or "
        r"Target\(max_bytes=\d{3}, max_kl=0\.05\)$",
        cure,
    )


def test_what_no_price_keeps_is_told_with_the_least_that_was_found() -> None:
    near = _cure(Target(max_bytes=300, max_kl=0.0))
    assert "No file that was tried loses so little: the one that loses least (" in near
    assert re.search(r"has \d+ bytes\. .*, or Target\(max_bytes=\d+, max_kl=[\d.e-]+\)$", near)


def test_of_trials_that_are_short_enough_the_one_that_loses_least_is_returned(tmp_path: Path) -> None:
    target = Target(max_bytes=250, max_kl=0.05)
    with pytest.warns(UserWarning, match="target missed: the predictions"):
        small = laconic.compress_trained(_trained(), _inputs(), target, method=PostTraining(trials=4))
    tried = {trial["price"]: trial for trial in small.facts["prices_tried"]}
    beside = laconic.save(small, tmp_path / "x.lac") - tried[small.facts["price"]]["tensor_bytes"]
    short = [trial["divergence"] for trial in tried.values() if trial["tensor_bytes"] + beside <= 250]
    assert small.facts["divergence"] == min(short) < max(short)


@pytest.mark.parametrize(
    "wrong", [{"max_bytes": 60.5}, {"max_bytes": math.inf}, {"max_kl": math.inf}, {"max_kl": math.nan}]
)
def test_targets_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"must be .*got .*\. Cure"):
        Target(**wrong)


def test_no_target_is_refused() -> None:
    with pytest.raises(InputError, match="there is no target. Cure: Target"):
        laconic.compress_trained(nn.Linear(8, 4), [torch.randn(9, 8)], Target())
    with pytest.raises(InputError, match="held_out"):
        PostTraining(held_out=1.0)


class _Noisy(nn.Module):
    """A network that draws random numbers in evaluation mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + 1e-3 * torch.rand(len(x), 3)


def test_a_network_that_draws_random_numbers_leaves_the_callers_generators_alone() -> None:
    torch.manual_seed(0)
    net, x = _Noisy(), torch.randn(40, 4)
    before = torch.get_rng_state()
    first, second = (
        laconic.compress_trained(net, [x], Target(max_kl=0.5), method=PostTraining(trials=2)) for _ in "ab"
    )
    assert torch.equal(before, torch.get_rng_state())
    assert first.facts["prices_tried"] == second.facts["prices_tried"]
