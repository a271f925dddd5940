"""Regression: figures by hand and scikit-learn's, the noise, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import r2_score, root_mean_squared_error

from laconic.errors import DataError, InputError
from laconic.tasks import Regression

G = np.random.default_rng(8)
OUT, TO = G.normal(size=(30, 3)) * [1, 5, 20], G.normal(size=(30, 3)) * [1, 5, 20] + [0, 100, -7]


def test_rmse_is_scikit_learns_over_all_entries() -> None:
    task = Regression(unit="mg/dl")
    value = task.value(task.add(*(task.measure(OUT[:, k], TO[:, k]) for k in (0, 1))))
    assert value == pytest.approx(root_mean_squared_error(TO[:, :2].ravel(), OUT[:, :2].ravel()))
    assert task.metric.show(2.5) == "2.5 mg/dl" and not task.metric.higher_is_better
    assert task.metric.allowance(50.0) == pytest.approx(0.5)


def test_r2_is_scikit_learns_from_batches() -> None:
    task = Regression(metric_name="r2")
    sums = task.add(task.measure(OUT[:11], TO[:11]), task.measure(OUT[11:], TO[11:]))
    assert task.value(sums) == pytest.approx(r2_score(TO, OUT))
    assert task.metric.higher_is_better and task.metric.drop(0.9, 0.8) == pytest.approx(0.1)


def test_r2_of_constant_targets_is_not_defined() -> None:
    task = Regression(metric_name="r2")
    with pytest.raises(DataError, match="R2 is not defined.*Cure: metric_name='rmse'"):
        task.value(task.measure(np.array([1.0, 2.0]), np.array([0.1, 0.1])))


def test_r2_of_targets_far_from_zero_is_as_good_as_that_of_targets_around_it() -> None:
    task = Regression(metric_name="r2")
    near = np.ldexp(np.round(np.ldexp(TO / 1e4, 30)), -30)  # so that adding the offset rounds nothing away
    out = np.ldexp(np.round(np.ldexp(OUT / 1e4, 30)), -30)
    parts = [slice(0, 1), slice(1, 11), slice(11, 30)]
    far = [task.measure(out[part] + 1e6, near[part] + 1e6) for part in parts]
    value = task.value(task.add(task.add(far[0], far[1]), far[2]))
    assert value == pytest.approx(r2_score(near, out), rel=1e-6)
    with pytest.raises(DataError, match="R2 is not defined"):
        constant = task.measure(out[:7] + 1e6, np.full((7, 3), 1e6 + 0.1))
        task.value(task.add(constant, task.measure(out[7:9], np.full((2, 3), 1e6 + 0.1))))


def test_an_entry_that_is_nowhere_known_in_a_batch_adds_nothing() -> None:
    task = Regression(metric_name="r2")
    target = TO.copy()
    target[:5, 1] = np.nan
    sums = task.add(task.measure(OUT[:5], target[:5]), task.measure(OUT[5:], target[5:]))
    by_output = [r2_score(TO[k:, j], OUT[k:, j]) for j, k in ((0, 0), (1, 5), (2, 0))]
    assert task.value(sums) == pytest.approx(np.mean(by_output))


def test_residuals_of_float64_targets_far_from_zero_keep_their_digits() -> None:
    outputs = torch.full((4,), 1e6, dtype=torch.float32)
    target = torch.tensor([1e6 + 0.01, 1e6 - 0.01, 1e6 + 0.02, 1e6], dtype=torch.float64)
    by_scipy = -scipy.stats.norm(0, 0.01).logpdf([0.01, 0.01, 0.02, 0.0]).sum()
    assert Regression(0.01).nll(outputs, target).item() == pytest.approx(by_scipy, rel=1e-4)


def test_nan_targets_are_no_terms() -> None:
    target = np.array([[1.0, np.nan], [3.0, 4.0]])
    task = Regression(2.0)
    outputs = np.array([[1.0, 9.0], [3.0, 7.0]])
    assert task.terms(target) == 3
    assert task.value(task.measure(outputs, target)) == pytest.approx(math.sqrt(9 / 3))
    by_scipy = -scipy.stats.norm(0, 2.0).logpdf([0.0, 0.0, 3.0]).sum()
    assert task.nats(outputs, target) == pytest.approx(by_scipy)
    nothing = np.full((2, 2), np.nan)
    assert task.terms(nothing) == 0 == task.nats(outputs, nothing)
    assert Regression().learnt(torch.from_numpy(nothing))["log_noise"] == 0
    with pytest.raises(DataError, match="nothing to measure"):
        task.value(task.measure(outputs, nothing))


def test_the_learnt_noise_starts_at_the_targets_standard_deviation() -> None:
    target = torch.tensor([1.0, 5.0, float("nan")])
    start = Regression().learnt(target)["log_noise"]
    assert start.shape == () and start.dtype == torch.float32
    assert start.exp().item() == pytest.approx(2.0)
    assert Regression().learnt(torch.tensor([7]))["log_noise"].item() == 0  # one target tells nothing
    assert Regression(2.0).learnt(target) == {}


def test_the_learnt_noise_starts_at_the_residuals_of_a_network_that_is_good_already() -> None:
    target = torch.tensor([[0.0], [100.0], [math.nan], [40.0]])
    outputs = torch.tensor([[1.0], [102.0], [7.0], [38.0]])
    start = Regression().learnt(target, outputs)["log_noise"]
    assert start.exp().item() == pytest.approx(math.sqrt((1 + 4 + 4) / 3), rel=1e-6)
    perfect = Regression().learnt(target, target)["log_noise"]
    assert perfect.item() == Regression().learnt(target)["log_noise"].item()


def test_the_learnt_noise_is_fitted_to_the_residuals() -> None:
    outputs, target = torch.from_numpy(OUT), torch.from_numpy(TO)
    log_noise = Regression().learnt(target)["log_noise"]
    for _ in range(60):
        leaf = log_noise.clone().requires_grad_()
        nll = Regression().nll(outputs, target, log_noise=leaf) / outputs.numel()
        log_noise = log_noise - 0.3 * torch.autograd.grad(nll, leaf)[0]
    assert log_noise.exp().item() == pytest.approx(math.sqrt(((OUT - TO) ** 2).mean()), rel=1e-3)


def test_noise_by_output_is_on_axis_1() -> None:
    out, to, std = G.normal(size=(4, 2, 3)), G.normal(size=(4, 2, 3)), (0.5, 3.0)
    by_scipy = -scipy.stats.norm(0, np.array(std)[None, :, None]).logpdf(out - to).sum()
    task = Regression(std)
    assert task.nats(out, to) == pytest.approx(by_scipy)
    assert task.nll(torch.from_numpy(out), torch.from_numpy(to)).item() == pytest.approx(by_scipy)
    with pytest.raises(InputError, match="noise has 2 numbers, and axis 1 of the outputs 3"):
        task.nats(np.zeros((1, 3)), np.zeros((1, 3)))


def test_whole_targets_are_quantities() -> None:
    outputs, target = torch.tensor([1.5, 3.0]), torch.tensor([1, 5])
    assert Regression(1.0).nll(outputs, target).item() == pytest.approx(
        Regression(1.0).nll(outputs, target.float()).item()
    )
    assert Regression().measure(outputs.numpy(), target.numpy())[1].tolist() == [4.25]


def test_a_learnt_noise_is_in_no_file() -> None:
    assert Regression().nats(OUT, TO) is None
    with pytest.raises(InputError, match="log_noise is missing"):
        Regression().nll(torch.from_numpy(OUT), torch.from_numpy(TO))


@pytest.mark.parametrize(
    ("outputs", "target", "message"),
    [
        ((4, 1), (4,), r"1 in the outputs, missing in the targets. Cure: targets\[:, None\]$"),
        ((4,), (4, 1), r"missing in the outputs, of size 1 in the targets. Cure: outputs\[:, None\]$"),
        ((4, 2), (4, 3), "axis 1 is of size 2 in the outputs, of size 3 in the targets. Cure: outputs and"),
        ((4, 2), (5, 2), "axis 0 is of size 4 in the outputs, of size 5 in the targets. Cure: outputs and"),
    ],
)
def test_shapes_that_would_broadcast_are_refused(
    outputs: tuple[int, ...], target: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Regression(1.0).nll(torch.zeros(outputs), torch.zeros(target))


def test_classes_are_sent_to_classification() -> None:
    with pytest.raises(InputError, match="Cure: the task Classification"):
        Regression(1.0).nll(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))


def test_values_that_are_refused() -> None:
    with pytest.raises(DataError, match="a target is infinite"):
        Regression(1.0).nll(torch.zeros(2), torch.tensor([0.0, math.inf]))
    with pytest.raises(DataError, match="a target is infinite"):
        Regression().learnt(torch.tensor([0.0, math.inf]))
    with pytest.raises(DataError, match="NaN for 1 of 2 outputs, which no number"):
        Regression().measure(np.array([np.nan, 1.0]), np.array([0.0, 0.0]))


@pytest.mark.parametrize("noise", [0, -1.0, math.inf, math.nan, "learned", (), (1.0, 0.0), True, None])
def test_a_noise_that_is_no_standard_deviation(noise: Any) -> None:
    with pytest.raises(InputError, match="noise must be 'learnt' or a standard deviation > 0"):
        Regression(noise)


def test_a_metric_that_it_does_not_have() -> None:
    with pytest.raises(InputError, match="metric_name must be 'rmse' or 'r2', got 'mae'"):
        Regression(metric_name="mae")  # type: ignore[arg-type]
