"""Refinement on the grid: what it trains, what it leaves, and that it never keeps what is worse."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import laconic
from laconic.cli.settings import configure
from laconic.errors import InputError, ModelError
from laconic.methods import PostTraining, Target
from laconic.methods.layerwise.calibration import calibration_calls
from laconic.methods.layerwise.comparison import Comparison
from laconic.methods.layerwise.latents import Latents, code_nats
from laconic.methods.layerwise.refining import Refine, _Average, exchange_rate, refined
from laconic.methods.layerwise.trials import Subject, Trial, make_subject, try_price
from laconic.networks.policy import Policy
from laconic.quantize.second_order import SecondOrder
from laconic.records import IntTensor, UniformGrid
from laconic.tasks import Classification, Task

CONFIG = Refine(steps=60, rate=0.02, batch=32)
PRICE = 3e-5


def _net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5))
    with torch.no_grad():
        net.get_parameter("2.weight").mul_(4)
    return net.eval()


def _inputs(count: int = 240) -> Tensor:
    return torch.randn(count, 12, generator=torch.Generator().manual_seed(1))


def _subject(net: nn.Module, x: Tensor, task: Task | None = None) -> Subject:
    task = task or Classification()
    deciding, measuring = calibration_calls(net, [x], task, len(x), 0.25, 0)
    comparison = Comparison(net, measuring, task)
    return make_subject(net, deciding, comparison, Policy(), SecondOrder(), seed=0, task=task)


@functools.cache
def _decided() -> tuple[Subject, Trial]:
    subject = _subject(_net(), _inputs())
    return subject, try_price(subject, PRICE)


def _worth(trial: Trial) -> float:
    return 2 * trial.divergence / code_nats(trial.tensors)


def _cost(trial: Trial, worth: float) -> float:
    return trial.divergence + worth * code_nats(trial.tensors)


def test_it_lowers_divergence_and_rate_together() -> None:
    subject, trial = _decided()
    better = refined(subject, trial, CONFIG, _worth(trial), 0)
    assert better.refined_steps > 0
    assert _cost(better, _worth(trial)) < _cost(trial, _worth(trial))
    assert better.divergence == subject.comparison.of(better.module)
    for name, tensor in better.tensors.items():
        assert np.array_equal(tensor.values(), better.module.get_parameter(name).detach().numpy())


@pytest.mark.parametrize("rate", [5.0, 1e3])
def test_what_gets_worse_is_dropped(rate: float) -> None:
    subject, trial = _decided()
    assert refined(subject, trial, replace(CONFIG, rate=rate, step_rate=rate / 10), 0.0, 0) is trial


def test_the_same_seed_gives_the_same_integers_and_another_seed_others() -> None:
    subject, trial = _decided()
    first, second, third = (refined(subject, trial, CONFIG, _worth(trial), seed) for seed in (0, 0, 1))
    assert _same(first, second)
    assert not _same(first, third)


def _same(one: Trial, other: Trial) -> bool:
    pairs = zip(one.tensors.values(), other.tensors.values(), strict=True)
    return all(np.array_equal(a.integers, b.integers) and a.grid == b.grid for a, b in pairs)


def test_scales_alone_keep_the_integers_of_weights() -> None:
    subject, trial = _decided()
    better = refined(subject, trial, replace(CONFIG, what="scales", step_rate=0.01), 0.0, 0)
    assert better.refined_steps > 0
    assert better.divergence < trial.divergence
    for name in subject.weights:
        assert np.array_equal(better.tensors[name].integers, trial.tensors[name].integers)
        assert better.tensors[name].grid != trial.tensors[name].grid


def test_what_an_earlier_stage_removed_stays_zero() -> None:
    net, x = _net(), _inputs()
    removed = np.zeros((20, 12), bool)
    removed[::2] = True
    subject = replace(_subject(net, x), removed={"0.weight": removed})
    better = refined(subject, try_price(subject, PRICE), CONFIG, 0.0, 0)
    assert better.refined_steps > 0
    assert not better.tensors["0.weight"].integers[removed].any()


def test_the_average_is_an_exponential_one_and_goes_back_to_the_present_values() -> None:
    x = torch.zeros(2, requires_grad=True)
    average = _Average(torch.optim.SGD([x], 1.0), 4.0)
    for value in (1.0, 2.0, 5.0):
        with torch.no_grad():
            x.fill_(value)
        average.update()
    with average.in_place():
        assert x.tolist() == [1.25 + 0.25 * 3.75] * 2
    assert x.tolist() == [5.0, 5.0]
    assert x.requires_grad


def _labelled(labels: float) -> tuple[Subject, Trial, Refine]:
    """Labels that the network gets wrong: its second most likely classes."""
    net, x = _net(), _inputs()
    wrong = net(x).topk(2).indices[:, 1]
    task = Classification()
    deciding, measuring = calibration_calls(net, [(x, wrong)], task, len(x), 0.25, 0, labels=True)
    subject = make_subject(
        net, deciding, Comparison(net, measuring, task), Policy(), SecondOrder(), seed=0, task=task
    )
    return subject, try_price(subject, PRICE), replace(CONFIG, labels=labels)


def test_labels_pull_the_network_towards_them() -> None:
    subject, trial, config = _labelled(1.0)
    better = refined(subject, trial, config, 0.0, 0)
    assert better.refined_steps > 0
    loss = subject.comparison.task_loss_of
    assert loss(better.module) < 0.9 * loss(trial.module)


def test_the_loss_of_the_task_is_that_of_held_out_labels() -> None:
    subject, trial, _ = _labelled(1.0)
    net, x = _net(), _inputs()
    _, measuring = calibration_calls(
        net, [(x, net(x).topk(2).indices[:, 1])], Classification(), len(x), 0.25, 0, labels=True
    )
    with torch.no_grad():
        outputs = torch.cat([trial.module(y) for y in measuring.inputs])
    expected = float(nn.functional.cross_entropy(outputs, torch.cat(list(measuring.targets))))
    assert subject.comparison.task_loss_of(trial.module) == pytest.approx(expected, rel=1e-5)


def test_labels_that_are_asked_for_and_missing_are_named_with_the_cure() -> None:
    method = PostTraining(refine=Refine(steps=2, labels=0.1))
    with pytest.raises(InputError, match=r"refine\.labels needs labels.*Cure: batches \(inputs, labels\)"):
        laconic.compress_trained(_net(), [_inputs()], Target(max_kl=0.02), method=method)


def test_an_augmentation_is_trained_on_and_the_same_seed_gives_the_same_integers() -> None:
    subject, trial = _decided()

    def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
        return x + 0.1 * torch.randn(x.shape, generator=generator) + 0.1 * torch.randn(x.shape)

    config = replace(CONFIG, augment=noisy)
    torch.manual_seed(0)
    first = refined(subject, trial, config, _worth(trial), 0)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    second = refined(subject, trial, config, _worth(trial), 0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert _same(first, second)
    assert not _same(first, refined(subject, trial, CONFIG, _worth(trial), 0))


def test_the_gradient_of_a_multiple_is_its_steps_times_that_of_the_weight() -> None:
    subject, trial = _decided()
    latents = Latents(subject, trial)
    (group,) = [g for g in latents.groups(1.0, 0.5) if g["lr"] == 1.0]
    direction = torch.randn(20, 12, generator=torch.Generator().manual_seed(2))
    (latents.values()["0.weight"] * direction).sum().backward()  # type: ignore[no-untyped-call]
    grid = trial.tensors["0.weight"].grid
    assert isinstance(grid, UniformGrid)
    steps = torch.tensor(grid.numbers)
    expected = direction * (steps if grid.axis is None else steps.reshape(-1, 1))
    assert torch.allclose(group["params"][0].grad, expected)


def test_before_the_first_step_nothing_has_changed() -> None:
    subject, trial = _decided()
    found = Latents(subject, trial).tensors()
    for name, tensor in trial.tensors.items():
        assert np.array_equal(found[name].integers, tensor.integers)
        assert found[name].grid == tensor.grid


class _Words(nn.Module):
    """An embedding, whose rows the inputs use in part, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.fc = nn.Embedding(30, 12), nn.Linear(12, 5)

    def forward(self, words: Tensor) -> Tensor:
        found: Tensor = self.fc(self.table(words).mean(1))
        return found


def test_rows_of_an_embedding_that_no_input_uses_are_not_taken_by_the_rate() -> None:
    torch.manual_seed(0)
    net, words = _Words().eval(), torch.randint(10, (240, 4), generator=torch.Generator().manual_seed(0))
    subject = _subject(net, words)
    trial = try_price(subject, 1e-6)
    better = refined(subject, trial, CONFIG, 1e-4, 0)
    assert np.array_equal(better.tensors["table.weight"].integers, trial.tensors["table.weight"].integers)


class _Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = self.fc(x)
        return found


def test_a_network_without_gradients_is_named_with_the_cure() -> None:
    net = _Detached().eval()
    x = _inputs()
    deciding, measuring = calibration_calls(net, [x], Classification(), len(x), 0.25, 0)
    comparison = Comparison(net, measuring, Classification(), {}, lambda a, b: (a - b).square().sum())
    subject = make_subject(net, deciding, comparison, Policy(), SecondOrder(), seed=0)
    with pytest.raises(ModelError, match=r"no gradient reaches.*refine\.steps=0"):
        refined(subject, try_price(subject, 1e-4), CONFIG, 0.0, 0)


def test_a_loss_that_is_not_finite_ends_it_with_what_was_decided() -> None:
    subject, trial = _decided()
    assert refined(subject, trial, CONFIG, math.nan, 0) is trial


@pytest.mark.parametrize(
    "make",
    [
        lambda: Refine(steps=-1),
        lambda: Refine(batch=0),
        lambda: Refine(rate=0.0),
        lambda: Refine(mix=1.5),
        lambda: Refine(temperature=0.5),
        lambda: Refine(what="biases"),  # type: ignore[arg-type]
        lambda: Refine(labels=-1.0),
        lambda: Refine(average=0.6),
        lambda: Refine(augment="flip"),  # type: ignore[arg-type]
    ],
)
def test_settings_outside_their_bounds_are_refused(make: Callable[[], Refine]) -> None:
    with pytest.raises(InputError, match="refine"):
        make()


@pytest.mark.parametrize("slope", [1.5, 3.0])
def test_the_exchange_rate_is_the_slope_of_a_power_law(slope: float) -> None:
    rng = np.random.default_rng(0)
    tensors = {"w": IntTensor("w", rng.integers(-2, 3, (8, 8)).astype(np.int32), UniformGrid(0.5))}
    trials = [Trial(1.0, nn.Identity(), tensors, n, 40.0 * n**-slope, {}) for n in (100, 150, 300)]
    found = exchange_rate(trials, trials[1])
    assert found == pytest.approx(slope * trials[1].divergence / code_nats(tensors))


def test_one_call_refines_and_is_no_worse_than_without() -> None:
    target = Target(max_kl=0.02)
    plain, better = (
        laconic.compress_trained(_net(), [_inputs()], target, method=PostTraining(trials=6, refine=refine))
        for refine in (Refine(), Refine(steps=60, rate=0.01))
    )
    assert plain.facts["target_met"]
    assert better.facts["target_met"]
    assert better.facts["divergence"] <= 0.02
    assert better.facts["refined_steps"] > 0
    assert better.facts["bits_per_weight"] < 0.95 * plain.facts["bits_per_weight"]


def test_under_a_limit_of_bytes_it_loses_less() -> None:
    target = Target(max_bytes=200)
    plain, better = (
        laconic.compress_trained(_net(), [_inputs()], target, method=PostTraining(trials=6, refine=refine))
        for refine in (Refine(), Refine(steps=60, rate=0.01, trials=2))
    )
    assert plain.facts["target_met"]
    assert better.facts["target_met"]
    assert better.facts["divergence"] < plain.facts["divergence"]


def test_a_length_that_is_missed_is_missed_with_refinement_too() -> None:
    with pytest.warns(UserWarning, match="target missed: the file has"):
        small = laconic.compress_trained(
            _net(),
            [_inputs()],
            Target(max_bytes=1),
            method=PostTraining(trials=2, refine=replace(CONFIG, trials=1)),
        )
    assert not small.facts["target_met"]


def test_refinement_that_is_no_gain_leaves_the_result_as_it_is_and_says_so() -> None:
    plain, same = (
        laconic.compress_trained(
            _net(), [_inputs()], Target(max_kl=0.02), method=PostTraining(trials=4, refine=refine)
        )
        for refine in (Refine(), Refine(steps=4, rate=1e-6, step_rate=0.0, trials=1))
    )
    assert same.facts["refined_steps"] == 0
    for name, tensor in plain.tensors.items():
        assert isinstance(tensor, IntTensor)
        other = same.tensors[name]
        assert isinstance(other, IntTensor)
        assert np.array_equal(tensor.integers, other.integers)
    notes = [n for n in same.facts["notes"] if "refinement was no gain" in n]
    assert len(notes) == 1


def test_its_settings_have_names_on_the_command_line() -> None:
    method = configure(PostTraining(), {"refine.steps": 400, "refine.what": "scales"})
    assert method.refine == Refine(steps=400, what="scales")
