"""Transposed convolutions by local reparameterisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from laconic.bayes.layers.reparameterisation import draw_preactivation
from laconic.bayes.layers.two_paths import Convolution, draw, fits
from laconic.bayes.layers.variational import Variational
from laconic.bayes.posteriors.strides import laid_like

if TYPE_CHECKING:
    from torch.nn.modules.conv import _ConvTransposeNd as _Plain
else:
    _Plain = nn.Module

_OPERATIONS = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class _BayesConvTranspose(Variational, _Plain):
    r"""Output drawn from :math:`N(x *^T \theta + b,\; x^2 *^T \sigma^2)`."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Shapes as in the plain layer."""
        if not self.bayes_samples():
            return self._transposed(input, self.bayes_mean("weight"), self.bias, output_size)
        weight, weight_variance = self.bayes_moments("weight")
        spread = laid_like(weight_variance, weight)
        if fits(input, weight) and input.ndim == weight.ndim:
            return draw(
                self._map(input, output_size), input, (weight, spread), self.bias, self.bayes_generator(input)
            )
        mean = self._transposed(input, weight, self.bias, output_size)
        variance = self._transposed(input.square(), spread, None, output_size)
        return draw_preactivation(mean, variance, self.bayes_generator(mean))

    def _transposed(self, x: Tensor, weight: Tensor, bias: Tensor | None, output_size: Any) -> Tensor:
        operation: Any = _OPERATIONS[len(self.kernel_size)]
        return operation(  # type: ignore[no-any-return]
            *(x, weight, bias, self.stride, self.padding),
            *(self._extra(x, output_size), self.groups, self.dilation),
        )

    def _map(self, x: Tensor, output_size: Any) -> Convolution:
        padding: Any = self.padding
        extra = self._extra(x, output_size)
        return Convolution(self.stride, padding, self.dilation, self.groups, True, extra)

    def _extra(self, x: Tensor, output_size: Any) -> list[int]:
        """Positions that are added at the ends, so that the output has the wanted size."""
        sizes: list[Any] = [self.stride, self.padding, self.kernel_size]
        dims, dilation = len(self.kernel_size), cast(Any, self.dilation)
        return self._output_padding(x, output_size, sizes[0], sizes[1], sizes[2], dims, dilation)


class BayesConvTranspose1d(_BayesConvTranspose, nn.ConvTranspose1d):
    """``nn.ConvTranspose1d`` with a posterior on its weight."""


class BayesConvTranspose2d(_BayesConvTranspose, nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with a posterior on its weight."""


class BayesConvTranspose3d(_BayesConvTranspose, nn.ConvTranspose3d):
    """``nn.ConvTranspose3d`` with a posterior on its weight."""
