"""The windowed KL of a whole tensor as one number; by weight only the two slopes are stored."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laconic.bayes.kl import native
from laconic.bayes.kl.spikes_sweep import Code, in_one_order


def windowed_total(mean: Tensor, log_var: Tensor, scale: Tensor, code: Code) -> Tensor:
    """Sum of the KL over all weights, differentiable in the three; where ``native.takes`` the first two."""
    return _Total.apply(mean, log_var, scale, code)  # type: ignore[no-any-return,no-untyped-call]


class _Total(torch.autograd.Function):
    """Value and all three gradients in one sweep; the first backward pass scales the slopes in place."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_var: Tensor, scale: Tensor, code: Code) -> Tensor:
        total, ctx.slopes = _swept(mean, log_var, scale, code)
        ctx.save_for_backward(mean, log_var, scale)
        ctx.code = code
        return mean.new_tensor(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:  # a second backward pass over a retained graph
            mean, log_var, scale = ctx.saved_tensors
            _, slopes = _swept(mean, log_var, scale, ctx.code)
        to_mean, to_log_var, to_scale = slopes
        return to_mean.mul_(grad), to_log_var.mul_(grad), grad * to_scale, None


def _swept(
    mean: Tensor, log_var: Tensor, scale: Tensor, code: Code
) -> tuple[float, tuple[Tensor, Tensor, float]]:
    """The sum and its slopes in mean, log variance and scale."""
    (flat_mean, flat_log_var), back = in_one_order(mean, log_var)
    out = (None, torch.empty_like(flat_mean), torch.empty_like(flat_mean))
    number = scale.item()
    total, along_mean, along_log_var = native.sweep(flat_mean, flat_log_var, number, code.table(), out)
    to_scale = -(along_mean + 2.0 * along_log_var) / number  # of KL(theta / s, log sigma^2 - 2 log s)
    return total, (back(out[1]), back(out[2]), to_scale)
