"""Averaged predictions against direct sums, closed forms and bounds."""

from __future__ import annotations

import math

import pytest
import torch

from laconic.bayes import predictive
from laconic.errors import InputError
from laconic.tasks import Bernoulli, Categorical, Gaussian
from laconic.tasks import Predictive as Target


def _outputs(*shape: int) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("axis", [1, 2])
def test_classes_agree_with_direct_sums_over_the_passes(axis: int) -> None:
    z = _outputs(7, 4, 5, 3)
    got = predictive(z, Categorical(axis=axis))
    p = z.softmax(axis + 1)
    mean = p.mean(0)
    h = torch.distributions.Categorical(probs=mean.movedim(axis, -1)).entropy()
    each = torch.distributions.Categorical(logits=z.movedim(axis + 1, -1)).entropy().mean(0)
    torch.testing.assert_close(got.mean, mean)
    torch.testing.assert_close(got.variance, p.var(0, correction=0))
    torch.testing.assert_close(got.entropy, h)
    torch.testing.assert_close(got.expected_entropy, each)
    # The mutual information is the mean divergence of the draws' predictions from their average.
    kl = (p * (p.log() - mean.log())).sum(axis + 1).mean(0)
    torch.testing.assert_close(got.mutual_information, kl)


def test_a_yes_or_no_target_is_two_classes() -> None:
    z = _outputs(6, 5)
    got = predictive(z, Bernoulli())
    two = predictive(torch.stack([z, torch.zeros_like(z)], 2), Categorical(axis=1))
    torch.testing.assert_close(got.mean, two.mean[:, 0])
    torch.testing.assert_close(got.mutual_information, two.mutual_information)


def test_a_temperature_divides_the_logits() -> None:
    z = _outputs(6, 5, 3)
    torch.testing.assert_close(
        predictive(z, Categorical(temperature=2.0, axis=1)).mean, predictive(z / 2, Categorical(axis=1)).mean
    )


def test_a_regression_adds_its_noise_to_the_spread() -> None:
    z = _outputs(9, 4, 2)
    got = predictive(z, Gaussian(noise=(0.5, 2.0)))
    spread = z.var(0, correction=0)
    torch.testing.assert_close(got.mean, z.mean(0))
    torch.testing.assert_close(got.variance, spread + torch.tensor([0.25, 4.0]).double())
    each = torch.distributions.Normal(0.0, torch.tensor([0.5, 2.0]).double()).entropy()
    torch.testing.assert_close(got.expected_entropy, each.expand(4, 2))
    gain = 0.5 * torch.log1p(spread / torch.tensor([0.25, 4.0]).double())  # a Gaussian channel's capacity
    torch.testing.assert_close(got.mutual_information, gain)


def test_certain_and_equal_predictions_have_no_uncertainty_of_the_weights() -> None:
    got = predictive(torch.tensor([[1e4, 0.0], [0.0, 0.0]]).expand(3, 2, 2), Categorical(axis=1))
    assert got.variance.abs().max() == 0 and got.mutual_information.tolist() == [0.0, 0.0]
    assert got.entropy.tolist() == pytest.approx([0.0, math.log(2)])


def test_spread_far_from_zero_keeps_its_digits() -> None:
    z = 1e4 + torch.tensor([0.0, 1.0]).repeat(50)[:, None, None]
    assert predictive(z, Gaussian(noise=1e-3)).variance.item() == pytest.approx(0.25, rel=1e-3)


class _Other(Target):
    def root(self, outputs: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        return directions


@pytest.mark.parametrize(
    ("passes", "target", "told"),
    [
        ([], Categorical(), "no pass"),
        ([torch.zeros(2, 3), torch.zeros(3, 3)], Categorical(), r"shapes \(2, 3\) and \(3, 3\)"),
        ([torch.zeros(2, 3)], _Other(), "_Other"),
    ],
)
def test_what_cannot_be_averaged_is_refused(passes: list[torch.Tensor], target: Target, told: str) -> None:
    with pytest.raises(InputError, match=told):
        predictive(passes, target)
