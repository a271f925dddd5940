"""Divergences of two predictions: against Monte Carlo, torch.distributions and numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Independent, Normal, kl_divergence

from laconic.errors import InputError
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
from laconic.tasks import likelihoods as L

G = torch.Generator().manual_seed(3)
Z, R = (2 * torch.randn(6, 4, generator=G, dtype=torch.float64) for _ in range(2))


def _sampled(task: Task, outputs: Tensor, reference: Tensor, draws: Tensor, **learnt: Tensor) -> float:
    """Mean of log p(y | reference) - log p(y | outputs) over drawn targets y."""
    each = [task.nll(outputs, y, **learnt) - task.nll(reference, y, **learnt) for y in draws]
    return float(torch.stack(each).mean())


def test_categorical_is_the_mean_log_ratio_of_drawn_classes() -> None:
    torch.manual_seed(0)
    task, few = Classification(), (Z[:2], R[:2])
    draws = Categorical(logits=few[1]).sample((4000,))
    assert _sampled(task, *few, draws) == pytest.approx(task.divergence(*few).item(), rel=0.1)
    exact = kl_divergence(Categorical(logits=R), Categorical(logits=Z)).sum()
    assert task.divergence(Z, R).item() == pytest.approx(exact.item())


def test_bernoulli_is_the_mean_log_ratio_of_drawn_labels() -> None:
    torch.manual_seed(0)
    task, few = MultiLabel(), (Z[:2], R[:2])
    draws = Bernoulli(logits=few[1]).sample((4000,))
    assert _sampled(task, *few, draws) == pytest.approx(task.divergence(*few).item(), rel=0.1)
    exact = kl_divergence(Bernoulli(logits=R), Bernoulli(logits=Z)).sum()
    assert task.divergence(Z, R).item() == pytest.approx(exact.item())
    assert BinaryClassification().divergence(Z[:, :1], R[:, :1]).item() == pytest.approx(
        kl_divergence(Bernoulli(logits=R[:, 0]), Bernoulli(logits=Z[:, 0])).sum().item()
    )


@pytest.mark.parametrize("noise", [0.5, (0.5, 1.0, 2.0, 3.0)])
def test_gaussian_is_the_mean_log_ratio_of_drawn_targets(noise: float | tuple[float, ...]) -> None:
    torch.manual_seed(0)
    task, std = Regression(noise=noise), torch.as_tensor(noise, dtype=torch.float64)
    draws = Normal(R, std.expand_as(R)).sample((4000,))
    assert _sampled(task, Z, R, draws) == pytest.approx(task.divergence(Z, R).item(), rel=0.1)
    exact = kl_divergence(
        Independent(Normal(R, std.expand_as(R)), 2), Independent(Normal(Z, std.expand_as(Z)), 2)
    )
    assert task.divergence(Z, R).item() == pytest.approx(exact.item())


def test_a_learnt_noise_is_asked_for() -> None:
    learnt = {"log_noise": torch.tensor(math.log(2.0), dtype=torch.float64)}
    assert Regression().divergence(Z, R, **learnt).item() == pytest.approx(
        Regression(noise=2.0).divergence(Z, R).item()
    )
    with pytest.raises(InputError, match="log_noise is missing"):
        Regression().divergence(Z, R)


def test_tokens_and_pixels_that_are_no_terms_do_not_count() -> None:
    z, r = (torch.randn(2, 3, 5, generator=G) for _ in range(2))
    labels = torch.tensor([[0, 1, -100], [4, -100, -100]])
    for task in (SequenceLabelling(), LanguageModelling()):
        counted = task.counted(labels)
        one_by_one = sum(
            kl_divergence(Categorical(logits=r[n, t]), Categorical(logits=z[n, t])).item()
            for n, t in ((0, 0), (0, 1), (1, 0))
        )
        assert task.divergence(z, r, counted).item() == pytest.approx(one_by_one, rel=1e-5)
        assert task.predicted(z) == 6
    task, pixels = Segmentation(), labels.reshape(2, 3, 1)
    images = (x.transpose(1, 2).unsqueeze(-1) for x in (z, r))
    assert task.divergence(*images, task.counted(pixels)).item() == pytest.approx(one_by_one, rel=1e-5)
    assert task.predicted(z.transpose(1, 2).unsqueeze(-1)) == 6


@pytest.mark.parametrize("task", [Classification(), MultiLabel(), Regression(noise=1.0)])
def test_a_prediction_is_at_no_distance_from_itself_and_gradients_are_finite(task: Task) -> None:
    sure = (1e4 * Z).requires_grad_()
    assert task.divergence(sure, sure.detach()).item() == 0
    task.divergence(sure, 1e4 * R).backward()  # type: ignore[no-untyped-call]
    assert sure.grad is not None and bool(torch.isfinite(sure.grad).all())


def test_a_class_that_is_ruled_out_adds_nothing() -> None:
    out = torch.tensor([[0.0, 0.0, -math.inf]])
    assert L.categorical_kl(out, out).item() == 0


def test_cosine_distance_keeps_the_digits_of_small_angles() -> None:
    angle = 1e-4
    a = torch.tensor([[1.0, 0.0]])
    b = torch.tensor([[math.cos(angle), math.sin(angle)]])
    assert L.cosine_distance(2 * a, 5 * b).item() == pytest.approx(angle**2 / 2, rel=1e-3)
    assert L.cosine_distance(torch.zeros(1, 2), a).item() == 1
    assert L.cosine_distance(-a, a).item() == 2


def test_relative_squared_error_is_a_share_of_the_energy() -> None:
    assert L.relative_squared_error(1.1 * R, R).item() == pytest.approx(0.01 * len(R))
    assert L.relative_squared_error(torch.zeros_like(R), R).item() == pytest.approx(len(R))


def test_predictions_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be compared"):
        Classification().divergence(Z, R[:3])
    with pytest.raises(InputError, match="Cure: a task of"):
        PlainLoss(torch.nn.functional.mse_loss).divergence(Z, R)
