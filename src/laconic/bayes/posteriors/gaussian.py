r"""The fully factorised Gaussian posterior in additive form (Molchanov et al. 2017, section 4.2).

:math:`q(w) = N(\theta, \sigma^2)` by weight, :math:`\theta` and :math:`\log\sigma^2` are learned.
Against the multiplicative form :math:`N(\theta, \alpha\theta^2)` of Kingma et al. 2015 the gradient to
:math:`\theta` no longer carries the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from laconic.bayes.posteriors.posterior import Noise, Posterior
from laconic.bayes.posteriors.strides import draw_weight, variance_like
from laconic.dropout_rate import log_alpha
from laconic.errors import InputError

HELD_LOG_VAR = -20.0
"""Log variance of a weight that is held at zero."""


@dataclass(frozen=True, eq=False)
class Gaussian(Posterior):
    r"""Independent normals :math:`q(w) = N(\theta, \sigma^2)` (Molchanov et al. 2017, section 4.2).

    Args:
        mean: :math:`\theta`, shape of the weight.
        log_var: :math:`\log\sigma^2`, of the same shape.

    Raises:
        InputError: The shapes differ.

    >>> import torch
    >>> q = Gaussian(torch.tensor([0.5]), torch.tensor([-2.0]))
    >>> round(q.std.item(), 4), round(q.log_alpha().item(), 4)
    (0.3679, -0.6137)
    """

    mean: Tensor
    log_var: Tensor

    def __post_init__(self) -> None:
        if self.mean.shape != self.log_var.shape:
            raise InputError(
                f"a posterior's mean and log variance must have one shape, got {tuple(self.mean.shape)} and "
                f"{tuple(self.log_var.shape)}. Cure: log_var=torch.full_like(mean, -8)"
            )

    def parameters(self) -> dict[str, Tensor]:
        """The mean is the weight itself, the log variance stands beside it as ``<weight>_log_var``."""
        return {"": self.mean, "_log_var": self.log_var}

    def with_parameters(self, given: Mapping[str, Tensor]) -> Gaussian:
        """The same over other tensors."""
        return Gaussian(given[""], given["_log_var"])

    @property
    def variance(self) -> Tensor:
        r""":math:`\sigma^2`, with the strides of the log variance."""
        return variance_like(self.log_var)

    @property
    def std(self) -> Tensor:
        r""":math:`\sigma`."""
        return (0.5 * self.log_var).exp()

    def log_alpha(self) -> Tensor:
        r"""The log dropout rate :math:`\log\alpha = \log\sigma^2 - \log(\theta^2 + 10^{-8})`."""
        return log_alpha(self.mean.square(), self.log_var)

    def expectation(self) -> Tensor:
        """The mean itself."""
        return self.mean

    def moments(self) -> tuple[Tensor, Tensor]:
        r""":math:`\theta` and :math:`\sigma^2`."""
        return self.mean, self.variance

    def rsample(self, noise: Noise) -> Tensor:
        r""":math:`\theta + \sigma\epsilon` with fresh standard normal noise; differentiable."""
        return draw_weight(self.mean, self.log_var, noise.like(self.mean))

    def std_of(self, pick: Callable[[Tensor], Tensor]) -> Tensor:
        r""":math:`\sigma` of some weights; the exponential is taken of these alone."""
        return (0.5 * pick(self.log_var)).exp()

    def hold(self, keep: Tensor) -> None:
        """Set the weights outside ``keep`` to zero, in place, with a variance of :math:`e^{-20}`: next to no
        noise.
        """
        with torch.no_grad():
            self.mean.mul_(keep)
            self.log_var.masked_fill_(~keep, HELD_LOG_VAR)


@dataclass(frozen=True)
class GaussianFamily:
    r"""A Gaussian around each present weight w: mean w, one log variance for all at the start.

    Args:
        init_log_var: :math:`\log\sigma^2` at the start, in [-60, 20].

    Raises:
        InputError: A log variance outside that range.

    >>> q = GaussianFamily(-8.0)("fc.weight", nn.Parameter(torch.ones(2)))
    >>> q.mean.tolist(), q.log_var.tolist()
    ([1.0, 1.0], [-8.0, -8.0])
    """

    init_log_var: float = -8.0

    def __post_init__(self) -> None:
        if not -60.0 <= self.init_log_var <= 20.0:
            raise InputError(
                f"init_log_var is log sigma^2, usually -8, and must lie in [-60, 20]; got {self.init_log_var}"
                ". Cure: init_log_var=-8"
            )

    def __call__(self, name: str, weight: nn.Parameter) -> Gaussian:
        """The posterior of a weight."""
        return Gaussian(weight, nn.Parameter(torch.full_like(weight, self.init_log_var).detach()))
