"""Each likelihood against scipy.stats, torch.distributions, numbers by hand, and its NumPy twin."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import Tensor

from laconic.tasks import likelihoods as L

G = np.random.default_rng(5)
LOGITS = G.normal(size=(6, 4)) * 3
LABELS = np.array([0, 3, 2, 1, 1, 0])
SOFT = G.dirichlet(np.ones(4), 6)
TARGETS = G.integers(0, 2, (6, 4))
RESIDUALS = G.normal(size=(6, 4)) * 2


def t(array: Any) -> Tensor:
    return torch.from_numpy(np.asarray(array))


def test_categorical_is_scipys_and_torchs() -> None:
    p = scipy.special.softmax(LOGITS, axis=1)
    by_scipy = -sum(
        scipy.stats.multinomial(1, row).logpmf(np.eye(4)[k]) for row, k in zip(p, LABELS, strict=True)
    )
    by_torch = -torch.distributions.Categorical(logits=t(LOGITS)).log_prob(t(LABELS)).sum().item()
    assert L.categorical_nll(t(LOGITS), t(LABELS)).item() == pytest.approx(by_torch)
    assert L.categorical_nats(LOGITS, LABELS) == pytest.approx(by_scipy)
    assert by_scipy == pytest.approx(by_torch)


def test_categorical_by_hand_with_an_ignored_label() -> None:
    logits, labels = np.log([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]]), np.array([1, 7, 0])
    by_hand = -math.log(0.75) - math.log(0.9)
    assert L.categorical_nll(t(logits), t(labels), 7).item() == pytest.approx(by_hand)
    assert L.categorical_nats(logits, labels, 7) == pytest.approx(by_hand)


def test_categorical_with_classes_on_axis_1_of_an_image() -> None:
    logits, labels = G.normal(size=(2, 3, 4, 5)), G.integers(0, 3, (2, 4, 5))
    one_by_one = sum(
        -scipy.special.log_softmax(logits[n, :, i, j])[labels[n, i, j]]
        for n in range(2)
        for i in range(4)
        for j in range(5)
    )
    assert L.categorical_nll(t(logits), t(labels)).item() == pytest.approx(one_by_one)
    assert L.categorical_nats(logits, labels) == pytest.approx(one_by_one)


def test_soft_categorical_is_the_expected_hard_one() -> None:
    expected = sum(
        SOFT[n, k] * L.categorical_nats(LOGITS[n : n + 1], np.array([k])) for n in range(6) for k in range(4)
    )
    assert L.soft_categorical_nll(t(LOGITS), t(SOFT)).item() == pytest.approx(expected)
    assert L.soft_categorical_nats(LOGITS, SOFT) == pytest.approx(expected)


def test_a_class_that_is_ruled_out_adds_nothing_and_has_no_gradient() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf]], requires_grad=True)
    p = torch.tensor([[0.5, 0.5, 0.0]])
    nll = L.soft_categorical_nll(logits, p)
    nll.backward()
    assert nll.item() == pytest.approx(math.log(2))
    assert logits.grad is not None and torch.equal(logits.grad, torch.zeros(1, 3))
    assert L.soft_categorical_nats(logits.detach().numpy(), p.numpy()) == pytest.approx(math.log(2))


def test_bernoulli_is_scipys_and_torchs() -> None:
    by_scipy = -scipy.stats.bernoulli(scipy.special.expit(LOGITS)).logpmf(TARGETS).sum()
    by_torch = -torch.distributions.Bernoulli(logits=t(LOGITS)).log_prob(t(TARGETS).double()).sum().item()
    assert L.bernoulli_nll(t(LOGITS), t(TARGETS)).item() == pytest.approx(by_torch)
    assert L.bernoulli_nats(LOGITS, TARGETS) == pytest.approx(by_scipy)
    assert by_scipy == pytest.approx(by_torch)


def test_bernoulli_without_the_entries_that_do_not_count() -> None:
    counted = G.random((6, 4)) < 0.5
    holes = np.where(counted, TARGETS, np.nan)
    by_scipy = -scipy.stats.bernoulli(scipy.special.expit(LOGITS[counted])).logpmf(TARGETS[counted]).sum()
    logits = t(LOGITS).requires_grad_()
    nll = L.bernoulli_nll(logits, t(holes), t(counted))
    nll.backward()
    assert nll.item() == pytest.approx(by_scipy)
    assert L.bernoulli_nats(LOGITS, holes, counted) == pytest.approx(by_scipy)
    assert logits.grad is not None and bool((logits.grad[~t(counted)] == 0).all())
    assert np.allclose(logits.grad[t(counted)], (scipy.special.expit(LOGITS) - TARGETS)[counted])


@pytest.mark.parametrize("std", [0.1, 1.0, 30.0])
def test_gaussian_is_scipys_and_torchs(std: float) -> None:
    by_scipy = -scipy.stats.norm(0, std).logpdf(RESIDUALS).sum()
    by_torch = -torch.distributions.Normal(0.0, std).log_prob(t(RESIDUALS)).sum().item()
    log_std = torch.tensor(math.log(std), dtype=torch.float64)
    assert L.gaussian_nll(t(RESIDUALS), log_std).item() == pytest.approx(by_torch)
    assert L.gaussian_nats(RESIDUALS, math.log(std)) == pytest.approx(by_scipy)
    assert by_scipy == pytest.approx(by_torch, rel=1e-6)


def test_gaussian_noise_by_output_and_without_the_entries_that_do_not_count() -> None:
    std, counted = np.array([0.5, 1.0, 2.0, 4.0]), G.random((6, 4)) < 0.5
    by_scipy = -scipy.stats.norm(0, std).logpdf(RESIDUALS)[counted].sum()
    holes = np.where(counted, RESIDUALS, np.nan)
    assert L.gaussian_nll(t(holes), t(np.log(std)), t(counted)).item() == pytest.approx(by_scipy)
    assert L.gaussian_nats(holes, np.log(std), counted) == pytest.approx(by_scipy)


def test_the_best_noise_is_the_root_mean_square() -> None:
    best = 0.5 * math.log((RESIDUALS**2).mean())
    log_std = torch.tensor(best, dtype=torch.float64, requires_grad=True)
    L.gaussian_nll(t(RESIDUALS), log_std).backward()
    assert log_std.grad is not None and abs(log_std.grad.item()) < 1e-10


HUGE = np.array([[1e4, -1e4], [-1e4, 1e4]])


@pytest.mark.parametrize(
    ("torch_one", "numpy_one", "target", "by_hand"),
    [
        (L.categorical_nll, L.categorical_nats, np.array([0, 0]), 2e4),
        (L.soft_categorical_nll, L.soft_categorical_nats, np.array([[0.5, 0.5], [0.0, 1.0]]), 1e4),
        (L.bernoulli_nll, L.bernoulli_nats, np.array([[1, 0], [1, 1]]), 1e4),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_huge_logits_in_every_precision(
    torch_one: Callable[..., Tensor],
    numpy_one: Callable[..., float],
    target: np.ndarray[Any, Any],
    by_hand: float,
    dtype: torch.dtype,
) -> None:
    logits = t(HUGE).to(dtype).requires_grad_()
    nll = torch_one(logits, t(target))
    nll.backward()
    assert nll.dtype == torch.float32
    assert nll.item() == pytest.approx(by_hand, rel=2e-3)  # bfloat16 holds 1e4 as 9984
    assert logits.grad is not None and bool(logits.grad.isfinite().all())
    assert numpy_one(HUGE.astype(np.float32), target) == pytest.approx(by_hand)


def test_half_precision_residuals_are_squared_in_float32() -> None:
    residuals = torch.tensor([300.0], dtype=torch.float16)  # 300^2 is above the largest float16
    nll = L.gaussian_nll(residuals, torch.tensor(0.0)).item()
    assert nll == pytest.approx(0.5 * math.log(2 * math.pi) + 45000)
    assert L.gaussian_nats(residuals.numpy(), 0.0) == pytest.approx(nll)
