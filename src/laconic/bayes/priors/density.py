"""The base of priors that are given by the log density of one weight; a prior of one's own is one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from laconic.errors import InputError, LaconicError

# What a mistake in a density raises; torch's own signals, as the one that ends a recomputation, pass.
_RAISED = (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, NameError)


class DensityPrior(ABC):
    r"""A prior of independent weights that is known by :math:`\log p(w)`.

    A prior of one's own is a frozen dataclass with this base, of which only :meth:`log_density` must be
    written. It then works with the posteriors Gaussian and Multiplicative, whose KL is integrated numerically
    (:mod:`laconic.bayes.kl.gaussian_density`), and with Point, whose KL is :math:`-\log p`. A rule that is
    registered for exactly the pair takes precedence (:func:`laconic.bayes.register_kl`).

    ``improper``: whether the density has no normaliser; :meth:`log_density` is then known up to a constant.
    ``nodes``: at how many points, odd and from six standard deviations below the mean to six above it, the
    density is evaluated for each weight.

    >>> from dataclasses import dataclass
    >>> from laconic.bayes import Gaussian, kl_divergence
    >>> @dataclass(frozen=True)
    ... class Quartic(DensityPrior):
    ...     improper = True
    ...     def log_density(self, weights): return -weights**4
    >>> q = Gaussian(torch.zeros(1), torch.zeros(1))
    >>> round(kl_divergence(q, Quartic()).item(), 4)  # E[w^4] is 3, less the entropy 1.4189
    1.5811
    """

    improper: ClassVar[bool] = False
    nodes: ClassVar[int] = 33

    @abstractmethod
    def log_density(self, weights: Tensor) -> Tensor:
        r""":math:`\log p(w)` by weight, nats, differentiable.

        Args:
            weights: Any shape; every dimension is one of single weights.

        Returns:
            Of that shape, real floating-point numbers; they are cast to the weights' type.
        """

    def sample(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Independent draws of the prior.

        Args:
            shape: Shape of what is returned.
            generator: The source of randomness.

        Returns:
            float32, on the generator's device.

        Raises:
            InputError: A prior without a way to draw from it, as an improper one.
        """
        name = type(self).__name__
        why = "it is improper" if self.improper else "it has no method sample"
        raise InputError(
            f"no draws of {name}: {why}. Cure: a proper prior, or a method sample(shape, generator)"
        )


def uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform float64 draws, above 0 and below 1, so that their logarithms are finite."""
    draws = torch.rand(tuple(shape), generator=generator, dtype=torch.float64, device=generator.device)
    return draws.clamp_min(2.0**-54)


def checked_density(p: DensityPrior, weights: Tensor) -> Tensor:
    """What a prior's ``log_density`` returns, in the weights' type; a prior of one's own may return anything.

    Args:
        p: The prior.
        weights: Any shape.

    Returns:
        Of that shape and type.

    Raises:
        InputError: Another shape, no tensor of real floating-point numbers, or an exception in the method.
    """
    who, cure = f"{type(p).__name__}.log_density", "one number in nats for each weight, by functions of torch"
    try:
        values = p.log_density(weights)
    except (LaconicError, MemoryError, torch.OutOfMemoryError):
        raise
    except _RAISED as error:
        raise InputError(
            f"{who} raised {type(error).__name__} for weights of shape {tuple(weights.shape)}: {error}. "
            f"Cure: {cure}"
        ) from error
    if not isinstance(values, Tensor):
        raise InputError(f"{who} must return a tensor, got {type(values).__name__}. Cure: {cure}")
    if values.shape != weights.shape:
        raise InputError(
            f"{who} returned shape {tuple(values.shape)} for weights of shape "
            f"{tuple(weights.shape)}. Cure: one number for each weight, without a sum"
        )
    if not values.is_floating_point():
        kind = str(values.dtype).removeprefix("torch.")
        raise InputError(f"{who} returned {kind} numbers, which are no log densities. Cure: {cure}")
    return values.to(weights.dtype)
