from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from laconic.errors import InputError
from laconic.quantize.floor import floor_of, gaussian_powers, waterfilling_bits
from laconic.quantize.rate_model import rate_bits
from laconic.quantize.second_order import SecondOrder, quantize_matrix


@pytest.mark.parametrize(("variance", "distortion"), [(1.0, 0.3), (4.0, 0.01), (0.5, 0.5), (0.5, 2.0)])
def test_one_gaussian_is_the_textbook_formula(variance: float, distortion: float) -> None:
    expected = max(0.0, 0.5 * math.log2(variance / distortion))
    assert waterfilling_bits([variance], distortion) == pytest.approx(expected, abs=1e-12)


def test_by_hand_the_water_covers_the_small_powers_whole() -> None:
    """Powers 8, 2, 0.25 at distortion 1.25: level 0.5 on the first two, and the third is not sent."""
    assert waterfilling_bits([8.0, 0.25, 2.0], 1.25) == pytest.approx(0.5 * (4 + 2))


def test_no_division_of_the_distortion_needs_fewer_bits() -> None:
    generator = np.random.default_rng(0)
    powers = np.exp(generator.normal(0, 2, size=4))
    allowed = 0.3 * powers.sum()
    shares = generator.dirichlet(np.ones(4), size=200_000) * allowed
    shares = shares[(shares < powers).all(1)]  # an error above the power itself is no gain
    trials = (0.5 * np.log2(powers / shares)).sum(1)
    least = waterfilling_bits(powers, allowed)
    assert trials.min() >= least - 1e-9
    assert trials.min() == pytest.approx(least, abs=0.05)


def test_limits_of_the_distortion() -> None:
    assert waterfilling_bits([1.0, 2.0], 3.0) == 0.0
    assert waterfilling_bits([1.0, 2.0], 0.0) == math.inf
    assert waterfilling_bits([0.0, 0.0], 0.0) == 0.0
    for powers, distortion in (([-1.0], 1.0), ([1.0], -1.0), ([1.0], math.nan), ([math.nan], 1.0)):
        with pytest.raises(InputError, match="numbers >= 0"):
            waterfilling_bits(powers, distortion)


def test_powers_are_the_eigenvalues_of_the_weighed_covariance() -> None:
    """Against H^(1/2) Sigma H^(1/2) itself, with the square root by eigenvectors."""
    torch.manual_seed(0)
    x = torch.randn(50, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64)
    moment, weight = x.T @ x / 50, torch.randn(4, 3, dtype=torch.float64)
    precision = torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64)
    got = gaussian_powers(weight, moment, row_precision=precision)[0]
    values, vectors = torch.linalg.eigh(moment)
    root = vectors @ torch.diag(values.sqrt()) @ vectors.T
    square = weight.square()
    for r in range(4):
        sigma = torch.diag(square.mean(0) * square.mean(1)[r] / square.mean())
        expected = 0.5 * precision[r] * torch.linalg.eigvalsh(root @ sigma @ root)
        assert got[r] == pytest.approx(expected.numpy(), rel=1e-9)


def test_all_that_is_sent_is_the_distortion_of_sending_nothing() -> None:
    """The powers sum to half p E|w x|^2 for weights of independent columns."""
    weight = torch.tensor([[1.0, -1.0], [2.0, 2.0]])
    moment = torch.diag(torch.tensor([3.0, 5.0]))
    expected = 0.5 * float((weight.square() @ moment).sum())
    assert gaussian_powers(weight, moment).sum() == pytest.approx(expected)


def test_a_scalar_code_of_gaussian_weights_stays_above_the_floor_by_a_quarter_bit() -> None:
    """Uniform steps and entropy coding lose 0.2546 bits a weight at high rate (half of log2(pi e / 6))."""
    torch.manual_seed(1)
    weight = torch.randn(200, 20, dtype=torch.float64)
    moment = torch.eye(20, dtype=torch.float64)
    found = quantize_matrix(weight, moment, 0.0, SecondOrder(damping=0.0, descents=0), step=0.2)
    floor = floor_of(found, moment)
    assert floor.entropy == rate_bits(found.integers)
    assert 0.2 < (floor.entropy - floor.gaussian) / weight.numel() < 0.3


def test_a_bias_is_left_out() -> None:
    torch.manual_seed(2)
    x = torch.cat([torch.randn(40, 2) + 3.0, torch.ones(40, 1)], 1).double()
    moment = x.T @ x / 40
    centred = moment[:2, :2] - moment[:2, 2:] @ moment[2:, :2]
    weight = torch.randn(3, 2).double()
    assert gaussian_powers(weight, moment, bias=True) == pytest.approx(gaussian_powers(weight, centred))
