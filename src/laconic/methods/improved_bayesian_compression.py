r"""Improved Bayesian compression (Federici, Ullrich & Welling, arXiv 1711.06494, NIPS workshop on BDL 2017).

Posterior: :math:`q(w) = N(\theta, \sigma^2)` by weight with Sparse VD's noise (Molchanov et al. 2017). Prior:
that of soft weight-sharing (Ullrich et al. 2017) with a log-uniform density in the place of the component at
zero (:class:`laconic.bayes.priors.SparseMixture`), learned with the weights. So noise prunes, and the mixture
draws what is left to values that many weights share. Decision: weights with
:math:`\log\alpha = \log\sigma^2 - \log\theta^2 \ge 3` are removed; the rest go on a codebook of the mixture's
means or on a uniform grid, whichever is smaller within the allowances on the validation split.

The paper was not at hand. The KL is our derivation (:mod:`laconic.bayes.kl.gaussian_sparse_mixture`): an
upper bound, so that training still maximises a bound of the evidence. The schedule is that of
:class:`laconic.methods.SparseVD`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from laconic.bayes.posteriors import Family
from laconic.bayes.prepare import posteriors_of
from laconic.bayes.priors import LogUniform, Prior, SparseMixture
from laconic.errors import InputError
from laconic.methods.common.codebooks import Books, check_limits, mixture_books
from laconic.methods.contract import Context
from laconic.methods.mixtures import (
    MixtureSettings,
    attach_mixture,
    hyper_nats,
    mixture_groups,
    mixture_of,
    mixture_parameters,
    numbers_of,
    zero_share,
)
from laconic.methods.registry import MethodEntry
from laconic.methods.sparse_vd import SparseVD
from laconic.quantize.components import Components
from laconic.records import WeightStats


@dataclass(frozen=True)
class ImprovedBayesianCompression(SparseVD):
    r"""Sparse variational dropout under a learned mixture of shared values.

    Args:
        threshold: log alpha at which a weight is removed.
        kl_weight: Multiple of the KL (1 is the bound of the evidence).
        warm_up: Epochs between which the KL's factor rises from 0 to 1.
        init_log_var: log sigma^2 at the start.
        noise_lr: Learning rate of log sigma^2 as a multiple of the means'.
        log_var_bounds: What log sigma^2 is clipped to after each step.
        hold_from: Epoch from which pruned weights stay at zero without noise (None: never).
        held_kl_weight: The KL weight from ``hold_from`` on.
        hold_noise: Whether the weights that are left keep their noise and their KL from ``hold_from`` on.
        sampling: As in :class:`SparseVD`.
        grid: Uniform grids that are tried beside the codebooks, and what they may cost.
        train_clip: As in :class:`SparseVD`.
        mixture: The Gaussians: how they start, their hyper-priors and learning rates. Its ``zero_share`` is
            the share of the log-uniform part. A share that is learned (``zero_beta``) falls as far as
            weights are left, and then makes them cheaper.
        merge_kl: Nats of symmetric KL below which components are merged; with a judge each is tried.
        log_range: Nats of magnitudes that the log-uniform part spans.

    Raises:
        InputError: A setting outside its bounds; a prior or a posterior, which are no settings here.

    >>> import laconic
    >>> method = ImprovedBayesianCompression(kl_weight=0.5)
    >>> net = laconic.prepare(nn.Linear(8, 4), method, torch.zeros(1, 8), data_size=100)
    >>> type(method.prior_of(net)).__name__
    'SparseMixture'
    """

    mixture: MixtureSettings = field(default_factory=lambda: MixtureSettings(zero_share=0.99))
    merge_kl: tuple[float, ...] = (1e-10, 0.1, 0.5, 2.0)
    log_range: float = 20.0
    prior: Prior = field(init=False, default_factory=LogUniform)
    posterior: Family | None = field(init=False, default=None)

    refused = {
        "prior": "it learns its prior, a mixture whose settings are mixture.*",
        "posterior": "its posteriors are Gaussian",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self.merge_kl)
        if not 0 < self.log_range < float("inf"):
            raise InputError(f"log_range is in nats and must be above 0, got {self.log_range}. Cure: 20")

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """Posteriors around the present weights, and Gaussians over their range."""
        net = super().prepare(model, example, context)
        weights = {name: q.expectation() for name, q in posteriors_of(net).items()}
        attach_mixture(net, weights, self.mixture, at_zero=False)
        return net

    def prior_of(self, module: nn.Module) -> Prior:
        """The learned prior."""
        values = mixture_of(module, self.mixture)
        return SparseMixture(values, zero_share(module, self.mixture), self.log_range)

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """Sparse VD's, and the nats of the mixture under its hyper-priors."""
        weights = super().penalty(module, context)
        if self._holding(context):
            factor = self.held_kl_weight if self.hold_noise else 0.0
        else:
            factor = self.kl_weight * self.warm_up.factor(context.epochs)
        return weights + factor * hyper_nats(module, self.mixture)

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Sparse VD's, and the mixture at rates of its own."""
        apart = {id(p) for p in mixture_parameters(module).values()}
        groups = super().param_groups(module, lr)
        own = [{**g, "params": [p for p in g["params"] if id(p) not in apart]} for g in groups]
        return [*own, *mixture_groups(module, self.mixture, lr)]

    def _books(self, module: nn.Module, stats: Mapping[str, WeightStats]) -> Books | None:
        """Codebooks of the mixture's means; each weight takes the likeliest under its own noise."""
        with torch.no_grad():
            components = Components(*numbers_of(mixture_of(module, self.mixture)))
        return mixture_books(stats, components, self.merge_kl, noisy=True)


_FULL = {
    "kl_weight": 2.0,
    "held_kl_weight": 0.3,
    "fit.schedule.flat": 0.6,
    "grid.max_drop": 0.05,
    "grid.max_nll_ratio": 1.08,
}
_SHORT = {
    **_FULL,
    "warm_up.end": 2.0,
    "hold_from": 5.0,
    "fit.epochs": 8,
    "reference.epochs": 3,
}

METHOD = MethodEntry(
    "improved-bayesian-compression",
    ImprovedBayesianCompression,
    presets={
        "full": {
            "lenet5": {**_FULL, "fit.epochs": 90, "warm_up.end": 12.0, "hold_from": 54.0},
            "lenet300": {**_FULL, "fit.epochs": 100, "warm_up.end": 15.0, "hold_from": 60.0},
            "": {**_FULL, "fit.epochs": 40, "warm_up.end": 5.0, "hold_from": 24.0},
        },
        "demo": {
            "lenet5": _SHORT,
            "lenet300": _SHORT,
            "": {**_FULL, "fit.epochs": 40, "warm_up.end": 5.0, "hold_from": 24.0},
        },
    },
    paper="Federici, Ullrich & Welling, Improved Bayesian Compression, NIPS workshop on BDL 2017",
)
