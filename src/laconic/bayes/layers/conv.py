"""Convolutions by local reparameterisation, with every option of the plain layers.

Each output has its exact distribution; outputs that share a weight are drawn as if they did not, the usual
approximation (Molchanov et al. 2017, section 4.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from laconic.bayes.layers.reparameterisation import draw_preactivation
from laconic.bayes.layers.two_paths import Convolution, draw, fits
from laconic.bayes.layers.variational import Variational
from laconic.bayes.posteriors.strides import laid_like

if TYPE_CHECKING:
    from torch.nn.modules.conv import _ConvNd as _Plain
else:
    _Plain = nn.Module


class _BayesConv(Variational, _Plain):
    r"""Output drawn from :math:`N(x * \theta + b,\; x^2 * \sigma^2)`, the padded input squared."""

    def forward(self, input: Tensor) -> Tensor:
        """Shapes as in the plain layer."""
        if not self.bayes_samples():
            return self._conv_forward(input, self.bayes_mean("weight"), self.bias)
        weight, weight_variance = self.bayes_moments("weight")
        spread = laid_like(weight_variance, weight)
        if fits(input, weight) and input.ndim == weight.ndim:
            x, padding = self._padded(input)
            convolution = Convolution(self.stride, padding, self.dilation, self.groups)
            return draw(convolution, x, (weight, spread), self.bias, self.bayes_generator(x))
        mean = self._conv_forward(input, weight, self.bias)
        variance = self._conv_forward(input.square(), spread, None)
        return draw_preactivation(mean, variance, self.bayes_generator(mean))

    def _padded(self, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The input and how many zeros a convolution has yet to pad it with."""
        if self.padding_mode == "zeros" and not isinstance(self.padding, str):
            return x, self.padding
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return F.pad(x, self._reversed_padding_repeated_twice, mode=mode), (0,) * len(self.kernel_size)


class BayesConv1d(_BayesConv, nn.Conv1d):
    """``nn.Conv1d`` with a posterior on its weight."""


class BayesConv2d(_BayesConv, nn.Conv2d):
    """``nn.Conv2d`` with a posterior on its weight."""


class BayesConv3d(_BayesConv, nn.Conv3d):
    """``nn.Conv3d`` with a posterior on its weight."""
