r"""Soft weight-sharing (Ullrich, Meeds & Welling, ICLR 2017, arXiv 1702.04008).

Posterior: a point. Prior (eq. 6): a mixture of Gaussians over the weights of all layers,
:math:`p(w) = \prod_i\sum_j \pi_j N(w_i|\mu_j, s_j^2)`, learned with the weights; one component stays at zero
with a fixed, large share. Training (eq. 5, 7) minimises :math:`-\log p(T|X, w) - \tau\log p(w)`, with Gamma
hyper-priors of the precisions, so that no component collapses onto a weight, and a Beta hyper-prior where the
share of zero is learned, too. Decision (section 3): close components are merged, and each weight takes the
mean of its most responsible one. No weight is fine-tuned afterwards.

The cost is linear in the number of weights: one pass over them for all components
(:mod:`laconic.bayes.kl.mixture_sweep`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from laconic.bayes.kl import kl_total
from laconic.bayes.posteriors import Point
from laconic.errors import InputError, ModelError
from laconic.methods.common.codebooks import check_limits, mixture_books
from laconic.methods.common.grid_choice import GridChoice, choose_grid
from laconic.methods.common.rest import nonzeros, rest_of
from laconic.methods.contract import BoolArray, Compressed, Context, Judge, Method
from laconic.methods.mixtures import (
    MixtureSettings,
    attach_mixture,
    hyper_nats,
    mixture_groups,
    mixture_of,
    mixture_parameters,
    numbers_of,
    without_mixture,
)
from laconic.methods.registry import MethodEntry
from laconic.networks import duplicate
from laconic.networks.policy import weights_of
from laconic.networks.probe import check_model
from laconic.quantize.components import Components, most_responsible
from laconic.records import WeightStats

_NAMES = "_laconic_shared"


@dataclass(frozen=True)
class SoftWeightSharing(Method):
    r"""Soft weight-sharing with the published defaults: 16 Gaussians and one at zero.

    Args:
        tau: :math:`\tau`, the weight of the prior against the likelihood, above 0 (the paper: 0.005). It
            multiplies nats of the whole data set, which are divided by the data size afterwards.
        mixture: How the mixture starts, its hyper-priors and its learning rates.
        merge_kl: Nats of symmetric KL below which components are merged; with a judge each is tried.
        grid: Uniform grids that are tried beside the codebooks, and how much worse than the network before
            quantising the result may be. Of all that are within, the one with the fewest bytes is taken.

    Raises:
        InputError: A setting outside its bounds.

    >>> import laconic
    >>> net = laconic.prepare(nn.Linear(8, 4), SoftWeightSharing(), torch.zeros(1, 8), data_size=100)
    >>> sorted(name for name, _ in net.named_parameters())[2:]
    ['laconic_mixture_logits', 'laconic_mixture_means', 'weight']
    """

    tau: float = 0.005
    mixture: MixtureSettings = field(default_factory=MixtureSettings)
    merge_kl: tuple[float, ...] = (1e-10, 0.1, 0.5, 2.0)
    grid: GridChoice = field(default_factory=GridChoice)

    in_nats = True
    gentler = "lower tau"
    smaller = "higher tau, higher mixture.zero_share"

    def __post_init__(self) -> None:
        if not 0 < self.tau < np.inf:
            raise InputError(
                f"tau={self.tau}: the weight of the prior must be above 0 and finite; without it weights "
                "share nothing. Cure: tau=0.005"
            )
        check_limits(self.merge_kl)

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """A copy with a mixture over the range of its present weights; frozen weights are outside it."""
        check_model(model, example)
        net = duplicate(model)
        weights = weights_of(net, policy=context.policy)
        if not weights:
            raise ModelError(
                f"{type(model).__name__} has no weight that a mixture could hold: all are frozen, kept, "
                "biases or scales. Cure: requires_grad_(True) on some layer, or fewer names in keep"
            )
        attach_mixture(net, weights, self.mixture, at_zero=True)
        net.__dict__[_NAMES] = tuple(weights)
        return net

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        r""":math:`-\tau[\sum_i\log p(w_i) + \log p(\lambda, \pi)]`, nats of the whole data set."""
        prior = mixture_of(module, self.mixture)
        shared = torch.stack([kl_total(Point(w), prior) for w in _shared(module).values()]).sum()
        return self.tau * (shared + hyper_nats(module, self.mixture))

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Weights at ``lr``, without decay, which the prior takes the place of; the mixture at its own."""
        apart = {id(p) for p in mixture_parameters(module).values()}
        rest = [p for p in module.parameters() if id(p) not in apart]
        own = {"params": rest, "lr": lr, "weight_decay": 0.0}
        return [own, *mixture_groups(module, self.mixture, lr)]

    def weights_left(self, module: nn.Module) -> dict[str, int]:
        """Weights of each tensor whose most responsible component is not the one at zero."""
        stats, keeps, _ = self._decided(module)
        return {n: int((keeps[n] & (stats[n].mean != 0)).sum()) for n in stats}

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Merge components, and put each weight on its codebook, or on a uniform grid that is smaller."""
        policy = context.policy
        stats, keeps, components = self._decided(module)
        stats = {n: s for n, s in stats.items() if not policy.keeps(n)}
        keeps = {
            n: keeps[n] & ~context.removed.get(n, np.zeros(s.mean.shape, bool)) for n, s in stats.items()
        }
        plain = without_mixture(duplicate(module))
        plain.__dict__.pop(_NAMES, None)
        books = mixture_books(stats, components, self.merge_kl)
        rest = rest_of(plain, {n: p for n, p in plain.named_parameters() if n not in stats}, policy)
        stats, keeps = {**stats, **rest.frozen}, {**keeps, **nonzeros(rest.frozen)}
        return choose_grid(plain, stats, keeps, rest.beside, self.grid, judge, context.example, books=books)

    def _decided(self, module: nn.Module) -> tuple[dict[str, WeightStats], dict[str, BoolArray], Components]:
        """The weights with the variances of their components, which stay, and the components."""
        with torch.no_grad():
            means, stds, shares = numbers_of(mixture_of(module, self.mixture))
        components = Components(means, stds, shares, zero=0)
        stats, keeps = {}, {}
        for name, weight in _shared(module).items():
            values = weight.detach().cpu().float().numpy().copy()
            places = most_responsible(values, components)
            stats[name] = WeightStats(name, values, np.asarray(stds[places] ** 2, np.float32))
            keeps[name] = places != 0
        return stats, keeps, components


def _shared(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that the mixture holds, by name; those of a layer that was frozen since are left out."""
    found = dict(module.named_parameters())
    return {n: found[n] for n in module.__dict__[_NAMES] if found[n].requires_grad}


# The pull of the prior on a weight is tau / data_size of its slope: a data set of tens of thousands takes a
# larger tau than a small one to draw weights to zero in the same number of steps.
_FULL = {"fit.epochs": 40, "fit.lr": 1e-3}
_FULL_MNIST = {**_FULL, "tau": 0.02}
_SHORT = {**_FULL, "tau": 0.1, "fit.epochs": 8, "fit.lr": 2e-3, "reference.epochs": 3}
_DIGITS = {**_FULL, "mixture.zero_share": 0.99, "fit.epochs": 60, "fit.lr": 3e-3}

METHOD = MethodEntry(
    "soft-weight-sharing",
    SoftWeightSharing,
    presets={
        "full": {"lenet5": _FULL_MNIST, "lenet300": _FULL_MNIST, "": _FULL},
        "demo": {
            "lenet5": _SHORT,
            "lenet300": _SHORT,
            "digits-cnn": _DIGITS,
            "digits-mlp": _DIGITS,
            "": {**_FULL, "fit.epochs": 20},
        },
    },
    paper="Ullrich, Meeds & Welling, Soft Weight-Sharing for Neural Network Compression, ICLR 2017",
)
