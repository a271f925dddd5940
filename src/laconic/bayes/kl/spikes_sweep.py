r"""VNQ's windowed KL and its slopes, for many weights, in few passes over memory.

Logarithms and exponentials are in base 2, which are the fastest to compute. With
:math:`t = 1 - S(k_2 + k_3\log\alpha)`

.. math:: F = k_1 t + \tfrac12\log(\theta^2 + \sigma^2) - \tfrac12\log\sigma^2, \qquad
          -2\,\frac{dF}{d\log\alpha} = 2 k_1 k_3\, t(1 - t) + \frac{\theta^2}{\theta^2 + \sigma^2},

which saves, by level, the exponentials that :math:`\log(1 + 1/\alpha)` and its slope would cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laconic.bayes.kl import native
from laconic.bayes.kl.sigmoid_fit import K1, K2, K3
from laconic.dropout_rate import EPSILON

# Weights that NumPy handles at a time: the temporaries of one piece stay in a core's cache.
PIECE = 1 << 14
_NUMPY_TYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
_LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Code:
    """A codebook's levels, the widths of their windows, and which level is zero itself, if any."""

    levels: tuple[float, ...]
    widths: tuple[float, ...]
    zero: int | None

    def columns(self) -> tuple[list[float], list[float], list[float]]:
        r"""By level, the zero level first: :math:`c_k`, :math:`-1/\tau_k^2`, :math:`-\log_2(e)/2\tau_k^2`."""
        order = sorted(range(len(self.levels)), key=lambda k: k != self.zero)
        squares = [self.widths[k] ** 2 for k in order]
        return (
            [self.levels[k] for k in order],
            [-1.0 / w for w in squares],
            [-0.5 * _LOG2_E / w for w in squares],
        )

    def table(self) -> native.Table:
        """The codebook for the compiled sweep."""
        levels, pulls, _ = self.columns()
        return native.Table((*levels, *pulls), self.zero is not None)


def in_one_order(mean: Tensor, log_var: Tensor) -> tuple[tuple[Tensor, Tensor], Callable[[Tensor], Tensor]]:
    """Both as flat tensors in the order in which ``mean`` lies in memory, and the way back to its shape."""
    order = sorted(range(mean.ndim), key=mean.stride, reverse=True)
    inverse = sorted(range(mean.ndim), key=order.__getitem__)
    shape = [mean.shape[d] for d in order]
    flat_mean, flat_log_var = (t.permute(order).reshape(-1) for t in (mean, log_var))
    return (flat_mean, flat_log_var), lambda flat: flat.view(shape).permute(inverse)


def sweep(mean: Tensor, log_var: Tensor, scale: float, code: Code) -> tuple[Tensor, Tensor, Tensor]:
    """KL, d KL / d mean and d KL / d log variance of flat tensors.

    float32 on a CPU is for the compiled sweep. Without one the pieces are computed by NumPy, whose float32
    ``log2`` and ``exp2`` take a quarter of the time of torch's where there is AVX-512. A number depends on
    its own weight alone: neither on the pieces nor on the threads.
    """
    if not native.takes(mean, log_var):
        return sweep_by_pieces(mean, log_var, scale, code)
    value, to_mean, to_log_var = (torch.empty_like(mean) for _ in range(3))
    native.sweep(mean, log_var, scale, code.table(), (value, to_mean, to_log_var))
    return value, to_mean, to_log_var


def sweep_by_pieces(
    mean: Tensor, log_var: Tensor, scale: float, code: Code, *, numpy: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """The same by NumPy where it takes such tensors, else (and without ``numpy``) by torch."""
    out = [torch.empty_like(mean) for _ in range(3)]
    on_cpu = numpy and mean.device.type == "cpu" and mean.dtype in _NUMPY_TYPES
    count, size = mean.numel(), min(mean.numel(), PIECE) if on_cpu else mean.numel()
    columns: list[Any] = [mean.new_tensor(numbers).unsqueeze(1) for numbers in code.columns()]
    whole: list[Any] = [mean.detach(), log_var.detach(), *out]
    if on_cpu:
        columns, whole = [t.numpy() for t in columns], [t.numpy() for t in whole]

    def work(starts: range) -> None:
        rows = [mean.new_empty(len(code.levels), size) for _ in range(7)] + [mean.new_empty(size)]
        buffers: list[Any] = [t.numpy() for t in rows] if on_cpu else list(rows)
        with np.errstate(all="ignore"):  # the check of the training loss reports NaN weights
            for start in starts:
                end = min(start + size, count)
                piece = [a[start:end] for a in whole]
                own = [b[..., : end - start] for b in buffers]
                _piece(np if on_cpu else torch, piece, own, columns, scale, code.zero is not None)

    starts = range(0, count, max(size, 1))
    threads = min(torch.get_num_threads(), len(starts)) if on_cpu else 1
    if threads > 1:
        share = -(-len(starts) // threads)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, (starts[k : k + share] for k in range(0, len(starts), share))))
    else:
        work(starts)
    return out[0], out[1], out[2]


def _piece(
    lib: Any, piece: list[Any], buffers: list[Any], columns: list[Any], scale: float, zero: bool
) -> None:
    """One piece, by functions that NumPy and torch share; an array is (levels, weights), a row (weights)."""
    mean, log_var, value, to_mean, to_log_var = piece
    offset, square, total, fit, ratio, share, spare, row = buffers
    levels, pulls, exponents = columns

    lib.multiply(mean, 1.0 / scale, out=row)
    lib.subtract(row, levels, out=offset)
    lib.multiply(offset, offset, out=square)
    lib.multiply(square, exponents, out=share)
    lib.add(square, EPSILON, out=square)
    lib.multiply(log_var, _LOG2_E, out=row)
    lib.subtract(row, 2.0 * math.log2(scale), out=row)
    lib.exp2(row, out=value)
    lib.add(square, value, out=total)

    # t = 1 / (1 + 2^{k3 (log2 sigma^2 - log2 theta^2) + k2 log2 e})
    lib.multiply(row, K3, out=value)
    lib.add(value, K2 * _LOG2_E, out=value)
    lib.log2(square, out=fit)
    lib.multiply(fit, -K3, out=fit)
    lib.add(fit, value, out=fit)
    lib.exp2(fit, out=fit)
    lib.add(fit, 1.0, out=fit)
    lib.divide(1.0, fit, out=fit)

    # slope = -2 dF / d log alpha; along = dF / d theta; term = (F + 1/2 log sigma^2) / k1
    lib.divide(square, total, out=ratio)
    along = lib.divide(offset, square, out=square)
    term = lib.log2(total, out=total)
    lib.multiply(term, 0.5 / (_LOG2_E * K1), out=term)
    lib.add(term, fit, out=term)
    lib.multiply(fit, fit, out=spare)
    slope = lib.subtract(fit, spare, out=fit)
    lib.multiply(slope, 2.0 * K1 * K3, out=slope)
    lib.add(slope, ratio, out=slope)
    lib.multiply(along, slope, out=along)

    # pull = d share / d theta
    pull = lib.multiply(offset, pulls, out=offset)
    if zero:
        lib.exp2(share[1:], out=share[1:])
        lib.multiply(pull[1:], share[1:], out=pull[1:])
        for windows, rest, whole in ((share[1:], share[0], 1.0), (pull[1:], pull[0], 0.0)):
            lib.sum(windows, 0, out=rest)
            lib.subtract(whole, rest, out=rest)
    else:
        _normalise(lib, share, pull, spare, to_mean)

    lib.sum(lib.multiply(share, term, out=spare), 0, out=value)
    lib.multiply(value, K1, out=value)
    lib.multiply(row, 0.5 / _LOG2_E, out=row)
    lib.subtract(value, row, out=value)
    lib.multiply(along, share, out=along)
    lib.multiply(pull, term, out=pull)
    lib.multiply(pull, K1, out=pull)
    lib.sum(lib.add(along, pull, out=along), 0, out=to_mean)
    lib.multiply(to_mean, 1.0 / scale, out=to_mean)
    lib.sum(lib.multiply(slope, share, out=slope), 0, out=to_log_var)
    lib.multiply(to_log_var, -0.5, out=to_log_var)


def _normalise(lib: Any, share: Any, pull: Any, spare: Any, row: Any) -> None:
    """Exponents become the softmax over levels, and ``pull`` its slope."""
    lib.subtract(share, lib.amax(share, 0), out=share)
    lib.exp2(share, out=share)
    lib.sum(share, 0, out=row)
    lib.divide(share, row, out=share)
    lib.sum(lib.multiply(share, pull, out=spare), 0, out=row)
    lib.subtract(pull, row, out=pull)
    lib.multiply(pull, share, out=pull)
