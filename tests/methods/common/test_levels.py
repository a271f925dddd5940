"""The log-likelihood of levels for every family, against draws; which level that is the likeliest."""

import numpy as np
import pytest
import torch

from laconic.bayes import Gaussian, LogNormalPair, Multiplicative, NoiseSource, Scaled
from laconic.bayes.posteriors import Point, Posterior
from laconic.bayes.posteriors.hard_concrete import HardConcreteWeights
from laconic.methods.common.levels import level_likelihood, likeliest_levels
from laconic.quantize.codebook import nearest_level

DRAWS = 200_000


def gaussian(mean: float, log_var: float, count: int = 1) -> Gaussian:
    return Gaussian(torch.full((count,), mean), torch.full((count,), log_var))


def pair(mean: float, log_var: float, count: int = 1) -> LogNormalPair:
    return LogNormalPair(*(torch.full((count,), v) for v in (mean, log_var, mean, log_var)))


FAMILIES = {
    "gaussian": gaussian(0.4, -1.5),
    "multiplicative": Multiplicative(torch.tensor([-0.6]), torch.tensor(-0.5)),
    "log-normal pair": pair(-0.5, 0.0),
    "scaled, wide scale": Scaled(gaussian(0.5, -5.0), gaussian(0.7, -2.5)),
    "scaled, narrow scale": Scaled(gaussian(0.5, -3.0), gaussian(1.1, -8.0)),
    "scaled, log-normal": Scaled(gaussian(-0.6, -4.0), pair(0.0, -0.5)),
    "point": Point(torch.tensor([0.375])),
    "hard concrete": HardConcreteWeights(torch.tensor([0.875]), torch.tensor([0.3])),
    "hard concrete, mostly closed": HardConcreteWeights(torch.tensor([-0.875]), torch.tensor([-3.0])),
}


def repeated(value: object, count: int) -> object:
    """The same posterior of many weights."""
    if isinstance(value, Posterior):
        return type(value)(**{k: repeated(v, count) for k, v in vars(value).items()})
    return value.expand(count) if isinstance(value, torch.Tensor) and value.ndim else value


@pytest.mark.parametrize("name", FAMILIES)
def test_densities_and_atoms_are_those_of_draws(name: str) -> None:
    """Shares of draws in cells of the density, with the atoms' at their places; the whole is 1."""
    q, edges = FAMILIES[name], np.linspace(-2.5, 2.5, 126) + 0.0083
    draws = repeated(q, DRAWS).rsample(NoiseSource(1)).double().numpy()  # type: ignore[attr-defined]
    shares = np.histogram(draws, edges)[0] / DRAWS
    fine = torch.linspace(-12, 12, 48_001, dtype=torch.float64)
    density = q.log_density(fine).exp().numpy()
    cumulated = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))]) * 5e-4
    expected = np.diff(np.interp(edges, fine.numpy(), cumulated))
    total = cumulated[-1]
    for place, log_p in q.atoms():
        expected += np.histogram(place.numpy(), edges)[0] * float(log_p.exp())
        total += float(log_p.exp())
    assert total == pytest.approx(1.0, abs=0.004)
    assert np.all(np.abs(shares - expected) < 5 * np.sqrt(np.maximum(expected, 1e-5) / DRAWS) + 1e-3)


def test_an_atom_counts_at_its_nearest_level_over_the_smallest_gap() -> None:
    q, levels = HardConcreteWeights(torch.tensor([0.75]), torch.tensor([-1.0])), (-1.0, 0.125, 0.5, 1.0)
    of = level_likelihood(q, levels)
    (_, closed), (_, opened) = q.atoms()
    inner = [float(q.log_density(torch.tensor(v)).exp()) for v in levels]
    wanted = [
        inner[0],
        inner[1] + float(closed.exp()) / 0.375,
        inner[2] + float(opened.exp()) / 0.375,
        inner[3],
    ]
    with np.errstate(divide="ignore"):
        assert np.allclose([float(of(level)[0]) for level in levels], np.log(wanted))


def test_which_level_is_the_likeliest_depends_on_the_family() -> None:
    levels = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
    normal = gaussian(0.9, -1.0, 1)
    assert likeliest_levels(normal, levels).tolist() == nearest_level(normal.mean, levels).tolist() == [4]
    skewed = pair(-0.2, 0.0, 1)  # median 0.82, mean 1.05, mode 0.50
    assert nearest_level(skewed.expectation(), levels).tolist() == [4]
    assert likeliest_levels(skewed, levels).tolist() == [2]
    # the gate's mean is 0.21, its most probable value exactly zero
    gated = HardConcreteWeights(torch.tensor([1.0]), torch.tensor([-1.5]))
    assert nearest_level(gated.moments()[0], levels).tolist() == [1]
    assert likeliest_levels(gated, levels).tolist() == [0]
    scaled = Scaled(gaussian(1.0, -6.0, 1), pair(-0.2, 0.0, 1))
    assert nearest_level(scaled.expectation(), levels).tolist() == [4]
    assert likeliest_levels(scaled, levels).tolist() == [2]
    assert likeliest_levels(Point(torch.tensor([0.6])), levels).tolist() == [2]


def test_scales_of_zero_and_weights_of_zero_have_finite_answers() -> None:
    for q in (
        Multiplicative(torch.zeros(2), torch.tensor(0.0)),
        Scaled(gaussian(0.0, -4.0, 2), gaussian(0.0, -4.0, 2)),
        HardConcreteWeights(torch.zeros(2), torch.zeros(2)),
    ):
        assert likeliest_levels(q, (-0.5, 0.0, 0.5)).tolist() == [1, 1]
