r"""Sparse VD's Gaussian with ``train_clip``: what would be removed has no mean while it trains.

The forward pass sees :math:`\theta` only where :math:`\log\alpha < t`, and the noise :math:`\sigma`
everywhere, as the fully connected layers of Molchanov et al.'s released code do (its convolutions drop the
noise as well). So a network learns to do without what the threshold will remove. A weight comes back if the
likelihood makes its noise small again.

Source: Molchanov, Ashukha & Vetrov, Variational Dropout Sparsifies Deep Neural Networks, ICML 2017, and the
code released with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from laconic.bayes.posteriors.gaussian import Gaussian, GaussianFamily
from laconic.bayes.posteriors.posterior import Noise
from laconic.bayes.posteriors.strides import draw_weight


@dataclass(frozen=True, eq=False)
class ClippedGaussian(Gaussian):
    r"""Independent normals whose mean is zero where :math:`\log\alpha` is at least a threshold.

    Args:
        mean: :math:`\theta`, shape of the weight.
        log_var: :math:`\log\sigma^2`, of the same shape.
        threshold: log alpha from which a weight has no mean.

    >>> q = ClippedGaussian(torch.tensor([1.0, 0.01]), torch.tensor([-2.0, -2.0]))
    >>> q.expectation().tolist()
    [1.0, 0.0]
    """

    threshold: float = 3.0

    def with_parameters(self, given: Mapping[str, Tensor]) -> ClippedGaussian:
        """The same over other tensors."""
        return ClippedGaussian(given[""], given["_log_var"], self.threshold)

    def left(self) -> Tensor:
        """Booleans: where a weight has its mean."""
        return self.log_alpha().detach() < self.threshold

    def expectation(self) -> Tensor:
        r""":math:`\theta`, or zero."""
        return self.mean * self.left()

    def moments(self) -> tuple[Tensor, Tensor]:
        r""":math:`\theta` or zero, and :math:`\sigma^2`."""
        return self.expectation(), self.variance

    def rsample(self, noise: Noise) -> Tensor:
        """The expectation with fresh noise; differentiable."""
        return draw_weight(self.expectation(), self.log_var, noise.like(self.mean))

    def learning(self) -> Gaussian:
        """The Gaussian that the KL is taken of: what is clipped gets no gradient from it."""
        left = self.left()
        mean, log_var = (torch.where(left, t, t.detach()) for t in (self.mean, self.log_var))
        return Gaussian(mean, log_var)


@dataclass(frozen=True)
class ClippedFamily:
    r"""A clipped Gaussian around each present weight.

    Args:
        init_log_var: :math:`\log\sigma^2` at the start.
        threshold: log alpha from which a weight has no mean.

    >>> ClippedFamily(-8.0, 3.0)("fc.weight", nn.Parameter(torch.ones(2))).left().tolist()
    [True, True]
    """

    init_log_var: float = -8.0
    threshold: float = 3.0

    def __call__(self, name: str, weight: nn.Parameter) -> ClippedGaussian:
        """The posterior of a weight."""
        plain = GaussianFamily(self.init_log_var)(name, weight)
        return ClippedGaussian(plain.mean, plain.log_var, self.threshold)
