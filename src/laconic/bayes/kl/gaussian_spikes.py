r"""KL of a Gaussian posterior to VNQ's multi-spike-and-slab prior (Achterhold et al. 2018, eq. 16-17).

With F the log-uniform KL (sign of a KL, 0 at alpha = infinity) and windows
:math:`\Omega_k(\theta) = e^{-(\theta - c_k)^2 / 2\tau_k^2}`,

.. math:: KL \approx \sum_{k \ne 0} \Omega_k(\theta) F(\theta - c_k, \sigma)
          + \left(1 - \sum_{k \ne 0}\Omega_k(\theta)\right) F(\theta, \sigma),

where level 0 is zero itself. A codebook without zero has no level that could take the rest; there the windows
are normalised to :math:`\Omega_k / \sum_j \Omega_j`. A scale s enters as
:math:`KL(\theta/s, \sigma/s)` at scale 1.
Within 1.07 nats of Monte Carlo over the relevant range (the paper's figure), worst for small sigma. A prior
with ``exact=True`` takes the integral in its place (:mod:`laconic.bayes.kl.spikes_integral`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laconic.bayes.kl import native
from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.sigmoid_fit import fit
from laconic.bayes.kl.spikes_integral import integrated_kl
from laconic.bayes.kl.spikes_sweep import Code, in_one_order, sweep
from laconic.bayes.kl.total import windowed_total
from laconic.bayes.posteriors.gaussian import Gaussian
from laconic.bayes.priors.spikes import Spikes
from laconic.dropout_rate import log_alpha


def spikes_total(q: Gaussian, p: Spikes) -> Tensor:
    """The sum over all weights, in less memory and time."""
    learned = isinstance(p.levels, Tensor) and p.levels.requires_grad
    if p.exact or learned or not native.takes(q.mean, q.log_var):
        return gaussian_spikes(q, p).sum()
    return windowed_total(q.mean, q.log_var, _scale(q, p), _code(p))


@register_kl(Gaussian, Spikes, total=spikes_total)
def gaussian_spikes(q: Gaussian, p: Spikes) -> Tensor:
    """KL up to a constant, elementwise; differentiable in mean, log variance, scale and levels."""
    if p.exact:
        return integrated_kl(*_unscaled(q, p))
    if isinstance(p.levels, Tensor) and p.levels.requires_grad:
        return windowed(q, p)
    return _Windowed.apply(q.mean, q.log_var, _scale(q, p), _code(p))  # type: ignore[no-any-return,no-untyped-call]


def _scale(q: Gaussian, p: Spikes) -> Tensor:
    return q.mean.new_ones(()) if p.scale is None else p.scale


def _code(p: Spikes) -> Code:
    return Code(p.level_numbers(), p.window_widths(), p.base)


def _unscaled(q: Gaussian, p: Spikes) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and log variance in units of the codebook, and its levels."""
    mean, log_var = q.mean, q.log_var
    if p.scale is not None:
        mean, log_var = mean / p.scale, log_var - 2.0 * p.scale.log()
    levels = p.levels.to(mean) if isinstance(p.levels, Tensor) else mean.new_tensor(p.levels)
    return mean, log_var, levels


def windowed(q: Gaussian, p: Spikes) -> Tensor:
    """Eq. 16-17 as a plain expression: slower, in more memory, and differentiable in the levels too."""
    mean, log_var, levels = _unscaled(q, p)
    offsets = [mean - level for level in levels.unbind()]
    terms = torch.stack([fit(log_alpha(d.square(), log_var)) for d in offsets])
    exponents = torch.stack(
        [-0.5 * (d / w).square() for d, w in zip(offsets, p.window_widths(), strict=True)]
    )
    if p.base is None:
        return (torch.softmax(exponents, 0) * terms).sum(0)
    shares = exponents.exp()
    return terms[p.base] + (shares * (terms - terms[p.base])).sum(0)


class _Windowed(torch.autograd.Function):
    """Value and all three gradients in one sweep."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_var: Tensor, scale: Tensor, code: Code) -> Tensor:
        (flat_mean, flat_log_var), back = in_one_order(mean, log_var)
        out = sweep(flat_mean, flat_log_var, float(scale), code)
        value, to_mean, to_log_var = (back(t) for t in out)
        ctx.save_for_backward(mean, scale, to_mean, to_log_var)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        mean, scale, to_mean, to_log_var = ctx.saved_tensors
        along_mean, along_log_var = grad * to_mean, grad * to_log_var
        along_scale = None
        if ctx.needs_input_grad[2]:  # KL(theta / s, log sigma^2 - 2 log s)
            along_scale = -((along_mean * mean).sum() + 2.0 * along_log_var.sum()) / scale
        return along_mean, along_log_var, along_scale, None
