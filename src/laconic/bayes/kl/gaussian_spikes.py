r"""KL of a Gaussian posterior to VNQ's multi-spike-and-slab prior (Achterhold et al. 2018, eq. 16-17).

With F the log-uniform KL (sign of a KL, 0 at alpha = infinity) and windows
:math:`\Omega_k(\theta) = e^{-(\theta - c_k)^2 / 2\tau_k^2}`,

.. math:: KL \approx \sum_{k \ne 0} \Omega_k(\theta) F(\theta - c_k, \sigma)
          + \left(1 - \sum_{k \ne 0}\Omega_k(\theta)\right) F(\theta, \sigma),

where level 0 is zero itself. A codebook without zero has no level that could take the rest; there the windows
are normalised to :math:`\Omega_k / \sum_j \Omega_j`. A scale s enters as
:math:`KL(\theta/s, \sigma/s)` at scale 1.
Within 1.07 nats of Monte Carlo over the relevant range (the paper's figure), worst for small sigma.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.sigmoid_fit import fit, fit_and_slope
from laconic.bayes.posteriors.gaussian import EPSILON, Gaussian
from laconic.bayes.priors.spikes import Spikes

# Weights handled at a time: the temporaries of one piece stay in a core's cache.
PIECE = 1 << 15


@register_kl(Gaussian, Spikes)
def gaussian_spikes(q: Gaussian, p: Spikes) -> Tensor:
    """KL up to a constant, elementwise; differentiable in mean, log variance, scale and levels."""
    if isinstance(p.levels, Tensor) and p.levels.requires_grad:
        return windowed(q, p)
    scale = q.mean.new_ones(()) if p.scale is None else p.scale
    code = _Code(p.level_numbers(), p.window_widths(), p.base)
    return _Windowed.apply(q.mean, q.log_var, scale, code)  # type: ignore[no-any-return,no-untyped-call]


def windowed(q: Gaussian, p: Spikes) -> Tensor:
    """Eq. 16-17 as a plain expression: slower and hungrier, differentiable in the levels too."""
    mean, log_var = q.mean, q.log_var
    if p.scale is not None:
        mean, log_var = mean / p.scale, log_var - 2.0 * p.scale.log()
    levels = p.levels if isinstance(p.levels, Tensor) else mean.new_tensor(p.levels)
    offsets = [mean - level for level in levels.unbind()]
    terms = torch.stack([fit(log_var - torch.log(d.square() + EPSILON)) for d in offsets])
    exponents = torch.stack(
        [-0.5 * (d / w).square() for d, w in zip(offsets, p.window_widths(), strict=True)]
    )
    if p.base is None:
        return (torch.softmax(exponents, 0) * terms).sum(0)
    shares = exponents.exp()
    return terms[p.base] + (shares * (terms - terms[p.base])).sum(0)


@dataclass(frozen=True)
class _Code:
    levels: tuple[float, ...]
    widths: tuple[float, ...]
    base: int | None


class _Windowed(torch.autograd.Function):
    """Value and all three gradients in one sweep over cache-sized pieces."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_var: Tensor, scale: Tensor, code: _Code) -> Tensor:
        order = sorted(range(mean.ndim), key=mean.stride, reverse=True)
        flat_mean, flat_log_var = (t.permute(order).reshape(-1) for t in (mean, log_var))
        out = [torch.empty_like(flat_mean) for _ in range(3)]
        factor, shift = 1.0 / float(scale), 2.0 * float(scale.log())
        for start in range(0, flat_mean.numel(), PIECE):
            piece = slice(start, start + PIECE)
            _piece(flat_mean[piece] * factor, flat_log_var[piece] - shift, code, [t[piece] for t in out])
        back = sorted(range(mean.ndim), key=order.__getitem__)
        shape = [mean.shape[d] for d in order]
        value, to_mean, to_log_var = (t.view(shape).permute(back) for t in out)
        ctx.save_for_backward(mean, scale, to_mean, to_log_var)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        mean, scale, to_mean, to_log_var = ctx.saved_tensors
        along_mean, along_log_var = (grad * to_mean).div_(scale), grad * to_log_var
        along_scale = None
        if ctx.needs_input_grad[2]:  # KL(theta / s, log sigma^2 - 2 log s)
            along_scale = -((along_mean * mean).sum() + 2.0 * along_log_var.sum()) / scale
        return along_mean, along_log_var, along_scale, None


def _piece(mean: Tensor, log_var: Tensor, code: _Code, out: list[Tensor]) -> None:
    """Value, d/d mean and d/d log variance of one flat piece, in units of the codebook, into ``out``."""
    variance = log_var.exp()
    parts = [_spike(mean - level, log_var, variance) for level in code.levels]
    if code.base is None:
        shares, slopes = _normalised(mean, code)
        value, to_mean, to_log_var = (torch.zeros_like(mean) for _ in range(3))
        rest = None
    else:
        value, to_mean, to_log_var = (t.clone() for t in parts[code.base])
        shares, slopes = _windows(mean, code)
        rest = parts[code.base]
    for k, (part, share, slope) in enumerate(zip(parts, shares, slopes, strict=True)):
        if k == code.base:
            continue
        f, f_mean, f_log_var = part if rest is None else (a - b for a, b in zip(part, rest, strict=True))
        value.addcmul_(share, f)
        to_mean.addcmul_(share, f_mean).addcmul_(slope, f)
        to_log_var.addcmul_(share, f_log_var)
    for target, result in zip(out, (value, to_mean, to_log_var), strict=True):
        target.copy_(result)


def _spike(offset: Tensor, log_var: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """F, dF/d offset and dF/d log variance of one spike."""
    square = offset.square().add_(EPSILON)
    value, slope = fit_and_slope(square, log_var, variance)
    return value, (slope * offset).div_(square).mul_(-2.0), slope


def _windows(mean: Tensor, code: _Code) -> tuple[list[Tensor], list[Tensor]]:
    """Each window and its slope in the mean."""
    shares, slopes = [], []
    for level, width in zip(code.levels, code.widths, strict=True):
        pull = (mean - level).div_(-(width**2))
        share = (pull * (mean - level)).mul_(0.5).exp_()
        shares.append(share)
        slopes.append(pull.mul_(share))
    return shares, slopes


def _normalised(mean: Tensor, code: _Code) -> tuple[list[Tensor], list[Tensor]]:
    """The windows divided by their sum (a softmax, so that far from all levels the nearest one counts)."""
    offsets = torch.stack(
        [(mean - level) / width for level, width in zip(code.levels, code.widths, strict=True)]
    )
    shares = torch.softmax(-0.5 * offsets.square(), 0)
    pulls = torch.stack([-o / width for o, width in zip(offsets, code.widths, strict=True)])
    slopes = shares * (pulls - (shares * pulls).sum(0))
    return list(shares.unbind()), list(slopes.unbind())
