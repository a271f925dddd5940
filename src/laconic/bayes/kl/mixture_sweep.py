r"""Minus the log of a mixture of exponentials under Gaussian weights, with its slopes, in one pass over memory.

.. math:: M(\theta, v) = -\log\sum_j \exp\left(a_j - \tfrac12\lambda_j[(\theta - \mu_j)^2 + v]\right)

With :math:`v = 0` and :math:`a_j = \log\pi_j + \tfrac12\log(\lambda_j / 2\pi)` it is :math:`-\log p(\theta)` of a
Gaussian mixture; with a weight's variance v it is the part of the bound on a Gaussian's KL that couples
components (:mod:`laconic.bayes.kl.gaussian_gaussian_mixture`). With :math:`r_j \propto` the terms of the sum and
:math:`d_j = \theta - \mu_j`

.. math:: \frac{dM}{d\theta} = \sum_j r_j\lambda_j d_j, \quad \frac{dM}{dv} = \tfrac12\sum_j r_j\lambda_j, \quad
          \frac{dM}{da_j} = -r_j, \quad \frac{dM}{d\mu_j} = -r_j\lambda_j d_j, \quad
          \frac{dM}{d\lambda_j} = \tfrac12 r_j (d_j^2 + v).

The cost is linear in weights and components, and nothing of the size weights times components is stored.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laconic.bayes.kl.spikes_sweep import in_one_order

# Weights that are added up at a time: the sums depend on it, hence not on the number of threads.
PIECE = 1 << 14
MOST_COMPONENTS = 256  # of the compiled sweep


class Extension(Protocol):
    """What ``mixture.c`` offers."""

    def variants(self) -> list[str]:
        """Names of the code paths that this processor runs, the best last."""

    def sweep(self, *arguments: Any) -> float:
        """Fill a range of the values and slopes, add to the sums by component; the sum of the values."""


@functools.cache
def extension() -> Extension | None:
    """The compiled module, or None where the package was installed without a compiler."""
    try:
        from laconic.bayes.kl import _mixture  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _mixture  # type: ignore[no-any-return]


def mixture_by_weight(
    mean: Tensor, variance: Tensor | None, logs: Tensor, means: Tensor, precisions: Tensor
) -> Tensor:
    r""":math:`M(\theta, v)` of each weight, nats.

    Args:
        mean: :math:`\theta`, any shape.
        variance: v, of the same shape; None: 0.
        logs: :math:`a_j`, shape (components,).
        means: :math:`\mu_j`, of the same shape.
        precisions: :math:`\lambda_j > 0`, of the same shape.

    Returns:
        Of the shape of ``mean``, differentiable once in all five.

    >>> half = torch.tensor([0.5])
    >>> round(mixture_by_weight(half, half, torch.zeros(1), torch.zeros(1), torch.ones(1)).item(), 4)
    0.375
    """
    return _ByWeight.apply(mean, variance, logs, means, precisions)  # type: ignore[no-any-return,no-untyped-call]


def mixture_total(
    mean: Tensor, variance: Tensor | None, logs: Tensor, means: Tensor, precisions: Tensor
) -> Tensor:
    """The sum of :func:`mixture_by_weight` over all weights, in half the time."""
    return _Total.apply(mean, variance, logs, means, precisions)  # type: ignore[no-any-return,no-untyped-call]


class _ByWeight(torch.autograd.Function):
    """Value and slopes by weight in one sweep, the sums by component in another, weighted by the gradient."""

    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, variance: Tensor | None, logs: Tensor, means: Tensor, precisions: Tensor
    ) -> Tensor:
        value, slopes, _ = sweep(mean, variance, None, (logs, means, precisions))
        ctx.given = variance is not None
        ctx.save_for_backward(
            mean, *([variance] if variance is not None else []), logs, means, precisions, *slopes
        )
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = list(ctx.saved_tensors)
        mean, variance = saved.pop(0), saved.pop(0) if ctx.given else None
        mixture, slopes = (saved[0], saved[1], saved[2]), saved[3:]
        to_components: tuple[Tensor | None, ...] = (None, None, None)
        if any(ctx.needs_input_grad[2:]):
            _, _, sums = sweep(mean, variance, grad, mixture)
            to_components = _by_component(sums, mixture[2])
        return grad * slopes[0], grad * slopes[1] if ctx.given else None, *to_components


class _Total(torch.autograd.Function):
    """The sum and all slopes in one sweep; the first backward pass scales the slopes in place."""

    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, variance: Tensor | None, logs: Tensor, means: Tensor, precisions: Tensor
    ) -> Tensor:
        value, ctx.slopes, sums = sweep(mean, variance, None, (logs, means, precisions))
        ctx.given = variance is not None
        ctx.save_for_backward(mean, *([variance] if variance is not None else []), logs, means, precisions)
        ctx.sums = _by_component(sums, precisions)
        return value.sum(dtype=torch.float64).to(mean)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slopes, ctx.slopes = ctx.slopes, None
        if slopes is None:  # a second backward pass over a retained graph
            saved = list(ctx.saved_tensors)
            mean, variance = saved.pop(0), saved.pop(0) if ctx.given else None
            _, slopes, _ = sweep(mean, variance, None, (saved[0], saved[1], saved[2]))
        to_variance = slopes[1].mul_(grad) if ctx.given else None
        return slopes[0].mul_(grad), to_variance, *(grad * s for s in ctx.sums)


def _by_component(sums: Tensor, precisions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives by log weight, mean and precision from the sums of r, r d and r (d^2 + v)."""
    shares, first, second = sums.to(precisions).unbind(1)
    return -shares, -precisions * first, 0.5 * second


Mixture = tuple[Tensor, Tensor, Tensor]


def sweep(
    mean: Tensor, variance: Tensor | None, weight: Tensor | None, mixture: Mixture
) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Values, slopes in mean and variance, and the sums by component weighted by ``weight`` (None: 1).

    float32 on a CPU is for the compiled sweep; anything else, or a package without it, for torch.

    Args:
        mean: Any shape.
        variance: Of the same shape, or None.
        weight: Of the same shape, or None.
        mixture: Log weights, means and precisions.

    Returns:
        Values, two slopes of the weights' shape, and sums (components, 3) in float64.
    """
    # The sweep reads flat arrays in the order of `mean` in memory; all others follow it.
    (flat, others), back = in_one_order(mean, mean if variance is None else variance)
    flat_variance = None if variance is None else others
    flat_weight = None if weight is None else in_one_order(mean, weight.expand_as(mean))[0][1]
    tensors = [t for t in (flat, flat_variance, flat_weight) if t is not None]
    fits = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
    if fits and len(mixture[0]) <= MOST_COMPONENTS and extension() is not None:
        value, to_mean, to_variance, sums = compiled(flat, flat_variance, flat_weight, mixture)
    else:
        value, to_mean, to_variance, sums = by_pieces(flat, flat_variance, flat_weight, mixture)
    return back(value), (back(to_mean), back(to_variance)), sums


def compiled(
    mean: Tensor, variance: Tensor | None, weight: Tensor | None, mixture: Mixture, variant: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The sweep of flat float32 tensors by ``mixture.c``; all code paths and thread counts give the same bits."""
    code = extension()
    if code is None:
        raise RuntimeError("the package was installed without its compiled sweep")  # see sweep()
    logs, means, precisions = (t.detach().double().cpu().numpy() for t in mixture)
    table = np.concatenate([logs, -0.5 * precisions, means]).astype(np.float32)
    read = [None if t is None else t.detach().contiguous().numpy() for t in (mean, variance, weight)]
    out = [torch.empty_like(mean) for _ in range(3)]
    written = [t.numpy() for t in out]
    chosen = len(code.variants()) - 1 if variant is None else variant
    starts = range(0, mean.numel(), PIECE)
    sums = np.zeros((len(starts), len(logs), 3))

    def work(index: int) -> None:
        start = starts[index]
        end = min(start + PIECE, mean.numel())
        code.sweep(*read, table, *written, sums[index], start, end, chosen)

    threads = min(torch.get_num_threads(), len(starts))
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(len(starts))))
    else:
        for index in range(len(starts)):
            work(index)
    return out[0], out[1], out[2], torch.from_numpy(sums.sum(0))


def by_pieces(
    mean: Tensor, variance: Tensor | None, weight: Tensor | None, mixture: Mixture
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same by torch, for any type and device."""
    logs, means, precisions = (t.detach().to(mean).unsqueeze(1) for t in mixture)
    value, to_mean, to_variance = (torch.empty_like(mean) for _ in range(3))
    sums = torch.zeros(len(logs), 3, dtype=torch.float64, device=mean.device)
    with torch.no_grad():
        for start in range(0, mean.numel(), PIECE):
            piece = slice(start, start + PIECE)
            offset = mean[piece] - means
            square = offset.square() if variance is None else offset.square() + variance[piece]
            exponent = logs - 0.5 * precisions * square
            top = torch.logsumexp(exponent, 0)
            share = (exponent - top).exp_()
            pull = share * precisions
            value[piece] = -top
            to_mean[piece] = (pull * offset).sum(0)
            to_variance[piece] = 0.5 * pull.sum(0)
            if weight is not None:
                share = share * weight[piece]
            parts = (share, share * offset, share * square)
            sums += torch.stack([part.sum(1, dtype=torch.float64) for part in parts], 1)
    return value, to_mean, to_variance, sums
