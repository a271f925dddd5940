r"""A log-uniform part for weights that may go, and Gaussians for values that weights share.

The prior of Federici, Ullrich & Welling 2017 in our own derivation (their paper was not at hand): that of
soft weight-sharing with a log-uniform density, as in Sparse VD, in the place of the component at zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from laconic.bayes.priors.checks import check_kind, check_numbers
from laconic.bayes.priors.gaussian_mixture import GaussianMixture
from laconic.errors import InputError


@dataclass(frozen=True, eq=False)
class SparseMixture:
    r""":math:`p(w) = \frac{\pi_0}{2R|w|} + (1 - \pi_0)\sum_j \pi_j N(w|\mu_j, s_j^2)`.

    The first part is the log-uniform density over R nats of magnitudes, :math:`e^{-R} \le |w|/b \le 1`. Its
    ends are not looked at, so that the prior counts as improper; R decides how likely the part is beside
    the Gaussians.

    Args:
        values: The Gaussians; with ``exact`` the KL is integrated numerically.
        zero_share: :math:`\pi_0`, in (0, 1): a number, or a scalar tensor that may be learned.
        log_range: R, nats, above 0; 20 is that of Neklyudov et al. 2017.

    Raises:
        InputError: A share or range outside its bounds.

    >>> prior = SparseMixture(GaussianMixture((-0.3, 0.3), (0.02, 0.02)), zero_share=0.9)
    >>> [round(v, 3) for v in prior.log_density(torch.tensor([1e-4, 0.1, 0.3])).tolist()]
    [5.416, -1.492, 0.07]
    """

    improper: ClassVar[bool] = True
    values: GaussianMixture
    zero_share: float | Tensor = 0.9
    log_range: float = 20.0

    def __post_init__(self) -> None:
        example = "GaussianMixture((-0.3, 0.3), (0.02, 0.02))"
        check_kind(self, "values", GaussianMixture, "a GaussianMixture", example)
        if not isinstance(self.zero_share, Tensor):
            check_numbers(self, zero_share=0.9)
        check_numbers(self, log_range=20.0)
        share = self.zero_share.item() if isinstance(self.zero_share, Tensor) else float(self.zero_share)
        if not 0 < share < 1:
            raise InputError(f"zero_share must lie between 0 and 1, got {share}. Cure: 0.9")
        if not 0 < self.log_range < math.inf:
            raise InputError(f"log_range is in nats and must be above 0, got {self.log_range}. Cure: 20")

    @property
    def exact(self) -> bool:
        """Whether the KL is integrated numerically."""
        return self.values.exact

    def log_shares(self, like: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`\log\pi_0` and :math:`\log(1 - \pi_0)`, scalars of the type of ``like``."""
        share = self.zero_share
        share = share.to(like) if isinstance(share, Tensor) else like.new_tensor(share)
        return share.log(), torch.log1p(-share)

    def log_density(self, weights: Tensor) -> Tensor:
        """The logarithm of the density by weight, nats (infinite at zero); differentiable."""
        zero, values = self.log_shares(weights)
        broad = zero - weights.abs().log() - math.log(2 * self.log_range)
        return torch.logaddexp(broad, values + self.values.log_density(weights))
