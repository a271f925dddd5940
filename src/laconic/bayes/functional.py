r"""Local reparameterisation as functions (Kingma, Salimans & Welling 2015, section 2.2).

For a factorised Gaussian posterior over weights, the pre-activation of a linear map is Gaussian with
mean :math:`x\theta` and variance :math:`x^2\sigma^2`. Drawing it in place of the weights gives each example
noise of its own and a gradient variance that falls with the batch. The bias has no variance
and stays out of that path.

These tensors are a network's largest, and a step's time goes into moving them; hence the care for layout
and for fresh memory below.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laconic.bayes.posteriors.gaussian import EPSILON
from laconic.networks.noise import standard_normal_like

# Numbers handled at a time: their temporaries stay in a core's cache.
_PIECE = 1 << 16


def sample_preactivation(mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
    r""":math:`mean + \sqrt{\max(variance, 10^{-8})}\;noise`, all of one shape.

    The floor keeps the square root's slope finite where an input is all zero, and guards against rounding
    below zero in fast convolutions; the gradient passes it. ``noise`` gets none.

    >>> sample_preactivation(torch.ones(1), 4 * torch.ones(1), torch.ones(1)).item()
    3.0
    """
    return _Noisy.apply(mean, variance, noise)  # type: ignore[no-any-return,no-untyped-call]


def draw_preactivation(mean: Tensor, variance: Tensor, generator: torch.Generator) -> Tensor:
    """:func:`sample_preactivation` with fresh noise, written over both arguments: neither may be used again.

    Piece by piece, so that neither noise nor temporaries ever fill memory of their own.
    """
    theirs = mean._is_view() or variance._is_view() or (mean.is_leaf and mean.requires_grad)
    if theirs or mean.is_cuda or mean.stride() != variance.stride() or not _is_dense(mean):
        return sample_preactivation(mean, variance, standard_normal_like(mean, generator))
    return _NoisyInPlace.apply(mean, variance, generator)  # type: ignore[no-any-return,no-untyped-call]


def variance_like(log_var: Tensor) -> Tensor:
    """``exp(log_var)`` with the very same strides.

    ``exp`` rewrites the strides of dimensions of length 1, and a convolution that is handed such a weight
    takes another path, with another output layout, than for the mean.
    """
    variance = log_var.exp()
    return (
        variance
        if variance.stride() == log_var.stride()
        else variance.as_strided(log_var.shape, log_var.stride())
    )


def floor_of(dtype: torch.dtype) -> float:
    """The least variance of a pre-activation: 1e-8, and more in float16, where that would be zero."""
    return 2.0**-22 if dtype == torch.float16 else EPSILON


class _Noisy(torch.autograd.Function):
    """The formula as it stands; leaves noise / std behind for the way back."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor, noise: Tensor) -> Tensor:
        floored = variance.clamp(min=floor_of(variance.dtype))
        slope = floored.rsqrt().mul_(noise)
        ctx.save_for_backward(slope)
        return torch.addcmul(mean, floored, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad, (grad * slope).mul_(0.5), None


class _NoisyInPlace(torch.autograd.Function):
    """The same; the result stands in ``mean``'s memory and the slope in ``variance``'s."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor, generator: torch.Generator) -> Tensor:
        flat_mean, flat_variance = in_memory_order(mean), in_memory_order(variance)
        floor = floor_of(variance.dtype)
        for m, v in zip(torch.split(flat_mean, _PIECE), torch.split(flat_variance, _PIECE), strict=True):
            slope = v.clamp_(min=floor).rsqrt().mul_(standard_normal_like(v, generator))
            m.addcmul_(v, slope)
            torch.mul(slope, 0.5, out=v)
        ctx.mark_dirty(mean)
        ctx.slope = variance.detach()
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return grad, grad * ctx.slope, None


def in_memory_order(t: Tensor) -> Tensor:
    """A flat view of a dense tensor, in the order in which its numbers lie in memory."""
    return t.permute(sorted(range(t.ndim), key=t.stride, reverse=True)).reshape(-1)


def _is_dense(t: Tensor) -> bool:
    """Whether the tensor fills its stretch of memory without gaps, in any order of dimensions."""
    return t.permute(sorted(range(t.ndim), key=t.stride, reverse=True)).is_contiguous()
