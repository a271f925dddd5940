"""Variances and draws of whole weights that keep the weights' strides."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def variance_like(log_var: Tensor) -> Tensor:
    """``exp(log_var)`` with the very same strides (:func:`laid_like`)."""
    return laid_like(log_var.exp(), log_var)


def draw_weight(mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
    r"""A draw of whole weights, :math:`mean + e^{log\_var/2}\;noise`, with the strides of ``mean``.

    All are of one shape; ``noise`` gets no gradient.

    >>> draw_weight(torch.ones(1), torch.zeros(1), torch.ones(1)).item()
    2.0
    """
    return _DrawnWeight.apply(mean, log_var, noise)  # type: ignore[no-any-return,no-untyped-call]


def laid_like(t: Tensor, like: Tensor) -> Tensor:
    """``t`` with the strides of ``like`` where the two differ in dimensions of length 1 alone.

    Arithmetic rewrites the strides of such dimensions. A convolution that is handed a weight with other
    strides takes another path, with another output layout, and so do all layers after it.
    """
    triples = zip(t.shape, t.stride(), like.stride(), strict=True)
    if t.stride() == like.stride() or any(size != 1 and a != b for size, a, b in triples):
        return t
    return t.as_strided(like.shape, like.stride())


class _DrawnWeight(torch.autograd.Function):
    """The formula as written; keeps std * noise for the backward pass."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
        shift = (0.5 * log_var).exp_().mul_(noise)
        ctx.save_for_backward(shift)
        return laid_like(mean + shift, mean)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (shift,) = ctx.saved_tensors
        return grad, (grad * shift).mul_(0.5), None
