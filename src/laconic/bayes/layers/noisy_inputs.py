"""Layers whose inputs are multiplied by noise: dropout as a posterior.

The weights that read an input share its factor (:class:`laconic.bayes.posteriors.InputNoise`), so the factor
multiplies the input. In training each example, and each place of a feature map, has a draw of its own, as in
dropout. Under :func:`laconic.bayes.sampling` a pass has one draw of the weights, that is one factor by input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.bayes.layers.conv_transpose import _BayesConvTranspose
from laconic.bayes.layers.variational import Variational
from laconic.bayes.posteriors.input_noise import InputNoise

if TYPE_CHECKING:
    from torch.nn.modules.conv import _ConvNd as _Conv

    _Plain = nn.Module
else:
    _Conv = _Plain = nn.Module


class NoisyInputs(Variational, _Plain):
    """Mixin: the input with noise, where the layer trains with it."""

    def bayes_noisy(self, input: Tensor, dim: int) -> Tensor:
        """The input, its channels along ``dim`` (from the end), times fresh factors."""
        if not self.bayes_samples():
            return input
        q = cast(InputNoise, self.bayes_posterior("weight"))
        return q.on(input, dim, self.bayes_noise(input.detach()))


class NoisyLinear(NoisyInputs, nn.Linear):
    """``nn.Linear`` of noisy inputs; plain in eval mode."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return F.linear(self.bayes_noisy(input, -1), self.bayes_mean("weight"), self.bias)


class _NoisyConv(NoisyInputs, _Conv):
    """A convolution of noisy inputs; the noise comes before the padding."""

    def forward(self, input: Tensor) -> Tensor:
        """Shapes as in the plain layer."""
        noisy = self.bayes_noisy(input, -1 - len(self.kernel_size))
        return self._conv_forward(noisy, self.bayes_mean("weight"), self.bias)


class NoisyConv1d(_NoisyConv, nn.Conv1d):
    """``nn.Conv1d`` of noisy inputs."""


class NoisyConv2d(_NoisyConv, nn.Conv2d):
    """``nn.Conv2d`` of noisy inputs."""


class NoisyConv3d(_NoisyConv, nn.Conv3d):
    """``nn.Conv3d`` of noisy inputs."""


class _NoisyConvTranspose(NoisyInputs, _BayesConvTranspose):
    """A transposed convolution of noisy inputs."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Shapes as in the plain layer."""
        noisy = self.bayes_noisy(input, -1 - len(self.kernel_size))
        return self._transposed(noisy, self.bayes_mean("weight"), self.bias, output_size)


class NoisyConvTranspose1d(_NoisyConvTranspose, nn.ConvTranspose1d):
    """``nn.ConvTranspose1d`` of noisy inputs."""


class NoisyConvTranspose2d(_NoisyConvTranspose, nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` of noisy inputs."""


class NoisyConvTranspose3d(_NoisyConvTranspose, nn.ConvTranspose3d):
    """``nn.ConvTranspose3d`` of noisy inputs."""


class NoisyEmbedding(NoisyInputs, nn.Embedding):
    """``nn.Embedding`` with one factor for each look-up; the row ``padding_idx`` has none."""

    def forward(self, input: Tensor) -> Tensor:
        """Indices of any shape -> (*shape, embedding_dim)."""
        rows = F.embedding(
            input,
            self.bayes_mean("weight"),
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )
        if not self.bayes_samples():
            return rows
        q = cast(InputNoise, self.bayes_posterior("weight"))
        noisy = q.on_rows(rows, input, self.bayes_noise(rows.detach()[..., :1]))
        if self.padding_idx is None:
            return noisy
        return torch.where((input == self.padding_idx).unsqueeze(-1), rows, noisy)
