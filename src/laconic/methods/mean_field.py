r"""Mean-field variational inference (Blundell et al., Weight Uncertainty in Neural Networks, ICML 2015).

Posterior: :math:`q(w) = N(\theta, \sigma^2)` by weight, independent of each other (arXiv 1505.05424, section
3.2). Prior: any with a rule for Gaussians; by default the paper's scale mixture of two zero-mean Gaussians
(equation 7), :math:`\pi N(0, \sigma_1^2) + (1 - \pi) N(0, \sigma_2^2)`. Objective: the description length

.. math:: KL(q \| p) - E_q \log p(D | w)

of equation 1, the negative evidence lower bound (ELBO). Nothing is pruned: this is a Bayesian neural network,
whose uncertainty :func:`laconic.predict` tells. The file holds each mean on a grid whose step is a
multiple of the layer's posterior standard deviation: a layer's width follows from how sure it is.

It departs from the paper in three places. The KL is not estimated by the draw of the step: it is the closed
form or the bound of the pair's rule (:mod:`laconic.bayes.kl`), which has no noise. :math:`\sigma` is the
exponential of a parameter, not its softplus. Gradients come by local reparameterisation (Kingma et al. 2015)
where a layer allows it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from laconic.bayes.kl import check_rules, kl_total
from laconic.bayes.layers import Sampling, local_layers
from laconic.bayes.objective import check_kl_weight
from laconic.bayes.posteriors import GaussianFamily
from laconic.bayes.prepare import deterministic_of, make_bayesian, plain_copy, posteriors_of, spread_of
from laconic.bayes.priors import GaussianMixture, Prior
from laconic.errors import InputError
from laconic.methods.common.grid_choice import GridChoice, choose_grid
from laconic.methods.common.rest import nonzeros, rest_of
from laconic.methods.contract import Compressed, Context, Judge, Method, warm_up_left
from laconic.methods.registry import MethodEntry
from laconic.schedules import WarmUp


def scale_mixture(share: float = 0.5, log_std: float = -1.0, narrow_log_std: float = -6.0) -> GaussianMixture:
    r"""The paper's prior, :math:`\pi N(0, e^{2a}) + (1 - \pi) N(0, e^{2b})` (equation 7).

    Section 5.1 searches :math:`\pi` in 1/4, 1/2, 3/4, -a in 0, 1, 2 and -b in 6, 7, 8.

    Args:
        share: :math:`\pi`, of the wide part, in (0, 1).
        log_std: a, of the wide part.
        narrow_log_std: b, of the narrow part.

    Returns:
        The prior.

    >>> [round(s, 4) for s in scale_mixture().stds]
    [0.3679, 0.0025]
    """
    return GaussianMixture((0.0, 0.0), (math.exp(log_std), math.exp(narrow_log_std)), (share, 1 - share))


@dataclass(frozen=True)
class MeanField(Method):
    """A Gaussian posterior by weight under any prior, nothing pruned.

    Args:
        prior: The weights' prior; it needs a rule for Gaussians (:func:`laconic.bayes.register_kl`).
        kl_weight: Multiple of the KL (1 is the ELBO).
        warm_up: Epochs between which the KL's factor rises from 0 to 1.
        init_log_var: log sigma^2 at the start.
        noise_lr: Learning rate of log sigma^2 as a multiple of the means'.
        log_var_bounds: What log sigma^2 is clipped to after each step.
        sampling: As in :class:`laconic.methods.SparseVD`.
        grid: How the means are quantised.

    Raises:
        InputError: A setting outside its bounds.

    >>> import laconic
    >>> net = laconic.prepare(nn.Linear(4, 3), MeanField(), torch.zeros(1, 4), data_size=100)
    >>> laconic.predict(net, torch.ones(1, 4), samples=5).entropy.shape
    torch.Size([1])
    """

    prior: Prior = field(default_factory=scale_mixture)
    kl_weight: float = 1.0
    warm_up: WarmUp = field(default_factory=lambda: WarmUp(0.0, 5.0))
    init_log_var: float = -8.0
    noise_lr: float = 10.0
    log_var_bounds: tuple[float, float] = (-20.0, 4.0)
    sampling: Sampling = "local"
    grid: GridChoice = field(default_factory=GridChoice)

    in_nats = True
    gentler = "lower kl_weight"
    smaller = "higher kl_weight, coarser grid.steps"

    def __post_init__(self) -> None:
        if not self.noise_lr > 0 or not self.log_var_bounds[0] < self.init_log_var < self.log_var_bounds[1]:
            raise InputError(
                f"noise_lr must be > 0 and init_log_var inside log_var_bounds, got {self.noise_lr}, "
                f"{self.init_log_var}, {self.log_var_bounds}. Cure: 10.0, -8.0, (-20.0, 4.0)"
            )
        local_layers(self.sampling)

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """Give every weight a Gaussian posterior centred on its present value."""
        check_kl_weight(self.kl_weight, context.data_size)
        net = make_bayesian(
            model,
            example=example,
            posterior=GaussianFamily(self.init_log_var),
            noise=context.noise,
            sampling=self.sampling,
            policy=context.policy,
        )
        check_rules(posteriors_of(net), self.prior)
        return net

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """``kl_weight * warm-up * sum KL(q || prior)``, nats for the whole data set."""
        total = torch.stack([kl_total(q, self.prior) for q in posteriors_of(module).values()]).sum()
        return self.kl_weight * self.warm_up.factor(context.epochs) * total

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Means and deterministic parameters at ``lr``, log variances at ``noise_lr * lr``, never decayed."""
        noise = spread_of(module)
        ids = {id(p) for p in noise}
        rest = [p for p in module.parameters() if id(p) not in ids]
        return [{"params": rest, "lr": lr}, {"params": noise, "lr": lr * self.noise_lr, "weight_decay": 0.0}]

    def step(self, module: nn.Module, context: Context) -> None:
        """Keep log variances inside their bounds."""
        for q in posteriors_of(module).values():
            q.clamp_spread(*self.log_var_bounds)

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A warm-up that is not at its end."""
        return warm_up_left(self.warm_up, context)

    def planned_epochs(self) -> float:
        """Until the warm-up is over."""
        return self.warm_up.end

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Put the means on the grid chosen on validation; what an earlier stage removed stays at zero."""
        posteriors = posteriors_of(module)
        stats = {n: q.stats(n) for n, q in posteriors.items() if not context.policy.keeps(n)}
        keeps = nonzeros(stats)
        for name, zero in context.removed.items():
            if name in keeps:
                keeps[name] = keeps[name] & ~zero
        rest = rest_of(module, deterministic_of(module), context.policy)
        return choose_grid(
            plain_copy(module),
            {**stats, **rest.frozen},
            {**keeps, **nonzeros(rest.frozen)},
            rest.beside,
            self.grid,
            judge,
            context.example,
            context,
        )


_FULL = {"warm_up.end": 10.0, "fit.epochs": 60, "fit.schedule.flat": 0.6}
_SHORT = {
    "warm_up.end": 1.0,
    "fit.epochs": 4,
    "fit.lr": 0.003,
    "grid.steps": [0.5, 1.0],
    "grid.prices": [0.0, 0.04],
    "reference.epochs": 2,
}

METHOD = MethodEntry(
    "mean-field",
    MeanField,
    presets={
        "full": {"lenet5": _FULL, "lenet300": _FULL, "": {**_FULL, "fit.epochs": 40, "warm_up.end": 5.0}},
        "demo": {
            "lenet5": _SHORT,
            "lenet300": _SHORT,
            "": {"warm_up.end": 5.0, "fit.epochs": 30, "fit.lr": 0.003},
        },
    },
    paper="Blundell, Cornebise, Kavukcuoglu & Wierstra, Weight Uncertainty in Neural Networks, ICML 2015",
)
