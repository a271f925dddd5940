r"""KL of a Gaussian posterior to the log-uniform prior: two published fits, and the exact series.

All depend on :math:`\log\alpha = \log\sigma^2 - \log(\theta^2 + 10^{-8})` alone; fit and series go to 0 as
alpha grows, and the polynomial has their value as alpha goes to 0.

The exact value. With :math:`u = 1/(2\alpha)`, :math:`E\log w^2` under :math:`N(\theta, \sigma^2)` is that of
a non-central chi-square, so up to a constant

.. math:: KL = \tfrac12\left[\sum_k Poisson(k; u)\,\psi(k + \tfrac12) - \psi(\tfrac12)\right].

Its derivative in u sums to :math:`D(\sqrt u)/\sqrt u` with Dawson's function :math:`D`, hence
:math:`KL = 2\int_0^{\sqrt u} D(s)\,ds` and :math:`dKL/d\log\alpha = -\sqrt u\,D(\sqrt u)`. Rybicki's sum
(Press et al., Numerical Recipes, section 6.10) gives D with an error of :math:`e^{-(\pi/2h)^2}`;
integrated by term it is a sum of error functions. For large :math:`\sqrt u` an asymptotic series takes over.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laconic.bayes.kl import native
from laconic.bayes.kl.cubic_fit import cubic
from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.sigmoid_fit import fit_and_slope
from laconic.bayes.kl.spikes_sweep import Code
from laconic.bayes.kl.total import windowed_total
from laconic.bayes.posteriors.gaussian import Gaussian
from laconic.bayes.priors.log_uniform import LogUniform
from laconic.dropout_rate import EPSILON

# Rybicki's step, the distance at which its terms vanish, and where the asymptotic series takes over, by
# precision: errors of 7e-18 and 1e-11 for float64, 2e-7 and 3e-8 for float32.
_FINE = (0.25, 6.0, 6.0)
_COARSE = (0.4, 4.0, 4.0)
TERMS = 10
_ZERO = Code((0.0,), (1.0,), 0)


def log_uniform_total(q: Gaussian, p: LogUniform) -> Tensor:
    """The sum over all weights, in less memory and time: a spike at zero alone."""
    if p.exact or p.cubic or p.clamp is not None or not native.takes(q.mean, q.log_var):
        return gaussian_log_uniform(q, p).sum()
    return windowed_total(q.mean, q.log_var, q.mean.new_ones(()), _ZERO)


@register_kl(Gaussian, LogUniform, total=log_uniform_total)
def gaussian_log_uniform(q: Gaussian, p: LogUniform) -> Tensor:
    """KL up to a constant, elementwise, by the fit or exactly, as the prior says."""
    if p.exact or p.cubic or p.clamp is not None:
        return of_log_alpha(q.log_alpha(), p)
    return _Fit.apply(q.mean, q.log_var)  # type: ignore[no-any-return,no-untyped-call]


def of_log_alpha(log_alpha: Tensor, p: LogUniform) -> Tensor:
    """The KL of a weight as a function of its log dropout rate alone, elementwise."""
    if p.clamp is not None:
        log_alpha = log_alpha.clamp(*p.clamp)
    if p.cubic:
        return cubic(log_alpha)
    rule = _Exact if p.exact else _FitOfLogAlpha
    return rule.apply(log_alpha)  # type: ignore[no-any-return,no-untyped-call]


class _Fit(torch.autograd.Function):
    """The fit as a function of mean and log variance: value and slope in one pass."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, log_var: Tensor) -> Tensor:
        square = mean.square().add_(EPSILON)
        value, slope = fit_and_slope(square, log_var, log_var.exp())
        ctx.save_for_backward(mean, square, slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        mean, square, slope = ctx.saved_tensors
        to_log_var = grad * slope
        return (to_log_var * mean).div_(square).mul_(-2.0), to_log_var


class _FitOfLogAlpha(torch.autograd.Function):
    """The fit as a function of log alpha alone."""

    @staticmethod
    def forward(ctx: Any, log_alpha: Tensor) -> Tensor:
        value, slope = fit_and_slope(torch.ones_like(log_alpha), log_alpha, log_alpha.exp())
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return grad * slope  # type: ignore[no-any-return]


class _Exact(torch.autograd.Function):
    """The exact KL as a function of log alpha; its slope is Dawson's function."""

    @staticmethod
    def forward(ctx: Any, log_alpha: Tensor) -> Tensor:
        root = (-0.5 * log_alpha).exp().mul_(math.sqrt(0.5))
        value, dawson = twice_dawson_integral(root)
        ctx.save_for_backward(root.clamp_(max=1e12).mul_(dawson))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return -grad * slope  # type: ignore[no-any-return]


def twice_dawson_integral(x: Tensor) -> tuple[Tensor, Tensor]:
    r""":math:`2\int_0^x D(s)\,ds` and :math:`D(x)` for x >= 0, :math:`D(x) = e^{-x^2}\int_0^x e^{t^2}dt`.

    >>> value, dawson = twice_dawson_integral(torch.tensor([1.0], dtype=torch.float64))
    >>> round(value.item(), 6), round(dawson.item(), 6)
    (0.739442, 0.53808)
    """
    step, reach, far_from = _FINE if x.dtype == torch.float64 else _COARSE
    near = x.clamp(max=far_from)
    value, dawson = torch.zeros_like(x), torch.zeros_like(x)
    for n in range(1, int((far_from + reach) / step) + 1, 2):
        left, right = near - n * step, near + n * step
        value.add_(left.erf().sub_(right.erf()).add_(2.0 * math.erf(n * step)), alpha=1.0 / n)
        peak = left.square_().neg_().exp_().sub_(right.square_().neg_().exp_())
        dawson.add_(peak, alpha=1.0 / (n * math.sqrt(math.pi)))
    far = x > far_from
    if not bool(far.any()):
        return value, dawson
    far_value, far_dawson = _asymptotic(x.clamp(min=far_from))
    return torch.where(far, far_value, value), torch.where(far, far_dawson, dawson)


def _asymptotic(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""The same for large x.

    :math:`2\int_0^x D = \log x + \frac12(\gamma + 2\log 2) - \sum_m \frac{(2m-1)!!}{2m(2x^2)^m}` and
    :math:`D(x) = \frac1{2x}[1 + \sum_m \frac{(2m-1)!!}{(2x^2)^m}]`.
    """
    inverse = 0.5 / x.square()
    value = x.log() + 0.5 * (0.5772156649015329 + 2.0 * math.log(2.0))
    dawson = torch.ones_like(x)
    power, odd = torch.ones_like(x), 1.0
    for m in range(1, TERMS + 1):
        power = power * inverse
        odd *= 2 * m - 1
        value = value - power * (odd / (2 * m))
        dawson = dawson + power * odd
    return value, dawson / (2.0 * x)
