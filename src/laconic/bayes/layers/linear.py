"""Linear by local reparameterisation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from laconic.bayes.functional import sample_preactivation
from laconic.bayes.layers.variational import Variational


class BayesLinear(Variational, nn.Linear):
    r"""``nn.Linear``, output drawn from :math:`N(x\theta^T + b,\; x^2(\sigma^2)^T)`; plain in eval mode."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not self.bayes_samples():
            return super().forward(input)
        mean = F.linear(input, self.weight, self.bias)
        variance = F.linear(input.square(), self.bayes_log_var("weight").exp())
        return sample_preactivation(mean, variance, self.bayes_noise(mean))
