r"""Local reparameterisation as pure functions (Kingma, Salimans & Welling 2015, section 2.2).

For a factorised Gaussian posterior over weights, the pre-activation of a linear map is Gaussian with
mean :math:`x\theta` and variance :math:`x^2\sigma^2`. Drawing it in place of the weights gives each example
noise of its own and a gradient variance that falls with the batch. The bias has no variance
and stays out of that path.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laconic.bayes.posteriors.gaussian import EPSILON


def sample_preactivation(mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
    r""":math:`mean + \sqrt{\max(variance, 0) + 10^{-8}}\;noise`, all of one shape.

    The floor keeps the square root's slope finite where an input is all zero; the maximum guards against
    rounding below zero in fast convolutions. ``noise`` gets no gradient.

    >>> sample_preactivation(torch.ones(1), 4 * torch.ones(1), torch.ones(1)).item()
    3.0
    """
    return _Noisy.apply(mean, variance, noise)  # type: ignore[no-any-return,no-untyped-call]


class _Noisy(torch.autograd.Function):
    """One pass forward that also leaves d out / d variance = noise / (2 std) behind."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
        std = variance.clamp(min=0).add_(EPSILON).sqrt_()
        out = torch.addcmul(mean, std, noise)
        ctx.save_for_backward(std.reciprocal_().mul_(noise).mul_(0.5))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad, grad * slope, None


def standard_normal_like(t: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise with the shape, strides, type and device of ``t``.

    Drawn as one contiguous tensor in the order of memory and viewed in the order of dimensions: torch's
    ``normal_`` takes a serial path, eight times slower, on tensors laid out as channels-last. The numbers
    thus depend on the layout; the distribution does not.

    >>> image = torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)
    >>> standard_normal_like(image, torch.Generator().manual_seed(0)).stride() == image.stride()
    True
    """
    order = sorted(range(t.ndim), key=t.stride, reverse=True)
    shape = [t.shape[d] for d in order]
    drawn = torch.randn(shape, generator=generator, dtype=t.dtype, device=t.device)
    return drawn.permute(sorted(range(t.ndim), key=order.__getitem__))
