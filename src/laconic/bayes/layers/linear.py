"""Linear by local reparameterisation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from laconic.bayes.layers.reparameterisation import draw_preactivation
from laconic.bayes.layers.two_paths import Product, draw, fits
from laconic.bayes.layers.variational import Variational
from laconic.bayes.posteriors.strides import laid_like


class BayesLinear(Variational, nn.Linear):
    r"""``nn.Linear``, output drawn from :math:`N(x\theta^T + b,\; x^2(\sigma^2)^T)`; plain in eval mode."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not self.bayes_samples():
            return F.linear(input, self.bayes_mean("weight"), self.bias)
        weight, weight_variance = self.bayes_moments("weight")
        spread = laid_like(weight_variance, weight)
        if fits(input, weight):
            return draw(Product(), input, (weight, spread), self.bias, self.bayes_generator(input))
        mean = F.linear(input, weight, self.bias)
        variance = F.linear(input.square(), spread)
        return draw_preactivation(mean, variance, self.bayes_generator(mean))
