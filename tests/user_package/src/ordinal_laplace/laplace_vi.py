r"""Variational inference under a Laplace prior, with pruning by the signal-to-noise ratio (Graves 2011).

Posterior: :math:`N(\theta, \sigma^2)` by weight. Prior: Laplace. Decision: weights with
:math:`|\theta| / \sigma` below a threshold go, the rest are put on a grid that validation chooses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from laconic.bayes import (
    GaussianFamily,
    check_rules,
    deterministic_of,
    kl_total,
    make_bayesian,
    plain_copy,
    posteriors_of,
)
from laconic.errors import InputError
from laconic.methods import (
    Compressed,
    Context,
    GridChoice,
    Judge,
    Method,
    choose_grid,
    nonzeros,
    rest_of,
)
from ordinal_laplace.laplace import Laplace


@dataclass(frozen=True)
class LaplaceVI(Method):
    """Variational inference with a Laplace prior.

    Args:
        scale: The prior's mean of |w|.
        threshold: The signal-to-noise ratio below which a weight goes.
        kl_weight: Multiple of the KL (1 is the ELBO).
        init_log_var: log sigma^2 at the start.
        grid: How the survivors are quantised.
    """

    scale: float = 0.05
    threshold: float = 1.0
    kl_weight: float = 1.0
    init_log_var: float = -8.0
    grid: GridChoice = field(default_factory=GridChoice)

    in_nats = True
    gentler = "lower threshold"
    smaller = "higher threshold"

    def __post_init__(self) -> None:
        Laplace(self.scale)
        if not (self.threshold >= 0 and self.kl_weight >= 0):
            raise InputError(f"threshold and kl_weight must be >= 0, got {self.threshold}, {self.kl_weight}")

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """Give every weight a Gaussian posterior centred on its present value."""
        net = make_bayesian(
            model,
            example=example,
            posterior=GaussianFamily(self.init_log_var),
            noise=context.noise,
            policy=context.policy,
        )
        check_rules(posteriors_of(net), Laplace(self.scale))
        return net

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """The weighted KL, nats for the whole data set."""
        prior = Laplace(self.scale)
        kls = [kl_total(q, prior) for q in posteriors_of(module).values()]
        return self.kl_weight * torch.stack(kls).sum()

    def weights_left(self, module: nn.Module) -> dict[str, int]:
        """Weights of each tensor above the threshold."""
        stats = {name: q.stats(name) for name, q in posteriors_of(module).items()}
        return {name: int(self._keep(s.mean, s.variance).sum()) for name, s in stats.items()}

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Drop what noise has swamped, put the rest on the cheapest grid that validation allows."""
        posteriors = posteriors_of(module)
        stats = {n: q.stats(n) for n, q in posteriors.items() if not context.policy.keeps(n)}
        keeps = {n: self._keep(s.mean, s.variance) for n, s in stats.items()}
        for name, zero in context.removed.items():
            if name in keeps:
                keeps[name] &= ~zero
        rest = rest_of(module, deterministic_of(module), context.policy)
        stats, keeps = {**stats, **rest.frozen}, {**keeps, **nonzeros(rest.frozen)}
        return choose_grid(plain_copy(module), stats, keeps, rest.beside, self.grid, judge, context.example)

    def _keep(self, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        return np.abs(mean) >= self.threshold * np.sqrt(variance)
