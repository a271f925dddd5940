r"""Variational dropout (Kingma, Salimans & Welling, NIPS 2015, arXiv 1506.02557).

Gaussian dropout is a posterior: multiplying by :math:`N(1, \alpha)` noise, with :math:`\alpha = p/(1-p)` for
a dropout rate p, maximises a lower bound of the evidence under a log-uniform prior, the only one under which
the KL does not depend on :math:`\theta` (section 3). So the rates can be learned (section 3.3). Two
posteriors:

- type A, correlated weight noise (section 3.2): :math:`w_{ij} = \theta_{ij} s_j` with
  :math:`s_j \sim N(1, \alpha_j)`. A layer's inputs are multiplied by noise, in training drawn anew for each
  example; :math:`\theta` is fixed given the input, and the KL is that of the factors, one for each input;
- type B, independent weight noise (section 3.1):
  :math:`q(w_{ij}) = N(\theta_{ij}, \alpha_{ij}\theta_{ij}^2)`, drawn as pre-activations (local
  reparameterisation, section 2.2); the KL is that of the weights.

KL to the log-uniform prior (appendix C), a polynomial that holds for :math:`\alpha \le 1`:

.. math:: -KL = const + \tfrac12\log\alpha + c_1\alpha + c_2\alpha^2 + c_3\alpha^3

Rates are clipped to :math:`\alpha \le 1` (p <= 0.5) as published, since larger ones lead to poor optima. Then
no rate says that a weight can go: the method regularises, and its network is put on a grid. With the KL's
other forms (:class:`laconic.bayes.LogUniform`) and a higher bound, learned rates of weights or units above
the threshold remove them (Molchanov et al. 2017, who replaced the multiplicative form for this purpose:
:class:`laconic.methods.SparseVD` has gradients of less variance).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from laconic.bayes.kl import kl_total
from laconic.bayes.layers import Sampling, local_layers
from laconic.bayes.objective import check_kl_weight
from laconic.bayes.prepare import make_bayesian, plain_copy, posteriors_of, spread_of
from laconic.bayes.priors import LogUniform
from laconic.errors import InputError
from laconic.methods.common.grid_choice import GridChoice
from laconic.methods.common.point import on_a_grid
from laconic.methods.contract import BoolArray, Compressed, Context, Judge, Method, warm_up_left
from laconic.methods.dropout_rates import Per, Rates, log_alpha_of
from laconic.methods.gated_units import split_groups
from laconic.methods.posterior_grids import on_posterior_grid
from laconic.methods.registry import MethodEntry
from laconic.schedules import WarmUp
from laconic.sparsify.selection.threshold import check_threshold

Type = Literal["A", "B"]
KL = Literal["cubic", "sigmoid", "exact"]


@dataclass(frozen=True)
class VariationalDropout(Method):
    r"""Gaussian dropout whose rates are learned, with the published defaults.

    Args:
        noise: ``A``: on the inputs of each layer. ``B``: on its weights, independent of each other.
        per: What has a rate of its own: all of a ``layer``, each ``unit`` that a layer reads, or each
            ``weight`` (type B alone).
        rate: Dropout rate p at the start, of :math:`\alpha = p/(1-p)`.
        first_rate: That of the first layer, whose inputs are the network's (None: ``rate``).
        learned: Whether the rates are learned; without, this is Gaussian dropout (Srivastava et al. 2014).
        kl: The KL of a rate: ``cubic`` (as published, for alpha <= 1), ``sigmoid`` (Molchanov et al. 2017) or
            ``exact``.
        kl_weight: Multiple of the KL (1 is the ELBO; the paper's runs "A2" take 1/3).
        warm_up: Epochs between which the KL's factor rises from 0 to 1.
        noise_lr: Learning rate of log alpha as a multiple of the weights'.
        log_alpha_bounds: What log alpha is clipped to after each step. The published upper bound is 0.
        threshold: log alpha at which weights, or all that read a unit, are removed. It counts only where
            rates of weights or units are learned up to larger ones.
        sampling: As in :class:`SparseVD`; of type A, whole weights are drawn only where they must be.
        grid: How the weights are quantised.

    Raises:
        InputError: A setting outside its bounds.

    >>> VariationalDropout(noise="B", per="weight").prunes
    False
    """

    noise: Type = "A"
    per: Per = "layer"
    rate: float = 0.5
    first_rate: float | None = 0.2
    learned: bool = True
    kl: KL = "cubic"
    kl_weight: float = 1.0
    warm_up: WarmUp = field(default_factory=WarmUp)
    noise_lr: float = 1.0
    log_alpha_bounds: tuple[float, float] = (-8.0, 0.0)
    threshold: float = 3.0
    sampling: Sampling = "local"
    grid: GridChoice = field(default_factory=GridChoice)

    in_nats = True
    gentler = "lower rate"
    smaller = "coarser grid.steps"

    def __post_init__(self) -> None:
        for name, value, known in (("noise", self.noise, Type), ("per", self.per, Per), ("kl", self.kl, KL)):
            if value not in get_args(known):
                words = get_args(known)
                raise InputError(
                    f"{name} must be one of {', '.join(words)}, got {value!r}. Cure: {name}={words[0]}"
                )
        rates = self._rates()
        check_threshold(self.threshold)
        local_layers(self.sampling)
        low, high = self.log_alpha_bounds
        for rate in (rates.rate, rates.first_rate):
            if rate is not None and not low <= log_alpha_of(rate) <= high:
                raise InputError(
                    f"a rate of {rate} is a log alpha of {log_alpha_of(rate):.3g}, outside log_alpha_bounds "
                    f"{self.log_alpha_bounds}. Cure: a rate of 0.5 at most, or wider bounds"
                )
        if self.kl == "cubic" and high > 0:
            raise InputError(
                f"the polynomial holds for alpha <= 1, got log_alpha_bounds={self.log_alpha_bounds}. "
                "Cure: an upper bound of 0, or kl='exact'"
            )
        if not self.noise_lr > 0:
            raise InputError(f"noise_lr must be > 0, got {self.noise_lr}. Cure: noise_lr=1")

    @property
    def prunes(self) -> bool:
        """Whether a learned rate can say that weights go: no clip stands below the threshold."""
        return self.learned and self.per != "layer" and self.log_alpha_bounds[1] > self.threshold

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """Put noise on the inputs, or the weights, of every layer."""
        check_kl_weight(self.kl_weight, context.data_size)
        return make_bayesian(
            model,
            example=example,
            posterior=self._rates().family(model, context.policy),
            noise=context.noise,
            sampling=self.sampling,
            policy=context.policy,
        )

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        r"""``beta * kl_weight * KL``, nats up to a constant; zero where rates are fixed, since the KL does
        not depend on :math:`\theta`.
        """
        if not self.learned:
            return super().penalty(module, context)
        prior = LogUniform(exact=self.kl == "exact", cubic=self.kl == "cubic")
        total = torch.stack([kl_total(q, prior) for q in posteriors_of(module).values()]).sum()
        return self.kl_weight * self.warm_up.factor(context.epochs) * total

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        r"""Weights at ``lr``, :math:`\log\alpha` at ``noise_lr * lr``, never decayed."""
        return split_groups(module, spread_of(module), lr, self.noise_lr)

    def step(self, module: nn.Module, context: Context) -> None:
        r"""Clip :math:`\log\alpha`."""
        for q in posteriors_of(module).values():
            q.clamp_spread(*self.log_alpha_bounds)

    def weights_left(self, module: nn.Module) -> dict[str, int]:
        """Weights whose rate is below the threshold; empty where rates remove none."""
        if not self.prunes:
            return {}
        return {n: int(keep.sum()) for n, keep in self._keeps(module).items()}

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A warm-up that is not at its end."""
        return warm_up_left(self.warm_up, context)

    def planned_epochs(self) -> float:
        """Until the warm-up is over."""
        return self.warm_up.end

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Remove what rates above the threshold say can go, and put the rest on the grid of validation.

        Where rates decide nothing, steps are shares of a tensor's largest weight: noise in proportion to a
        weight says that small weights are known best, which does not hold of a rate that they all share.
        """
        if self.prunes:
            keeps = self._keeps(module)
            small = on_posterior_grid(module, lambda stats: keeps[stats.name], self.grid, context, judge)
        else:
            small = on_a_grid(plain_copy(module), self.grid, context, judge, sampled=True)
        facts = {"method": "variational-dropout", "log_alpha": _told(module)}
        return replace(small, facts={**small.facts, **facts})

    def _keeps(self, module: nn.Module) -> dict[str, BoolArray]:
        """By tensor what is not zero and has a rate below the threshold."""
        found = posteriors_of(module).items()
        keeps = {n: (q.expectation() != 0) & (q.spread()[0] < self.threshold) for n, q in found}
        return {name: keep.cpu().numpy() for name, keep in keeps.items()}

    def _rates(self) -> Rates:
        return Rates(self.rate, self.first_rate, self.noise == "A", self.per, learned=self.learned)


def _told(module: nn.Module) -> dict[str, list[float]]:
    """By tensor the least, the median and the largest log alpha."""
    found = {}
    for name, q in posteriors_of(module).items():
        values = q.spread()[0].detach().float().cpu().numpy()
        found[name] = [round(float(v), 4) for v in np.quantile(values, (0.0, 0.5, 1.0))]
    return found


# A trained network is the start: rates begin low, and rise where the likelihood allows it.
_TRAINED = {"rate": 0.1, "first_rate": 0.05, "noise_lr": 5.0, "fit.schedule.flat": 0.5}
_SHORT = {"fit.epochs": 8, "reference.epochs": 3}

METHOD = MethodEntry(
    "variational-dropout",
    VariationalDropout,
    presets={
        "full": {"": {**_TRAINED, "fit.epochs": 60}},
        "demo": {
            "lenet5": {**_TRAINED, **_SHORT},
            "lenet300": {**_TRAINED, **_SHORT},
            "": {**_TRAINED, "fit.epochs": 8},
        },
    },
    paper="Kingma, Salimans & Welling, Variational Dropout and the Local Reparameterization Trick, NIPS 2015",
)
