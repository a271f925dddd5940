r"""Minus the log of a mixture under Gaussian weights, with its slopes, in one pass over memory.

.. math:: M(\theta, \sigma) = -\log\left[e^{a_0 - F(\log\alpha)}/\sigma +
          \sum_j \exp\left(a_j - \tfrac12\lambda_j[(\theta - \mu_j)^2 + \sigma^2]\right)\right]

The first term, with Molchanov's F, is a log-uniform part, which may be absent. Without it, with
:math:`\sigma = 0` and :math:`a_j = \log\pi_j + \tfrac12\log(\lambda_j / 2\pi)`, M is :math:`-\log p(\theta)`
of a Gaussian mixture. With a weight's variance it is the part of the bound on a Gaussian's KL that couples
components (:mod:`laconic.bayes.kl.gaussian_gaussian_mixture`). With :math:`r_j` the terms of the sum over the
sum, and :math:`d_j = \theta - \mu_j`,

.. math:: \frac{dM}{d\theta} = \sum_j r_j\lambda_j d_j + r_0\frac{dF}{d\theta}, \quad
          \frac{dM}{d\log\sigma^2} = \tfrac12\sigma^2\sum_j r_j\lambda_j
          + r_0\left(\frac{dF}{d\log\sigma^2} + \tfrac12\right), \\
          \frac{dM}{da_j} = -r_j, \quad \frac{dM}{d\mu_j} = -r_j\lambda_j d_j, \quad
          \frac{dM}{d\lambda_j} = \tfrac12 r_j (d_j^2 + \sigma^2).

The cost is linear in weights and components, and nothing of the size weights times components is stored.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laconic.bayes.kl.sigmoid_fit import fit_and_slope
from laconic.bayes.kl.spikes_sweep import in_one_order
from laconic.dropout_rate import EPSILON

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


@dataclass(frozen=True, eq=False)
class Mixture:
    r"""What a weight is compared with.

    Args:
        logs: :math:`a_j`, shape (components,).
        means: :math:`\mu_j`, of the same shape.
        precisions: :math:`\lambda_j > 0`, of the same shape.
        broad: :math:`a_0` of the log-uniform part, a scalar; None: there is none.
    """

    logs: Tensor
    means: Tensor
    precisions: Tensor
    broad: Tensor | None = None

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """All four, in the order of the fields."""
        return self.logs, self.means, self.precisions, self.broad


@dataclass(frozen=True, eq=False)
class Swept:
    """Values and two slopes of the weights' shape, and by component the sums of r, r d and r (d^2 + v).

    ``sums`` has the shape (components, 3), or one row more for the log-uniform part, and is float64.
    """

    value: Tensor
    to_mean: Tensor
    to_log_var: Tensor
    sums: Tensor

    def by_component(self, mixture: Mixture) -> tuple[Tensor | None, ...]:
        """Derivatives by the mixture's four tensors."""
        rows = self.sums.to(mixture.logs)
        shares, first, second = rows[: len(mixture.logs)].unbind(1)
        broad = None if mixture.broad is None else -rows[-1, 0].reshape(mixture.broad.shape)
        return -shares, -mixture.precisions * first, 0.5 * second, broad


def mixture_by_weight(mean: Tensor, log_var: Tensor | None, mixture: Mixture) -> Tensor:
    r""":math:`M(\theta, \sigma)` of each weight, nats.

    Args:
        mean: :math:`\theta`, any shape.
        log_var: :math:`\log\sigma^2`, of the same shape; None: :math:`\sigma = 0`, for Gaussians alone.
        mixture: What the weights are compared with.

    Returns:
        Of the shape of ``mean``, differentiable once in all tensors.

    >>> one = Mixture(torch.zeros(1), torch.zeros(1), torch.ones(1))
    >>> round(mixture_by_weight(torch.tensor([0.5]), torch.tensor([0.0]), one).item(), 4)
    0.625
    """
    return _ByWeight.apply(mean, log_var, *mixture.tensors())  # type: ignore[no-any-return,no-untyped-call]


def mixture_total(mean: Tensor, log_var: Tensor | None, mixture: Mixture) -> Tensor:
    """The sum of :func:`mixture_by_weight` over all weights, in half the time."""
    return _Total.apply(mean, log_var, *mixture.tensors())  # type: ignore[no-any-return,no-untyped-call]


class _ByWeight(torch.autograd.Function):
    """Value and slopes in one sweep; the sums by component in another, weighted by the gradient."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_var: Tensor | None, *mixture: Any) -> Tensor:
        found = sweep(mean, log_var, None, Mixture(*mixture))
        ctx.save_for_backward(mean, log_var, *mixture, found.to_mean, found.to_log_var)
        return found.value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        mean, log_var, *tensors, to_mean, to_log_var = ctx.saved_tensors
        to_components: tuple[Tensor | None, ...] = (None,) * 4
        if any(ctx.needs_input_grad[2:]):
            mixture = Mixture(*tensors)
            to_components = sweep(mean, log_var, grad, mixture).by_component(mixture)
        return grad * to_mean, None if log_var is None else grad * to_log_var, *to_components


class _Total(torch.autograd.Function):
    """The sum and all slopes in one sweep; the first backward pass scales the slopes in place."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_var: Tensor | None, *mixture: Any) -> Tensor:
        ctx.found = found = sweep(mean, log_var, None, Mixture(*mixture))
        ctx.save_for_backward(mean, log_var, *mixture)
        return found.value.sum(dtype=torch.float64).to(mean)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        mean, log_var, *tensors = ctx.saved_tensors
        mixture = Mixture(*tensors)
        found, ctx.found = ctx.found, None
        if found is None:  # a second backward pass over a retained graph
            found = sweep(mean, log_var, None, mixture)
        to_components = (None if t is None else grad * t for t in found.by_component(mixture))
        to_log_var = None if log_var is None else found.to_log_var.mul_(grad)
        return found.to_mean.mul_(grad), to_log_var, *to_components


def sweep(mean: Tensor, log_var: Tensor | None, weight: Tensor | None, mixture: Mixture) -> Swept:
    """Values, slopes, and the sums by component weighted by ``weight`` (None: 1).

    float32 on a CPU is for the compiled sweep; anything else, or a package without it, for torch.

    Args:
        mean: Any shape.
        log_var: Of the same shape, or None for a variance of 0.
        weight: Of the same shape, or None.
        mixture: What the weights are compared with.
    """
    # The sweep reads flat arrays in the order of `mean` in memory; all others follow it.
    (flat, others), back = in_one_order(mean, mean if log_var is None else log_var)
    flat_log_var = None if log_var is None else others
    flat_weight = None if weight is None else in_one_order(mean, weight.expand_as(mean))[0][1]
    tensors = [t for t in (flat, flat_log_var, flat_weight) if t is not None]
    fits = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
    known = fits and len(mixture.logs) <= MOST_COMPONENTS and extension() is not None
    found = (compiled if known else by_pieces)(flat, flat_log_var, flat_weight, mixture)
    return Swept(back(found.value), back(found.to_mean), back(found.to_log_var), found.sums)


def compiled(
    mean: Tensor,
    log_var: Tensor | None,
    weight: Tensor | None,
    mixture: Mixture,
    variant: int | None = None,
) -> Swept:
    """The sweep of flat float32 tensors by ``mixture.c``.

    All code paths and numbers of threads give the same bits.
    """
    code = extension()
    if code is None:
        raise RuntimeError("the package was installed without its compiled sweep")  # see sweep()
    rows = (mixture.logs, mixture.means, mixture.precisions)
    logs, means, precisions = (t.detach().double().cpu().numpy() for t in rows)
    broad = mixture.broad
    table = np.concatenate([logs, -0.5 * precisions, means]).astype(np.float32)
    read = [None if t is None else t.detach().contiguous().numpy() for t in (mean, log_var, weight)]
    given = (*read, table, broad is not None, 0.0 if broad is None else broad.item())
    out = [torch.empty_like(mean) for _ in range(3)]
    written = [t.numpy() for t in out]
    chosen = len(code.variants()) - 1 if variant is None else variant
    starts = range(0, mean.numel(), PIECE)
    sums = np.zeros((len(starts), len(mixture.logs) + (broad is not None), 3))

    def work(index: int) -> None:
        start = starts[index]
        end = min(start + PIECE, mean.numel())
        code.sweep(*given, *written, sums[index], start, end, chosen)

    threads = min(torch.get_num_threads(), len(starts))
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(len(starts))))
    else:
        for index in range(len(starts)):
            work(index)
    return Swept(out[0], out[1], out[2], torch.from_numpy(sums.sum(0)))


def by_pieces(mean: Tensor, log_var: Tensor | None, weight: Tensor | None, mixture: Mixture) -> Swept:
    """The same by torch, for any type and device."""
    count = len(mixture.logs) + (mixture.broad is not None)
    sums = torch.zeros(count, 3, dtype=torch.float64, device=mean.device)
    out = [torch.empty_like(mean) for _ in range(3)]
    with torch.no_grad():
        for start in range(0, mean.numel(), PIECE):
            piece = slice(start, start + PIECE)
            parts = [None if t is None else t[piece] for t in (log_var, weight)]
            found = _piece(mean[piece], parts[0], parts[1], mixture)
            for whole, part in zip(out, (found.value, found.to_mean, found.to_log_var), strict=True):
                whole[piece] = part
            sums += found.sums
    return Swept(out[0], out[1], out[2], sums)


def _piece(mean: Tensor, log_var: Tensor | None, weight: Tensor | None, mixture: Mixture) -> Swept:
    """One piece of flat weights; arrays are (components, weights)."""
    logs, means, precisions = (
        t.detach().to(mean).unsqueeze(1) for t in mixture.tensors()[:3] if t is not None
    )
    offset = mean - means
    variance = torch.zeros_like(mean) if log_var is None else log_var.exp()
    square = offset.square() + variance
    exponent = logs - 0.5 * precisions * square
    slopes = []
    if mixture.broad is not None and log_var is not None:
        near = mean.square() + EPSILON
        value, slope = fit_and_slope(near, log_var, variance)
        own = mixture.broad.detach().to(mean) - value - 0.5 * log_var
        exponent = torch.cat([exponent, own.unsqueeze(0)])
        slopes = [-2.0 * slope * mean / near, slope + 0.5]
    top = torch.logsumexp(exponent, 0)
    shares = (exponent - top).exp_()
    share = shares[: len(logs)]
    pull = share * precisions
    to_mean, to_log_var = (pull * offset).sum(0), 0.5 * variance * pull.sum(0)
    if slopes:
        to_mean, to_log_var = to_mean + shares[-1] * slopes[0], to_log_var + shares[-1] * slopes[1]
    if weight is not None:
        shares = shares * weight
        share = shares[: len(logs)]
    sums = torch.zeros(len(shares), 3, dtype=torch.float64, device=mean.device)
    sums[:, 0] = shares.sum(1, dtype=torch.float64)
    sums[: len(logs), 1] = (share * offset).sum(1, dtype=torch.float64)
    sums[: len(logs), 2] = (share * square).sum(1, dtype=torch.float64)
    return Swept(-top, to_mean, to_log_var, sums)
