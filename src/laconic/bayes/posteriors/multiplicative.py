r"""Gaussian dropout as a posterior (Kingma, Salimans & Welling 2015, section 3).

:math:`q(w) = N(\theta, \alpha\theta^2)`: multiplicative noise :math:`w = \theta(1 + \sqrt\alpha\,\epsilon)`
whose rate :math:`\alpha` is learned, one for a whole tensor (a layer's dropout rate), one for each output
unit, or one for each weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from laconic.bayes.posteriors.gaussian import Gaussian
from laconic.bayes.posteriors.posterior import Noise, Posterior
from laconic.dropout_rate import EPSILON
from laconic.errors import InputError

Per = Literal["weight", "unit", "tensor"]


@dataclass(frozen=True, eq=False)
class Multiplicative(Posterior):
    r"""Independent normals :math:`q(w) = N(\theta, \alpha\theta^2)` (Kingma et al. 2015, section 3).

    Args:
        mean: :math:`\theta`, shape of the weight. A weight of zero has no noise.
        log_alpha: :math:`\log\alpha`, a shape that broadcasts to the mean's.

    Raises:
        InputError: The shape of ``log_alpha`` does not broadcast.

    >>> q = Multiplicative(torch.tensor([[2.0, 0.5]]), torch.tensor(0.0))
    >>> q.moments()[1].tolist()
    [[4.0, 0.25]]
    """

    mean: Tensor
    log_alpha: Tensor

    def __post_init__(self) -> None:
        sizes = zip(reversed(self.mean.shape), reversed(self.log_alpha.shape), strict=False)
        if self.log_alpha.ndim > self.mean.ndim or any(b not in (1, a) for a, b in sizes):
            raise InputError(
                f"log alpha of shape {tuple(self.log_alpha.shape)} does not broadcast to weights of shape "
                f"{tuple(self.mean.shape)}. Cure: log_alpha of the weights' shape, or a scalar"
            )

    def expectation(self) -> Tensor:
        r""":math:`\theta` itself."""
        return self.mean

    def moments(self) -> tuple[Tensor, Tensor]:
        r""":math:`\theta` and :math:`\alpha\theta^2`."""
        return self.mean, self.log_alpha.exp() * self.mean.square()

    def rsample(self, noise: Noise) -> Tensor:
        r""":math:`\theta(1 + \sqrt\alpha\,\epsilon)`; differentiable."""
        return self.mean * (1.0 + (0.5 * self.log_alpha).exp() * noise.like(self.mean))

    def hold(self, keep: Tensor) -> None:
        """Set the weights outside ``keep`` to zero, in place; their noise is zero with them."""
        with torch.no_grad():
            self.mean.mul_(keep)

    def as_gaussian(self) -> Gaussian:
        r"""The same with log variances by weight, :math:`\log\alpha + \log(\theta^2 + 10^{-8})`."""
        return Gaussian(self.mean, self.log_alpha + torch.log(self.mean.square() + EPSILON))


@dataclass(frozen=True)
class MultiplicativeFamily:
    r"""Multiplicative noise around each present weight.

    Args:
        init_log_alpha: :math:`\log\alpha` at the start, in [-60, 20].
        per: What shares a rate: ``tensor`` (all weights of a layer), ``unit`` (an output unit, position of
            axis 0) or ``weight`` (nothing).

    Raises:
        InputError: Another ``per``, or a log alpha outside that range.

    >>> MultiplicativeFamily(per="unit")("fc.weight", nn.Parameter(torch.ones(3, 2))).log_alpha.shape
    torch.Size([3, 1])
    """

    init_log_alpha: float = -4.0
    per: Per = "tensor"

    def __post_init__(self) -> None:
        if self.per not in get_args(Per) or not -60.0 <= self.init_log_alpha <= 20.0:
            raise InputError(
                f"need per in {', '.join(get_args(Per))} and init_log_alpha in [-60, 20], "
                f"got {self.per!r} and {self.init_log_alpha}"
                f". Cure: per='{get_args(Per)[-1]}', init_log_alpha=-8"
            )

    def __call__(self, name: str, weight: nn.Parameter) -> Multiplicative:
        """The posterior of a weight."""
        shape = {"weight": weight.shape, "unit": (len(weight), *(1,) * (weight.ndim - 1)), "tensor": ()}
        start = torch.full(shape[self.per], self.init_log_alpha, dtype=weight.dtype, device=weight.device)
        return Multiplicative(weight, nn.Parameter(start))
