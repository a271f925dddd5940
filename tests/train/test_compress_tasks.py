"""Every kind of task through ``laconic.compress``: what is counted, what is measured, what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laconic
from laconic.errors import DataError, InputError, ScaleError
from laconic.methods import Compressed, MagnitudePruning, SparseVD
from laconic.methods.contract import Target
from laconic.schedules import WarmUp
from laconic.tasks import (
    BinaryClassification,
    Classification,
    LanguageModelling,
    MultiLabel,
    PlainLoss,
    Regression,
    Segmentation,
    SequenceLabelling,
    Task,
)
from laconic.train.fit import FitConfig, Hooks, fit

SPARSE_VD = SparseVD(warm_up=WarmUp(0.0, 2.0), init_log_var=-6.0)
FIT = FitConfig(epochs=8, lr=0.01)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _cut(*tensors: Tensor, size: int = 64) -> list[tuple[Tensor, ...]]:
    """Batches of ``size`` examples."""
    return [tuple(t[k : k + size] for t in tensors) for k in range(0, len(tensors[0]), size)]


def _trained(net: nn.Module, data: Any, task: Task, epochs: int = 30) -> nn.Module:
    torch.set_num_threads(1)
    fit(net, data, FitConfig(epochs, lr=0.02), Hooks.plain(net, task), task=task)
    return net


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs))


# --- metrics of the task, in its unit, and targets in that unit -----------------------------------------


def _regression_data() -> tuple[Tensor, Tensor]:
    x = torch.rand(256, 3, generator=_generator()) * 2 - 1
    return x, (torch.sin(2 * x[:, :1]) + 0.5 * x[:, 1:2]) * 10.0


def test_a_regression_keeps_its_drop_in_the_targets_unit(tmp_path: Path) -> None:
    x, y = _regression_data()
    data, task = _cut(x, y), Regression(unit="mm")
    model = _trained(_mlp(3, 1), data, task, 60)
    small = laconic.compress(
        model, data, data, SPARSE_VD, Target(max_drop=0.5), task=task, fit=FIT, out=tmp_path
    )

    def rmse(net: nn.Module) -> float:
        return math.sqrt(float((net(x) - y).square().mean().detach()))

    assert small.facts["metric"] == {"name": "RMSE", "unit": "mm", "higher_is_better": False}
    assert small.facts["original_validation_metric"] == pytest.approx(rmse(model), rel=1e-4)
    assert small.facts["validation_metric"] == pytest.approx(rmse(small.module), rel=1e-4)
    assert rmse(small.module) <= rmse(model) + 0.5
    assert small.facts["data_size"] == 256
    decoded = laconic.runtime.load(tmp_path / "model.lac")(x.numpy())
    assert np.sqrt(np.square(decoded - y.numpy()).mean()) == pytest.approx(rmse(small.module), rel=1e-4)


def test_a_regression_learns_its_noise_and_says_so() -> None:
    x, y = _regression_data()
    y = y + torch.randn(y.shape, generator=_generator(5)) * 2.0
    data, task = _cut(x, y), Regression()
    small = laconic.compress(
        _trained(_mlp(3, 1), data, task), data, data, MagnitudePruning(0.0), task=task, fit=FIT
    )
    noise = math.exp(small.facts["likelihood"]["log_noise"])
    assert noise == pytest.approx(small.facts["validation_metric"], rel=0.2)
    assert not any("laconic" in name for name in small.module.state_dict())


@pytest.mark.parametrize("shape", ["(N, 1)", "(N,)"])
def test_a_binary_classifiers_error_is_that_of_the_sign(shape: str) -> None:
    x = torch.randn(256, 4, generator=_generator(1))
    y = (x[:, 0] + 0.3 * torch.randn(256, generator=_generator(2)) > 0).long()
    net = _mlp(4, 1) if shape == "(N, 1)" else nn.Sequential(*_mlp(4, 1), nn.Flatten(0))
    y = y[:, None] if shape == "(N, 1)" else y
    data, task = _cut(x, y), BinaryClassification()
    small = laconic.compress(_trained(net, data, task), data, data, SPARSE_VD, task=task, fit=FIT)
    with torch.no_grad():
        errors = [100 * float(((m(x) > 0).long() != y).float().mean()) for m in (net, small.module)]
    assert small.facts["original_validation_metric"] == pytest.approx(errors[0])
    assert small.facts["validation_metric"] == pytest.approx(errors[1])
    assert 0 < errors[0] < 30


def test_several_labels_at_once_are_counted_one_by_one() -> None:
    x = torch.randn(256, 6, generator=_generator(3))
    y = (x[:, :4] + 0.5 * torch.randn(256, 4, generator=_generator(4)) > 0.5).float()
    data, task = _cut(x, y), MultiLabel()
    net = _trained(_mlp(6, 4), data, task)
    small = laconic.compress(net, data, data, SPARSE_VD, task=task, fit=FIT)
    with torch.no_grad():
        wrong = 100 * float(((small.module(x) > 0).float() != y).float().mean())
    assert small.facts["metric"]["name"] == task.metric.name
    assert small.facts["data_size"] == 256 * 4
    assert small.facts["validation_metric"] == pytest.approx(wrong)


class Tagger(nn.Module):
    """A label for each of T tokens; time first where ``batch_first`` is not set."""

    def __init__(self, words: int = 12, labels: int = 4, batch_first: bool = True) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.words, self.gru = nn.Embedding(words, 8), nn.GRU(8, 12, batch_first=batch_first)
        self.head = nn.Linear(12, labels)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.gru(self.words(ids))[0])


def _sentences() -> tuple[Tensor, Tensor]:
    ids = torch.randint(12, (96, 6), generator=_generator(6))
    labels = ids % 4
    labels[:, 4:] = -100  # padding
    return ids, labels


def test_a_sequence_labeller_counts_its_labelled_tokens() -> None:
    ids, labels = _sentences()
    data, task = _cut(ids, labels, size=32), SequenceLabelling()
    net = _trained(Tagger(), data, task, 12)
    small = laconic.compress(net, data, data, SPARSE_VD, task=task, fit=FIT)
    with torch.no_grad():
        wrong = (small.module(ids).argmax(-1) != labels)[labels != -100]
    assert small.facts["data_size"] == 96 * 4
    assert small.facts["validation_metric"] == pytest.approx(100 * float(wrong.float().mean()))
    with pytest.raises(InputError, match=r"Classification takes .*Cure: the task SequenceLabelling"):
        laconic.compress(net, data, data, SPARSE_VD, fit=FIT)


def test_a_recurrent_network_fed_time_first_has_its_batch_on_axis_1() -> None:
    """The same terms, epochs and score as batch first; T is not taken for the batch."""
    ids, labels = _sentences()
    first = SequenceLabelling()
    small = laconic.compress(Tagger(), _cut(ids, labels), _cut(ids, labels), SPARSE_VD, task=first, fit=FIT)
    turned = [(i.T, y.T) for i, y in _cut(ids, labels)]
    task = SequenceLabelling(batch_axis=1)
    net = Tagger(batch_first=False)
    other = laconic.compress(net, turned, turned, SPARSE_VD, task=task, fit=FIT)
    assert other.example.shape == (6, 2), "two examples of six steps"
    for key in ("data_size", "original_validation_metric"):
        assert other.facts[key] == pytest.approx(small.facts[key])


def test_a_language_model_is_measured_by_its_tokens(tmp_path: Path) -> None:
    ids = (torch.arange(7) + torch.randint(12, (64, 1), generator=_generator(7))) % 12
    data, task = _cut(ids[:, :-1], ids[:, 1:], size=32), LanguageModelling()
    net = _trained(Tagger(labels=12), data, task, 20)
    small = laconic.compress(net, data, data, SPARSE_VD, task=task, fit=FIT)
    with torch.no_grad():
        nll = F.cross_entropy(small.module(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert small.facts["data_size"] == 64 * 6
    assert small.facts["validation_nll"] == pytest.approx(float(nll), rel=1e-4)


def test_ignored_pixels_are_neither_scored_nor_counted() -> None:
    x = torch.randn(64, 1, 6, 6, generator=_generator(8))
    y = (x[:, 0] > 0).long()
    y[:, :2] = 255
    data, task = _cut(x, y, size=32), Segmentation(ignore=255, metric_name="accuracy")
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 2, 1))
    small = laconic.compress(_trained(net, data, task), data, data, SPARSE_VD, task=task, fit=FIT)
    with torch.no_grad():
        right = (small.module(x).argmax(1) == y)[y != 255]
    assert small.facts["data_size"] == 64 * 24
    assert small.facts["validation_metric"] == pytest.approx(100 * float(right.float().mean()))
    with pytest.raises(DataError, match=r"label 255 is out of range .* 2 outputs.*Cure: .*ignore=255"):
        laconic.compress(net, data, data, SPARSE_VD, task=Segmentation(ignore=None), fit=FIT)


# --- a batch of any kind --------------------------------------------------------------------------------


class Inputs(nn.Module):
    """A classifier whose inputs come in some other way than one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.net = _mlp(6, 3)


class ByName(Inputs):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.net(torch.cat([left, right], 1))


class OneDictionary(Inputs):
    def forward(self, parts: dict[str, Tensor]) -> Tensor:
        return self.net(torch.cat([parts["left"], parts["right"]], 1))


class OneList(Inputs):
    def forward(self, parts: list[Tensor]) -> Tensor:
        return self.net(torch.cat(list(parts), 1))


class NumberFirst(Inputs):
    def forward(self, scale: float, left: Tensor, right: Tensor) -> Tensor:
        return self.net(scale * torch.cat([left, right], 1))


def _two_inputs() -> tuple[Tensor, Tensor, Tensor]:
    left, right = (torch.randn(128, 3, generator=_generator(k)) for k in (9, 10))
    return left, right, (left[:, 0] > 0).long() + (right[:, 0] > 0).long()


KINDS: dict[str, tuple[type[Inputs], Any, Task]] = {
    "(a, b, label)": (ByName, lambda a, b, y: (a, b, y), Classification()),
    "(dict, label)": (ByName, lambda a, b, y: ({"left": a, "right": b}, y), Classification()),
    "dict": (ByName, lambda a, b, y: {"right": b, "y": y, "left": a}, Classification(target="y")),
    "dict with more": (
        ByName,
        lambda a, b, y: {"id": y, "y": y, "left": a, "right": b},
        Classification(target="y", inputs=("left", "right")),
    ),
    "a dictionary as the one argument": (
        OneDictionary,
        lambda a, b, y: (({"left": a, "right": b},), y),
        Classification(),
    ),
    "a list as the one argument": (OneList, lambda a, b, y: (([a, b],), y), Classification()),
    "a number first": (NumberFirst, lambda a, b, y: (1.0, a, b, y), Classification()),
}


def _compressed(kind: str) -> Compressed:
    build, batch, task = KINDS[kind]
    data = [batch(*parts) for parts in _cut(*_two_inputs())]
    return laconic.compress(build(), data, data, SPARSE_VD, task=task, fit=FIT)


@pytest.fixture(scope="module")
def usual() -> Compressed:
    """What comes of two tensors by position."""
    return _compressed("(a, b, label)")


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_any_kind_count_the_kl_alike(kind: str, usual: Compressed) -> None:
    """The same weights go, whatever the first input is: the KL counts in each."""
    small = _compressed(kind)
    assert small.facts["data_size"] == 128
    for name, tensor in usual.tensors.items():
        assert np.array_equal(small.tensors[name].values(), tensor.values()), name
    weights = np.concatenate([t.values().ravel() for n, t in small.tensors.items() if "weight" in n])
    assert (weights != 0).mean() < 0.7


# --- losses that are no likelihood, and tasks of one's own ------------------------------------------------


def test_a_squared_error_beside_a_kl_is_refused_before_time_is_lost() -> None:
    x, y = _regression_data()

    class Once:
        """The first batch, which is looked at; a second one would be training."""

        def __iter__(self) -> Any:
            yield x[:64], y[:64]
            raise AssertionError("trained")

    for loss in (F.mse_loss, nn.MSELoss(), lambda out, to: (out - to).square().mean()):
        with pytest.raises(
            ScaleError, match=r"is mse_loss, which has the target's unit.*Cure: the task Regr"
        ):
            laconic.compress(_mlp(3, 1), Once(), Once(), SPARSE_VD, task=loss, fit=FIT)


def test_a_squared_error_without_a_kl_is_the_metric_itself() -> None:
    x, y = _regression_data()
    data = _cut(x, y)
    model = _trained(_mlp(3, 1), data, PlainLoss(F.mse_loss))
    small = laconic.compress(
        model, data, data, MagnitudePruning(0.3), Target(max_drop=2.0), task=F.mse_loss, fit=FIT
    )
    after = float(F.mse_loss(small.module(x), y).detach())
    assert small.facts["metric"]["name"] == "mse_loss"
    assert small.facts["validation_metric"] == pytest.approx(after, rel=1e-4)
    assert after <= float(F.mse_loss(model(x), y).detach()) + 2.0
    assert (small.tensors["0.weight"].values() == 0).any()


def test_a_mean_log_likelihood_of_ones_own_is_taken_beside_a_kl() -> None:
    x, y = _regression_data()

    def gaussian(outputs: Tensor, target: Tensor) -> Tensor:
        return 0.5 * math.log(2 * math.pi) + 0.5 * (outputs - target).square().mean()

    data = _cut(x, y)
    small = laconic.compress(_mlp(3, 1), data, data, SPARSE_VD, task=gaussian, fit=FIT)
    assert small.facts["metric"]["name"] == "gaussian"
