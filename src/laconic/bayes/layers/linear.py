"""Linear by local reparameterisation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from laconic.bayes.functional import draw_preactivation, variance_like
from laconic.bayes.layers.variational import Variational


class BayesLinear(Variational, nn.Linear):
    r"""``nn.Linear``, output drawn from :math:`N(x\theta^T + b,\; x^2(\sigma^2)^T)`; plain in eval mode."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not self.bayes_samples():
            return super().forward(input)
        mean = F.linear(input, self.weight, self.bias)
        variance = F.linear(input.square(), variance_like(self.bayes_log_var("weight")))
        return draw_preactivation(mean, variance, self.bayes_generator(mean))
