r"""A rule for :math:`KL(q\,\|\,p)` against Monte Carlo: draws of the posterior, and the log densities."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from laconic.bayes.kl import kl_divergence, kl_total
from laconic.bayes.layers import NoiseSource
from laconic.bayes.posteriors import Gaussian, Multiplicative, Point, Scaled
from laconic.bayes.priors import ScaleMixture
from laconic.errors import InputError
from laconic.testing.requirements import require

LogDensity = Callable[[Tensor], Tensor]
REPLICAS = 16
STANDARD_ERRORS = 6.0
"""With 15 degrees of freedom, Student's t is beyond it with probability 2.4e-5."""


def check_kl(
    q: Any,
    p: Any,
    log_prior: LogDensity,
    log_posterior: LogDensity | None = None,
    *,
    draws: int = 20_000,
    seed: int = 0,
) -> Tensor:
    r"""Try the rule registered for a posterior and a prior against Monte Carlo.

    .. math:: KL(q\,\|\,p) = E_{w \sim q}[\log q(w) - \log p(w)]

    Sixteen estimates of ``draws`` draws each give the expectation and its standard error; the rule must lie
    within six of them (and 1e-6 of its size, 1e-5 in float32). Of an improper prior the KL is known up to a
    constant: there the differences between the weights are compared (under a scale mixture, those between the
    weights and those between the scales, each where its prior is improper). The rule's sum over all weights
    must be ``kl_total``, and its gradient by each tensor field of a dataclass ``q`` that of finite
    differences.

    The draws of a normal distribution (Gaussian, Multiplicative) are stratified (one in each of as many parts
    of equal probability), which makes their error far smaller. Those of a Scaled are draws of its factors,
    which its KL is about: flat, the weights before the scales. A Point has one value, and a KL without its
    infinite entropy. Those of other posteriors are what ``q.rsample`` returns of a
    :class:`~laconic.bayes.layers.NoiseSource`.

    Args:
        q: A posterior of some weights, in float64 where the rule is to be tried to more than five digits;
            means and variances that differ, zero among the means (but not of a Multiplicative, whose noise
            is zero there).
        p: The prior.
        log_prior: Log density of the prior in nats, of weights (draws, \*shape of the weights) and of the
            shape (draws, \*shape of the KL); up to a constant where it is improper. Written from its
            definition, not from the rule.
        log_posterior: The same of the posterior; None for a Gaussian, a Multiplicative, a Point, and a
            Scaled of these, whose densities are known.
        draws: Draws of an estimate.
        seed: Seed of the draws.

    Returns:
        The estimate, of the shape of the KL.

    Raises:
        AssertionError: The rule is wrong; the message says for which weight, and by how much.
        InputError: A posterior without a density, or a single weight under an improper prior.
        NoKLRuleError: There is no rule for the two.

    >>> from laconic.bayes.priors import Normal
    >>> q = Gaussian(torch.tensor([0.0, 0.7]).double(), torch.tensor([-2.0, 0.5]).double())
    >>> normal = torch.distributions.Normal(0.0, 0.5)
    >>> [round(v, 3) for v in check_kl(q, Normal(std=0.5), normal.log_prob).tolist()]
    [0.078, 2.834]
    """
    noise = NoiseSource(seed)
    rule = kl_divergence(q, p).detach()
    require(bool(torch.isfinite(rule).all()), f"the KL is finite (got {rule.tolist()})")
    with torch.no_grad():
        estimates = torch.stack(
            [_estimate(q, log_prior, log_posterior, draws, noise) for _ in range(REPLICAS)]
        )
    require(
        estimates[0].shape == rule.shape,
        f"the KL has the shape of the log densities, {tuple(estimates[0].shape)} (got {tuple(rule.shape)})",
    )
    rule, estimates = _differences(rule.unsqueeze(0), q, p)[0], _differences(estimates, q, p)
    _compare(rule, estimates)
    _check_total(q, p)
    _check_gradient(q, p)
    return estimates.mean(0)


def _estimate(
    q: Any, log_prior: LogDensity, log_posterior: LogDensity | None, draws: int, noise: NoiseSource
) -> Tensor:
    """One Monte Carlo estimate of the KL, of its shape."""
    weights, own = _drawn(q, draws, noise)
    own = log_posterior or own
    if own is None:
        raise InputError(
            f"{type(q).__name__} has no known density. Cure: log_posterior, a function of weights"
        )
    return (own(weights) - log_prior(weights)).mean(0)


def _drawn(q: Any, draws: int, noise: NoiseSource) -> tuple[Tensor, LogDensity | None]:
    """Draws (draws, *shape of the KL) of what the KL is about, and its log density, if that is known."""
    if isinstance(q, Multiplicative):
        q = q.as_gaussian()
    if isinstance(q, Point):  # its KL leaves out the infinite entropy
        return q.mean.detach().double().unsqueeze(0), torch.zeros_like
    if isinstance(q, Gaussian):
        return _stratified(q, draws, noise.generator()), _gaussian(q)
    if isinstance(q, Scaled):
        (inner, of_inner), (scale, of_scale) = (_drawn(f, draws, noise) for f in (q.inner, q.scale))
        known = None if of_inner is None or of_scale is None else _jointly(inner, of_inner, scale, of_scale)
        return torch.cat([inner.flatten(1), scale.flatten(1)], 1), known
    return torch.stack([q.rsample(noise) for _ in range(draws)]), None


def _jointly(inner: Tensor, of_inner: LogDensity, scale: Tensor, of_scale: LogDensity) -> LogDensity:
    """The log density of two independent factors, part by part, of draws that are flat."""

    def log_density(factors: Tensor) -> Tensor:
        count = inner[0].numel()
        first, second = factors[:, :count].reshape(inner.shape), factors[:, count:].reshape(scale.shape)
        return torch.cat([of_inner(first).flatten(1), of_scale(second).flatten(1)], 1)

    return log_density


def _stratified(q: Gaussian, draws: int, generator: torch.Generator) -> Tensor:
    """Draws (draws, *shape) with one in each stratum of probability 1 / draws."""
    mean, std = q.mean.detach().double(), q.std.detach().double()
    shape = (draws, *mean.shape)
    strata = torch.arange(draws, dtype=torch.float64).reshape(-1, *(1 for _ in mean.shape))
    uniform = (strata + torch.rand(shape, dtype=torch.float64, generator=generator)) / draws
    tiny = torch.finfo(torch.float64).eps
    noise: Tensor = torch.special.ndtri(uniform.clamp(tiny, 1 - tiny))
    return mean + std * noise


def _gaussian(q: Gaussian) -> LogDensity:
    mean, log_var = q.mean.detach().double(), q.log_var.detach().double()

    def log_density(weights: Tensor) -> Tensor:
        squares: Tensor = (weights - mean).square() / log_var.exp()
        found: Tensor = -0.5 * (math.log(2 * math.pi) + log_var + squares)
        return found

    return log_density


def _differences(values: Tensor, q: Any, p: Any) -> Tensor:
    """KLs (estimates, *shape) less that of the first weight, under each prior that is improper."""
    factors = [(q.inner, p.weights), (q.scale, p.scale)] if isinstance(p, ScaleMixture) else [(q, p)]
    flat, done, start = values.flatten(1), [], 0
    for factor, prior in factors:
        count = kl_divergence(factor, prior).numel()
        part = flat[:, start : start + count]
        if getattr(prior, "improper", False):
            if count < 2:
                raise InputError(
                    f"under an improper prior only differences can be tried, got {count} weight. Cure: two "
                    "weights or more"
                )
            part = part - part[:, :1]
        done.append(part)
        start += count
    return torch.cat(done, 1).view_as(values)


def _compare(rule: Tensor, estimates: Tensor) -> None:
    """The rule lies within the estimates' error, for every weight."""
    mean = estimates.mean(0)
    error = estimates.std(0) / math.sqrt(REPLICAS)
    floor = 1e-5 if rule.dtype is torch.float32 else 1e-6
    allowed = STANDARD_ERRORS * error + floor * (1 + mean.abs())
    gap = (rule.to(mean.dtype) - mean).abs()
    worst = int((gap - allowed).argmax())
    told = (
        f"the KL of weight {worst} is {float(rule.flatten()[worst]):.6g} by the rule, "
        f"{float(mean.flatten()[worst]):.6g} by Monte Carlo "
        f"(standard error {float(error.flatten()[worst]):.1g})"
    )
    require((gap <= allowed).all(), f"the rule agrees with Monte Carlo: {told}")


def _check_total(q: Any, p: Any) -> None:
    whole, total = kl_divergence(q, p).detach().sum(), kl_total(q, p).detach()
    require(total.ndim == 0, f"kl_total is one number (got shape {tuple(total.shape)})")
    same = math.isclose(float(total), float(whole), rel_tol=1e-5, abs_tol=1e-6)
    require(same, f"kl_total is the sum over the weights ({float(total)} and {float(whole)})")


def _check_gradient(q: Any, p: Any) -> None:
    """The gradient by each tensor of a posterior is that of central differences in float64."""
    tensors, rebuilt = _tensors_of(q)
    if not tensors:
        return

    def total(values: dict[str, Tensor]) -> Tensor:
        return kl_divergence(rebuilt(values), p).sum()

    exact = {name: value.detach().double().contiguous() for name, value in tensors.items()}
    leaves = {name: value.clone().requires_grad_() for name, value in exact.items()}
    found = torch.autograd.grad(total(leaves), list(leaves.values()), allow_unused=True)
    step = 1e-5
    for (name, value), gradient in zip(exact.items(), found, strict=True):
        slopes = torch.zeros_like(value)
        for place in range(value.numel()):
            sides = []
            for sign in (1, -1):
                moved = value.clone()
                moved.view(-1)[place] += sign * step
                sides.append(float(total({**exact, name: moved})))
            slopes.view(-1)[place] = (sides[0] - sides[1]) / (2 * step)
        got = torch.zeros_like(value) if gradient is None else gradient
        near = (got - slopes).abs() <= 1e-4 * (1 + slopes.abs())
        text = f"the gradient by {name} is {got.tolist()}, finite differences give {slopes.tolist()}"
        require(near.all(), text)


def _tensors_of(q: Any) -> tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], Any]]:
    """The floating-point tensors of a posterior by name, and how it is built from others."""
    if isinstance(q, Scaled):  # a posterior of posteriors
        return q.parameters(), q.with_parameters
    if not dataclasses.is_dataclass(q) or isinstance(q, type):
        return {}, lambda values: q
    fields = {f.name: getattr(q, f.name) for f in dataclasses.fields(q) if f.init}
    tensors = {n: v for n, v in fields.items() if isinstance(v, Tensor) and v.is_floating_point()}
    return tensors, lambda values: dataclasses.replace(q, **values)
