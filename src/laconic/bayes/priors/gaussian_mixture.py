r"""A mixture of Gaussians, learned or fixed (Nowlan & Hinton 1992; Ullrich, Meeds & Welling 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from laconic.bayes.priors.checks import WIDTHS, check_flags, check_tuples
from laconic.bayes.priors.density import DensityPrior
from laconic.errors import InputError

Numbers = tuple[float, ...] | Tensor

# A share that is learned may underflow; its logarithm must not become infinite.
LEAST_SHARE = 1e-30


@dataclass(frozen=True, eq=False)
class GaussianMixture(DensityPrior):
    r""":math:`p(w) = \sum_j \pi_j N(w|\mu_j, s_j^2)`: a proper prior (Ullrich et al. 2017, eq. 6).

    Any of the three may be a tensor that is computed from parameters, so that a method can learn it.

    Args:
        means: :math:`\mu_j`, in the weights' unit, shape (components,).
        stds: :math:`s_j > 0`, one a component.
        shares: :math:`\pi_j > 0`, one a component, adding up to 1; None: all equal.
        exact: Whether the KL of a Gaussian is integrated numerically. The closed form is an upper bound
            (:mod:`laconic.bayes.kl.gaussian_gaussian_mixture`). The integral takes some hundred times as
            long: it is meant for checks and small networks.

    Raises:
        InputError: No component, numbers that are not finite, a standard deviation or share that is not
            above 0, not one of each a component, or shares that do not add up to 1.

    >>> prior = GaussianMixture((0.0, 0.3), (0.02, 0.05), (0.9, 0.1))
    >>> round(prior.log_density(torch.tensor([0.3])).item(), 4)
    -0.2258
    """

    means: Numbers
    stds: Numbers
    shares: Numbers | None = None
    exact: bool = False

    def __post_init__(self) -> None:
        check_tuples(self, means="(0.0,)", stds="(0.1,)", shares="None")
        check_flags(self, "exact")
        means, stds, shares = (_numbers(v) for v in (self.means, self.stds, self.shares))
        if not means:
            raise InputError(
                "a mixture needs at least one component, got none. Cure: means=(0.0,), stds=(0.1,)"
            )
        if len(stds) != len(means) or (self.shares is not None and len(shares) != len(means)):
            raise InputError(
                f"a mixture of {len(means)} means has {len(stds)} stds and {len(shares)} shares. "
                "Cure: one of each for every component, or shares=None for equal ones"
            )
        if not all(math.isfinite(v) for v in means):
            raise InputError(f"the means of a mixture must be finite, got {means}. Cure: means=(0.0,)")
        wrong = next((j for j, s in enumerate(stds) if not 0 < s < math.inf), None)
        if wrong is None and not isinstance(self.stds, Tensor):
            wrong = next((j for j, s in enumerate(stds) if not WIDTHS[0] <= s <= WIDTHS[1]), None)
        if wrong is not None:
            raise InputError(
                f"stds[{wrong}] is {stds[wrong]}: the standard deviation of a component must be above 0. "
                "Cure: 0.02"
            )
        if any(not 0 <= s <= 1 + 1e-4 for s in shares) or (shares and abs(sum(shares) - 1) > 1e-3):
            raise InputError(
                f"shares must lie in [0, 1] and add up to 1, got {shares}. Cure: shares=None for equal ones"
            )

    @property
    def components(self) -> int:
        """Number of components."""
        return len(self.means)

    def terms(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r""":math:`\log(\pi_j / (s_j\sqrt{2\pi}))`, :math:`\mu_j` and :math:`1/s_j^2`, of ``like``'s type.

        All have the shape (components,), and are differentiable where the prior is learned.
        """
        means, stds = (_tensor(v, like) for v in (self.means, self.stds))
        logs = -stds.log() - 0.5 * math.log(2 * math.pi)
        if self.shares is None:
            logs = logs - math.log(self.components)
        else:
            logs = logs + _tensor(self.shares, like).clamp_min(LEAST_SHARE).log()
        return logs, means, stds.pow(-2)

    def log_density(self, weights: Tensor) -> Tensor:
        r""":math:`\log p(w)` by weight, nats; a plain expression, differentiable in all that is learned.

        Args:
            weights: Any shape.

        Returns:
            Of that shape.
        """
        logs, means, precisions = self.terms(weights)
        offsets = weights.unsqueeze(-1) - means
        return torch.logsumexp(logs - 0.5 * precisions * offsets.square(), -1)

    def sample(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Draws of the components, by their shares.

        Args:
            shape: Shape of what is returned.
            generator: The source of randomness.

        Returns:
            float32.
        """
        noise = torch.randn(tuple(shape), generator=generator, device=generator.device)
        means, stds = (_tensor(v, noise).detach() for v in (self.means, self.stds))
        shares = torch.ones_like(means) if self.shares is None else _tensor(self.shares, noise).detach()
        which = torch.multinomial(shares, noise.numel(), replacement=True, generator=generator)
        which = which.view(noise.shape)
        return means[which] + stds[which] * noise


def _numbers(values: Numbers | None) -> list[float]:
    if values is None:
        return []
    if isinstance(values, Tensor):
        return [float(v) for v in values.detach().reshape(-1).tolist()]
    return [float(v) for v in values]


def _tensor(values: Numbers, like: Tensor) -> Tensor:
    return values.to(like) if isinstance(values, Tensor) else like.new_tensor(values)
