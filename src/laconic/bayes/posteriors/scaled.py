r"""A scale by unit times weights: the group posterior of Louizos, Ullrich & Welling 2017, section 3.

:math:`w_{ij} = z_i \tilde w_{ij}` with :math:`q(z)` over the units of one axis and :math:`q(\tilde w)` over
the weights, independent of each other. All weights of a unit share its scale, so they are not independent:
layers draw scale and weights once a pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from laconic.bayes.posteriors.gaussian import GaussianFamily
from laconic.bayes.posteriors.posterior import Family, Noise, Posterior
from laconic.errors import InputError

SCALE = "_scale"

_NODES = 32  # of the integral over a factor: exact where the other's density is a polynomial of degree 63


@dataclass(frozen=True, eq=False)
class Scaled(Posterior):
    r"""Weights times a scale for each position of one axis (Louizos, Ullrich & Welling 2017, section 3).

    Mean and variance are those of a product of independent factors:
    :math:`E[w] = E[z]E[\tilde w]`, :math:`Var[w] = Var[z]Var[\tilde w] + Var[z]E[\tilde w]^2 +
    E[z]^2 Var[\tilde w]`.

    Args:
        inner: The posterior of :math:`\tilde w`, shape of the weight.
        scale: The posterior of z: as many dimensions as the weight, length 1 along all but ``axis``.
        axis: The axis of the units that have a scale.

    >>> from laconic.bayes.posteriors import Gaussian
    >>> inner = Gaussian(torch.ones(2, 3), torch.zeros(2, 3))
    >>> q = Scaled(inner, Gaussian(torch.tensor([[2.0], [0.0]]), torch.zeros(2, 1)), axis=0)
    >>> [m[:, 0].tolist() for m in q.moments()]
    [[2.0, 0.0], [6.0, 2.0]]
    """

    independent = False

    inner: Posterior
    scale: Posterior
    axis: int = 0

    def parameters(self) -> dict[str, Tensor]:
        """Those of the weights; those of the scale are ``<weight>_scale`` and ``<weight>_scale_<field>``."""
        scale = {SCALE + suffix: tensor for suffix, tensor in self.scale.parameters().items()}
        return {**self.inner.parameters(), **scale}

    def with_parameters(self, given: Mapping[str, Tensor]) -> Scaled:
        """The same over other tensors."""
        inner = self.inner.with_parameters({s: given[s] for s in self.inner.parameters()})
        scale = self.scale.with_parameters({s: given[SCALE + s] for s in self.scale.parameters()})
        return Scaled(inner, scale, self.axis)

    def expectation(self) -> Tensor:
        r""":math:`E[z]E[\tilde w]`."""
        return self.scale.expectation() * self.inner.expectation()

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of the product."""
        (z, z_variance), (w, w_variance) = self.scale.moments(), self.inner.moments()
        variance = z_variance * (w_variance + w.square()) + z.square() * w_variance
        return z * w, variance

    def log_density(self, values: Tensor) -> Tensor:
        r"""Of a product of independent factors, by a Gauss-Hermite sum over the relatively narrower one.

        .. math:: q(w) = E_z\big[q_{\tilde w}(w/z)/|z|\big] = E_{\tilde w}\big[q_z(w/\tilde w)/|\tilde w|\big]

        The other factor's density is then smooth from node to node. Both need noise of one normal variable.
        It is neither normal nor largest at the mean: log-normal scales pull it towards zero.
        """
        over_scale = _relative(self.scale) <= _relative(self.inner)
        by_scale = _product(values, self.scale, self.inner)
        return torch.where(over_scale, by_scale, _product(values, self.inner, self.scale))

    def atoms(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Those at zero of either factor; a product of other atoms is not among them."""
        zero = torch.zeros_like(self.expectation())
        found = (*self.inner.atoms(), *self.scale.atoms())
        return tuple(
            (zero, torch.where(place + zero == 0, log_p + zero, -torch.inf)) for place, log_p in found
        )

    def rsample(self, noise: Noise) -> Tensor:
        """One draw of the scales times one draw of the weights; differentiable."""
        return self.scale.rsample(noise) * self.inner.rsample(noise)

    def spread(self) -> list[Tensor]:
        """Those of both; the scales' means learn as fast as the weights."""
        return [*self.inner.spread(), *self.scale.spread()]

    def hold(self, keep: Tensor) -> None:
        """Hold weights; the scales stay."""
        self.inner.hold(keep)


@dataclass(frozen=True)
class _Node(Noise):
    """The same number for every weight."""

    number: float

    def like(self, t: Tensor) -> Tensor:
        """That number in the shape of ``t``."""
        return torch.full_like(t, self.number)


def _relative(factor: Posterior) -> Tensor:
    """Standard deviation in means; infinite at a mean of zero."""
    mean, variance = factor.moments()
    return variance.sqrt() / mean.abs()


def _product(values: Tensor, known: Posterior, other: Posterior) -> Tensor:
    """Log density of ``known * other``: a sum over nodes of the first, the density of the second at each."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    total = None
    for node, share in zip(nodes.tolist(), (weights / weights.sum()).tolist(), strict=True):
        at = known.rsample(_Node(node)).double()
        there = at != 0
        safe = torch.where(there, at, 1.0)
        density = other.log_density(values.double() / safe) - safe.abs().log() + math.log(share)
        term = torch.where(there, density, -torch.inf)
        total = term if total is None else torch.logaddexp(total, term)
    return torch.as_tensor(total)


@dataclass(frozen=True)
class ScaledFamily:
    """A scale of mean 1 for each position of an axis, times weights around the present ones.

    Args:
        inner: The family of the weights.
        scale: The family of the scales.
        axis: 0 for output units, 1 for input units of most layers.

    >>> q = ScaledFamily(axis=1)("fc.weight", nn.Parameter(torch.ones(3, 2)))
    >>> {name: tuple(p.shape) for name, p in q.parameters().items()}
    {'': (3, 2), '_log_var': (3, 2), '_scale': (1, 2), '_scale_log_var': (1, 2)}
    """

    inner: Family = field(default_factory=GaussianFamily)
    scale: Family = field(default_factory=GaussianFamily)
    axis: int = 0

    def __call__(self, name: str, weight: nn.Parameter) -> Scaled:
        """The posterior of a weight; raises InputError where it has no such axis."""
        if not 0 <= self.axis < weight.ndim:
            raise InputError(
                f"axis {self.axis} of {name!r}, which has shape {tuple(weight.shape)}, is none of its axes. "
                f"Cure: axis=0, or keep=[{name!r}]"
            )
        shape = [n if axis == self.axis else 1 for axis, n in enumerate(weight.shape)]
        ones = nn.Parameter(torch.ones(shape, dtype=weight.dtype, device=weight.device))
        return Scaled(self.inner(name, weight), self.scale(name + SCALE, ones), self.axis)
