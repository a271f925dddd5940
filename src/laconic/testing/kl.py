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
from laconic.bayes.posteriors import Gaussian
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
    constant: there the differences between the weights are compared. The rule's sum over all weights must be
    ``kl_total``, and its gradient by each tensor field of a dataclass ``q`` that of finite differences.

    The draws of a Gaussian are stratified (one in each of as many parts of equal probability), which makes
    their error far smaller; those of other posteriors are what
    ``q.rsample`` returns of a :class:`~laconic.bayes.layers.NoiseSource`.

    Args:
        q: A posterior of some weights, in float64 where the rule is to be tried to more than five digits;
            means and variances that differ, zero among the means.
        p: The prior.
        log_prior: Log density of the prior in nats, of weights (draws, \*shape of the weights) and of the
            shape (draws, \*shape of the KL); up to a constant where it is improper. Written from its
            definition, not from the rule.
        log_posterior: The same of the posterior; None for a Gaussian, whose density is known.
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
    if getattr(p, "improper", False):
        if rule.numel() < 2:
            raise InputError("under an improper prior only differences can be tried: two weights or more")
        rule, estimates = (
            rule - rule.flatten()[0],
            estimates - estimates.flatten(1)[:, 0].reshape(-1, *(1 for _ in rule.shape)),
        )
    _compare(rule, estimates)
    _check_total(q, p)
    _check_gradient(q, p)
    return estimates.mean(0)


def _estimate(
    q: Any, log_prior: LogDensity, log_posterior: LogDensity | None, draws: int, noise: NoiseSource
) -> Tensor:
    """One Monte Carlo estimate of the KL, of its shape."""
    if isinstance(q, Gaussian):
        weights, own = _stratified(q, draws, noise.generator()), log_posterior or _gaussian(q)
    elif log_posterior is None:
        raise InputError(
            f"{type(q).__name__} has no known density. Cure: log_posterior, a function of weights"
        )
    else:
        weights, own = torch.stack([q.rsample(noise) for _ in range(draws)]), log_posterior
    return (own(weights) - log_prior(weights)).mean(0)


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
    """The gradient by each tensor field of a dataclass is that of central differences in float64."""
    if not dataclasses.is_dataclass(q) or isinstance(q, type):
        return
    fields = {f.name: getattr(q, f.name) for f in dataclasses.fields(q) if f.init}
    tensors = {n: v for n, v in fields.items() if isinstance(v, Tensor) and v.is_floating_point()}

    def total(values: dict[str, Tensor]) -> Tensor:
        return kl_divergence(dataclasses.replace(q, **values), p).sum()

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
