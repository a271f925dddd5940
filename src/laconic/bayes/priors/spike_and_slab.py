r"""The spike-and-slab prior: weights that may go, and weights that matter (George & McCulloch 1993)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from laconic.bayes.priors.checks import check_flags, check_numbers
from laconic.bayes.priors.density import DensityPrior, checked_density, uniform
from laconic.bayes.priors.normal import Normal
from laconic.errors import InputError


@dataclass(frozen=True)
class SpikeAndSlab(DensityPrior):
    r""":math:`p(w) = \pi\,p_{spike}(w) + (1 - \pi)\,p_{slab}(w)` (George & McCulloch 1993, eq. 2).

    The spike is a narrow density, not a point mass: a Gaussian posterior puts no probability on a single
    value, so that a point mass at zero would change its KL by a constant alone. With Laplace densities for
    both it is the prior of the spike-and-slab lasso (Rockova & George 2018).

    Args:
        spike: The prior of weights that may go.
        slab: The prior of the others.
        spike_share: :math:`\pi`, in (0, 1).
        exact: Whether the KL of a Gaussian is integrated numerically. By default it is an upper bound
            (:mod:`laconic.bayes.kl.gaussian_spike_and_slab`), some hundred times as fast.

    Raises:
        InputError: A share outside (0, 1), or a part that is not a proper :class:`DensityPrior`.

    >>> prior = SpikeAndSlab(Normal(std=0.01), Normal(std=0.5), spike_share=0.8)
    >>> [round(v, 3) for v in prior.log_density(torch.tensor([0.0, 0.5])).tolist()]
    [3.468, -2.335]
    """

    spike: DensityPrior = field(default_factory=lambda: Normal(std=0.01))
    slab: DensityPrior = field(default_factory=lambda: Normal(std=0.3))
    spike_share: float = 0.9
    exact: bool = False

    def __post_init__(self) -> None:
        check_numbers(self, spike_share=0.9)
        check_flags(self, "exact")
        if not 0 < self.spike_share < 1:
            raise InputError(f"spike_share must lie between 0 and 1, got {self.spike_share}. Cure: 0.9")
        for name in ("spike", "slab"):
            part = getattr(self, name)
            if not isinstance(part, DensityPrior) or part.improper:
                raise InputError(
                    f"the {name} must be a proper prior with a log density, got {part!r}. "
                    f"Cure: {name}=Normal(std=0.01), Laplace(0.01) or StudentT(3.0, 0.01)"
                )

    def log_density(self, weights: Tensor) -> Tensor:
        r""":math:`\log p(w)` by weight, nats.

        Args:
            weights: Any shape.

        Returns:
            Of that shape.
        """
        spike, slab = self.log_shares
        parts = checked_density(self.spike, weights), checked_density(self.slab, weights)
        return torch.logaddexp(spike + parts[0], slab + parts[1])

    def sample(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Draws of the spike or the slab, by their shares.

        Args:
            shape: Shape of what is returned.
            generator: The source of randomness.

        Returns:
            float32.
        """
        of_spike = uniform(shape, generator) < self.spike_share
        return torch.where(of_spike, self.spike.sample(shape, generator), self.slab.sample(shape, generator))

    @property
    def log_shares(self) -> tuple[float, float]:
        r""":math:`\log\pi` and :math:`\log(1 - \pi)`."""
        return math.log(self.spike_share), math.log1p(-self.spike_share)
