r"""Flipout (Wen, Vicol, Ba, Tran & Grosse 2018, arXiv 1803.04386): one draw of weights, its signs flipped.

With one draw :math:`\Delta` of the weights' deviations from their means, example n computes with

.. math:: W_n = \theta + \Delta \odot r_n s_n^T

for vectors of random signs by output and by input channel (eq. 4). Deviations that are independent and
symmetric stay so under flips, so that each :math:`W_n` has the posterior's distribution; and those of two
examples are uncorrelated, so that the noise of a batch's gradient falls with the number of sign vectors.

The paper flips activations, by signs for each example, at twice the multiplications of a plain layer. Here a
batch has :data:`PARTS` parts, the signs of a part are shared by its examples, and they flip the weights: the
multiplications are those of a plain layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from laconic.bayes.layers.conv import BayesConv1d, BayesConv2d, BayesConv3d
from laconic.bayes.layers.conv_transpose import (
    BayesConvTranspose1d,
    BayesConvTranspose2d,
    BayesConvTranspose3d,
)
from laconic.bayes.layers.linear import BayesLinear
from laconic.bayes.layers.variational import Variational
from laconic.bayes.posteriors.strides import laid_like

if TYPE_CHECKING:
    from laconic.bayes.layers.conv import _BayesConv as _Conv
    from laconic.bayes.layers.conv_transpose import _BayesConvTranspose as _ConvTranspose
else:
    _Conv = _ConvTranspose = Variational

PARTS = 2
"""Parts of a batch that have signs of their own; each costs a pass over the weights."""


Signs = tuple[Tensor, Tensor]


def flipped(mean: Tensor, std: Tensor, noise: Tensor, flips: Sequence[Signs]) -> tuple[Tensor, ...]:
    r"""The draw :math:`\theta + \sigma\epsilon`, and one more by each pair of signs r and s.

    Args:
        mean: :math:`\theta`.
        std: :math:`\sigma`, of the same shape.
        noise: :math:`\epsilon`, of the same shape; it gets no gradient.
        flips: Pairs that broadcast to the shape, as :func:`signs_of` gives them.

    >>> one, minus = torch.ones(1, 1), torch.tensor([[1.0, -1.0]])
    >>> draws = flipped(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2), [(one, minus)])
    >>> [w.tolist() for w in draws]
    [[[1.0, 1.0]], [[1.0, -1.0]]]
    """
    return _Flipped.apply(mean, std, noise, flips)  # type: ignore[no-any-return,no-untyped-call]


class _Flipped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, std: Tensor, noise: Tensor, flips: Sequence[Signs]
    ) -> tuple[Tensor, ...]:
        shift = std * noise
        ctx.save_for_backward(noise)
        ctx.flips = flips
        draws = (mean + shift, *(torch.addcmul(mean, shift * r, s) for r, s in flips))
        return tuple(laid_like(w, mean) for w in draws)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, first: Tensor, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (noise,) = ctx.saved_tensors
        by_mean, by_shift = first, first
        for grad, (r, s) in zip(grads, ctx.flips, strict=True):
            by_mean = by_mean + grad
            by_shift = torch.addcmul(by_shift, grad * r, s)
        return by_mean, by_shift * noise, None, None


def signs_of(like: Tensor, generator: torch.Generator) -> Signs:
    """Random signs by position of the first and of the second axis of a weight."""
    return _signs(like, 0, generator), _signs(like, 1, generator)


def _signs(like: Tensor, axis: int, generator: torch.Generator) -> Tensor:
    """Random signs along one axis, of length 1 along all others."""
    bits = torch.randint(2, (like.shape[axis],), generator=generator, device=like.device)
    shape = [n if k == axis else 1 for k, n in enumerate(like.shape)]
    return (2 * bits - 1).to(like.dtype).view(shape)


def in_parts(layer: Variational, x: Tensor, batched: bool, run: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A layer's output, each part of its batch computed with the weights of that part.

    Args:
        layer: A layer with a posterior on ``weight``.
        x: Its input; examples along axis 0.
        batched: Whether there is an axis of examples.
        run: The layer's output for an input and a weight.
    """
    mean, std = layer.bayes_mean("weight"), layer.bayes_std("weight", lambda t: t)
    generator = layer.bayes_generator(mean)
    count = min(PARTS, len(x)) if batched and len(x) > 1 else 1
    flips = [signs_of(mean, generator) for _ in range(count - 1)]
    draws = flipped(mean, std, layer.bayes_noise(mean), flips)
    if count == 1:
        return run(x, draws[0])
    parts = torch.split(x, -(-len(x) // count))
    return torch.cat([run(part, w) for part, w in zip(parts, draws, strict=False)])


class FlipoutLinear(BayesLinear):
    """``nn.Linear`` with a posterior on its weight, drawn by flipout."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not self.bayes_samples():
            return super().forward(input)
        return in_parts(self, input, input.ndim > 1, lambda x, w: F.linear(x, w, self.bias))


class _FlipoutConv(_Conv):
    def forward(self, input: Tensor) -> Tensor:
        """Shapes as in the plain layer."""
        if not self.bayes_samples():
            return super().forward(input)
        batched = input.ndim == self.weight.ndim
        return in_parts(self, input, batched, lambda x, w: self._conv_forward(x, w, self.bias))


class FlipoutConv1d(_FlipoutConv, BayesConv1d):
    """``nn.Conv1d`` with a posterior on its weight, drawn by flipout."""


class FlipoutConv2d(_FlipoutConv, BayesConv2d):
    """``nn.Conv2d`` with a posterior on its weight, drawn by flipout."""


class FlipoutConv3d(_FlipoutConv, BayesConv3d):
    """``nn.Conv3d`` with a posterior on its weight, drawn by flipout."""


class _FlipoutConvTranspose(_ConvTranspose):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Shapes as in the plain layer."""
        if not self.bayes_samples():
            return super().forward(input, output_size)
        batched = input.ndim == self.weight.ndim
        return in_parts(self, input, batched, lambda x, w: self._transposed(x, w, self.bias, output_size))


class FlipoutConvTranspose1d(_FlipoutConvTranspose, BayesConvTranspose1d):
    """``nn.ConvTranspose1d`` with a posterior on its weight, drawn by flipout."""


class FlipoutConvTranspose2d(_FlipoutConvTranspose, BayesConvTranspose2d):
    """``nn.ConvTranspose2d`` with a posterior on its weight, drawn by flipout."""


class FlipoutConvTranspose3d(_FlipoutConvTranspose, BayesConvTranspose3d):
    """``nn.ConvTranspose3d`` with a posterior on its weight, drawn by flipout."""
