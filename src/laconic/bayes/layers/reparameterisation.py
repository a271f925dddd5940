r"""Local reparameterisation as functions (Kingma, Salimans & Welling 2015, section 2.2).

For a factorised Gaussian posterior over weights, the pre-activation of a linear map is Gaussian with
mean :math:`x\theta` and variance :math:`x^2\sigma^2`. Drawing it in place of the weights gives each example
noise of its own and a gradient variance that falls with the batch. The bias has no variance
and stays out of that path.

These tensors are a network's largest, and moving them takes most of a step's time. So the functions keep the
memory layout and allocate as little as possible.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laconic.dropout_rate import EPSILON
from laconic.networks.noise import by_quantiles, quantiles, random_words, standard_normal_like

# Numbers handled at a time: their temporaries stay in a core's cache.
_PIECE = 1 << 17


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

    Computed piece by piece, so that noise and temporaries need little memory.
    """
    shared = mean._is_view() or variance._is_view() or (mean.is_leaf and mean.requires_grad)
    if shared or mean.is_cuda or mean.stride() != variance.stride() or not _is_dense(mean):
        return sample_preactivation(mean, variance, standard_normal_like(mean, generator))
    return _NoisyInPlace.apply(mean, variance, generator)  # type: ignore[no-any-return,no-untyped-call]


def draw_in_place(mean: Tensor, variance: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The draw and its slope, noise / (2 sqrt variance), outside autograd; may overwrite both arguments."""
    if mean.stride() == variance.stride() and _is_dense(mean):
        add_noise(in_memory_order(mean), in_memory_order(variance), generator)
        return mean, variance
    floored = variance.clamp(min=floor_of(variance.dtype))
    slope = floored.rsqrt().mul_(standard_normal_like(mean, generator))
    return torch.addcmul(mean, floored, slope), slope.mul_(0.5)


def keeps_graph() -> bool:
    """Whether the present backward pass may be followed by another one over the same graph."""
    known = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return True if known is None else bool(known())


def floor_of(dtype: torch.dtype) -> float:
    """The least variance of a pre-activation: 1e-8, and more in float16, where that would be zero."""
    return 2.0**-22 if dtype == torch.float16 else EPSILON


class _Noisy(torch.autograd.Function):
    """The formula as written; keeps noise / std for the backward pass."""

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
    """The same in place: the result overwrites ``mean`` and the slope ``variance``."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor, generator: torch.Generator) -> Tensor:
        add_noise(in_memory_order(mean), in_memory_order(variance), generator)
        ctx.mark_dirty(mean)
        ctx.slope = variance.detach()
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return grad, grad * ctx.slope if keeps_graph() else ctx.slope.mul_(grad), None


def add_noise(mean: Tensor, variance: Tensor, generator: torch.Generator) -> None:
    """Flat ``mean`` becomes the draw and flat ``variance`` its slope, noise / (2 sqrt variance).

    Compiled where it can be. One thread draws all random bits, so the numbers do not depend on how many there
    are.
    """
    pieces = list(zip(torch.split(mean, _PIECE), torch.split(variance, _PIECE), strict=True))
    threads = min(torch.get_num_threads(), len(pieces))
    if compiled() is None or mean.device.type != "cpu" or mean.dtype != torch.float32 or threads < 2:
        for m, v in pieces:
            _add_noise_to(m, v, generator)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(*_noise_call(m, v, generator)) for m, v in pieces]
        for done in waiting:
            done.result()


def _add_noise_to(mean: Tensor, variance: Tensor, generator: torch.Generator) -> None:
    """One piece."""
    floor = floor_of(variance.dtype)
    if compiled() is not None and by_quantiles(mean):
        call, *arguments = _noise_call(mean, variance, generator)
        call(*arguments)
        return
    slope = variance.clamp_(min=floor).rsqrt().mul_(standard_normal_like(variance, generator))
    mean.addcmul_(variance, slope)
    torch.mul(slope, 0.5, out=variance)


def _noise_call(mean: Tensor, variance: Tensor, generator: torch.Generator) -> tuple[Any, ...]:
    """The compiled function with its arguments for one piece; its random bits are drawn now."""
    if not by_quantiles(mean):
        return _add_noise_to, mean, variance, generator
    bits = random_words(mean.numel(), generator).numpy()
    arrays = (mean.detach().numpy(), variance.detach().numpy(), bits, quantiles().numpy())
    return compiled(), *arrays, floor_of(variance.dtype)


@functools.cache
def compiled() -> Callable[..., None] | None:
    """The function of ``noise.c``, or None where the package was installed without a compiler."""
    try:
        compiled_module = importlib.import_module("laconic.bayes._noise")
    except ImportError:
        return None
    return compiled_module.draw  # type: ignore[no-any-return]


def in_memory_order(t: Tensor) -> Tensor:
    """A flat view of a dense tensor, in the order in which its numbers lie in memory."""
    return t.permute(sorted(range(t.ndim), key=t.stride, reverse=True)).reshape(-1)


def _is_dense(t: Tensor) -> bool:
    """Whether the tensor is contiguous in memory in some order of its dimensions."""
    return t.permute(sorted(range(t.ndim), key=t.stride, reverse=True)).is_contiguous()
