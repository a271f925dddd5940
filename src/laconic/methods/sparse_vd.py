r"""Sparse variational dropout (Molchanov, Ashukha & Vetrov, ICML 2017, arXiv 1701.05369).

Posterior: :math:`q(w) = N(\theta, \sigma^2)` by weight, in additive form (section 4.2), or another family.
Prior: log-uniform, :math:`p(\log|w|) \propto const` (improper: its KL is no code length), or another one.
Decision: weights with :math:`\log\alpha = \log\sigma^2 - \log\theta^2 \ge 3` are removed (section 4.1). The
rest are put on a grid whose step is a multiple of each layer's posterior standard deviation, chosen on the
validation split.

Two things speed it up: a KL weight above 1 while pruning, and holding pruned weights at zero for the last
part of training (``hold_from``), so that the remaining weights learn to do without them and their noise.
The authors' code has ``train_clip`` to this end: means above the threshold are zero in every forward pass of
training, their noise stays, and the KL pulls at them no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from laconic.bayes.kl import check_rules, kl_divergence, kl_total
from laconic.bayes.layers import Sampling, local_layers
from laconic.bayes.objective import check_kl_weight
from laconic.bayes.posteriors import ClippedFamily, ClippedGaussian, Family, GaussianFamily, Posterior
from laconic.bayes.prepare import (
    make_bayesian,
    mute,
    posteriors_of,
    spread_of,
)
from laconic.bayes.priors import LogUniform, Prior
from laconic.errors import InputError
from laconic.methods.common.codebooks import Books
from laconic.methods.common.grid_choice import GridChoice
from laconic.methods.common.masks import add_weight_masks, weight_masks_of
from laconic.methods.contract import BoolArray, Compressed, Context, Judge, Method, warm_up_left
from laconic.methods.posterior_grids import on_posterior_grid
from laconic.methods.registry import MethodEntry
from laconic.records import WeightStats
from laconic.schedules import WarmUp
from laconic.sparsify.selection.threshold import check_threshold, keep_below
from laconic.text import counted


@dataclass(frozen=True)
class SparseVD(Method):
    """Sparse variational dropout with the published defaults.

    Args:
        threshold: log alpha at which a weight is removed (section 4.1: 3).
        kl_weight: Multiple of the KL (1 is the ELBO).
        warm_up: Epochs between which the KL's factor rises from 0 to 1.
        init_log_var: log sigma^2 at the start.
        noise_lr: Learning rate of log sigma^2 as a multiple of the means'.
        log_var_bounds: What log sigma^2 (of another family, its parameter of spread) is clipped to after each
            step.
        hold_from: Epoch from which pruned weights stay at zero without noise (None: never, as published).
        held_kl_weight: The KL weight from ``hold_from`` on.
        hold_noise: Whether the weights that are left keep their noise and their KL from ``hold_from`` on.
            Without, the last part of training is a plain one of the means, at the cost of a plain step.
        sampling: "local" draws pre-activations (local reparameterisation, Kingma et al. 2015). "mixed" draws
            the weights of a convolution once a step instead, which makes a step 1.5 (LeNet-5) to 2 times
            (ResNet-20) as fast at noisier gradients. "weights" draws the weights of all layers,
            and "flipout" those of each half of a batch, uncorrelated (Wen et al. 2018).
        grid: How the remaining weights are quantised.
        prior: The weights' prior; the pair of family and prior needs a rule
            (:func:`laconic.bayes.register_kl`).
        posterior: The family, a function of a weight's name and the weight (None: Gaussians of log variance
            ``init_log_var``, as published).
        train_clip: Whether means with log alpha above the threshold are zero in training, as they will be at
            test (:class:`laconic.bayes.posteriors.ClippedGaussian`).

    Raises:
        InputError: A setting outside its bounds.

    >>> SparseVD().threshold
    3.0
    """

    threshold: float = 3.0
    kl_weight: float = 1.0
    warm_up: WarmUp = field(default_factory=lambda: WarmUp(0.0, 5.0))
    init_log_var: float = -8.0
    noise_lr: float = 10.0
    log_var_bounds: tuple[float, float] = (-20.0, 4.0)
    hold_from: float | None = None
    held_kl_weight: float = 1.0
    hold_noise: bool = True
    sampling: Sampling = "local"
    grid: GridChoice = field(default_factory=GridChoice)
    prior: Prior = field(default_factory=LogUniform)
    posterior: Family | None = None
    train_clip: bool = False

    in_nats = True
    gentler = "lower kl_weight"
    smaller = "higher kl_weight, coarser grid.steps"

    def __post_init__(self) -> None:
        if not self.noise_lr > 0 or not self.log_var_bounds[0] < self.init_log_var < self.log_var_bounds[1]:
            raise InputError(
                f"noise_lr must be > 0 and init_log_var inside log_var_bounds, got {self.noise_lr}, "
                f"{self.init_log_var}, {self.log_var_bounds}"
                ". Cure: noise_lr=10, init_log_var=-8"
            )
        check_threshold(self.threshold)
        local_layers(self.sampling)
        if self.hold_from is not None and not self.hold_from >= 0:
            raise InputError(f"hold_from is an epoch (None: never hold), got {self.hold_from}. Cure: 10")
        if self.train_clip and self.posterior is not None:
            raise InputError(
                "train_clip is of the published Gaussians, and a posterior was given. Cure: leave out one of "
                "train_clip and posterior"
            )

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """Give every weight a posterior centred on its present value."""
        published: Family = GaussianFamily(self.init_log_var)
        if self.train_clip:
            published = ClippedFamily(self.init_log_var, self.threshold)
        family = self.posterior or published
        check_kl_weight(self.kl_weight, context.data_size)
        check_kl_weight(self.held_kl_weight, context.data_size)
        net = make_bayesian(
            model,
            example=example,
            posterior=family,
            noise=context.noise,
            sampling=self.sampling,
            policy=context.policy,
        )
        posteriors, parameters = posteriors_of(net), dict(net.named_parameters())
        self._check_prior(posteriors)
        add_weight_masks(net, {name: parameters[name] for name in posteriors})
        if not self.hold_noise:
            net.register_load_state_dict_post_hook(_mute_if_held)  # type: ignore[no-untyped-call]
        return net

    def prior_of(self, module: nn.Module) -> Prior:
        """The weights' prior; a method that learns one builds it of the network's parameters."""
        return self.prior

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """``beta * kl_weight * sum KL(q || prior)`` over weights not held, nats (up to a constant for an
        improper prior).
        """
        if self._holding(context) and not self.hold_noise:
            return next(module.parameters()).new_zeros(())
        prior = self.prior_of(module)
        posteriors = {name: _learning(q) for name, q in posteriors_of(module).items()}
        if self._holding(context):
            masks = weight_masks_of(module)
            kls = [_kl_of_left(q, prior, masks[name]) for name, q in posteriors.items()]
            return self.held_kl_weight * torch.stack(kls).sum()
        total = torch.stack([kl_total(q, prior) for q in posteriors.values()]).sum()
        return self.kl_weight * self.warm_up.factor(context.epochs) * total

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Means and deterministic parameters at ``lr``, log variances at ``noise_lr * lr``, never decayed."""
        noise = spread_of(module)
        ids = {id(p) for p in noise}
        rest = [p for p in module.parameters() if id(p) not in ids]
        return [{"params": rest, "lr": lr}, {"params": noise, "lr": lr * self.noise_lr, "weight_decay": 0.0}]

    def step(self, module: nn.Module, context: Context) -> None:
        """Keep log variances inside their bounds; from ``hold_from`` on, keep pruned weights at zero."""
        posteriors = posteriors_of(module)
        for q in posteriors.values():
            q.clamp_spread(*self.log_var_bounds)
        if not self._holding(context):
            return
        masks = weight_masks_of(module)
        if _nothing_held(module):
            for name, q in posteriors.items():
                masks[name].copy_(torch.from_numpy(self._keep(q.stats(name))))
            if not self.hold_noise:
                _mute_if_held(module)
        for name, q in posteriors.items():
            q.hold(masks[name])

    def weights_left(self, module: nn.Module) -> dict[str, int]:
        """Weights of each tensor with log alpha below the threshold that are not held at zero, by this stage
        or an earlier one.
        """
        masks = weight_masks_of(module)
        stats = {name: q.stats(name) for name, q in posteriors_of(module).items()}
        return {name: int((self._keep(s) & masks[name].cpu().numpy()).sum()) for name, s in stats.items()}

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A warm-up that is not at its end, and pruned weights that no step was trained without."""
        notes = warm_up_left(self.warm_up, context)
        if self.hold_from is not None and context.epochs <= self.hold_from:
            notes = (
                *notes,
                (
                    f"training ends after {counted(context.epochs, 'epoch')}, so no pruned weight is held "
                    f"(hold_from={self.hold_from:g}). Cure: more epochs, or an earlier hold_from"
                ),
            )
        return notes

    def planned_epochs(self) -> float:
        """Until the warm-up is over and pruned weights are held."""
        return max(self.warm_up.end, self.hold_from or 0.0)

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Remove the weights above the threshold, and put the rest on the grid chosen on validation."""
        masks = weight_masks_of(module)

        def keep(stats: WeightStats) -> BoolArray:
            kept: BoolArray = self._keep(stats) & masks[stats.name].cpu().numpy()
            return kept

        return on_posterior_grid(module, keep, self.grid, context, judge, partial(self._books, module))

    def _check_prior(self, posteriors: Mapping[str, Posterior]) -> None:
        """Refuse a prior without a rule for the posteriors."""
        check_rules(posteriors, self.prior)

    def _books(self, module: nn.Module, stats: Mapping[str, WeightStats]) -> Books | None:
        """Codebooks that are tried beside the uniform grids."""
        return None

    def _keep(self, stats: WeightStats) -> BoolArray:
        """The weights with log alpha below the threshold that are not held at zero.

        The epsilon in log alpha makes the threshold keep a mean of zero whose log variance is below -15.4.
        """
        keep: BoolArray = keep_below(stats, self.threshold) & (stats.mean != 0)
        return keep

    def _holding(self, context: Context) -> bool:
        return self.hold_from is not None and context.epochs >= self.hold_from


def _learning(q: Posterior) -> Posterior:
    """What of a posterior the KL acts on."""
    return q.learning() if isinstance(q, ClippedGaussian) else q


def _kl_of_left(q: Posterior, prior: Prior, mask: torch.Tensor) -> torch.Tensor:
    """The KL of the weights that are not held; a KL of groups counts whole groups."""
    kl = kl_divergence(q, prior)
    return (kl * mask).sum() if kl.shape == mask.shape else kl.sum()


def _nothing_held(module: nn.Module) -> bool:
    return all(bool(mask.all()) for mask in weight_masks_of(module).values())


def _mute_if_held(module: nn.Module, keys: Any = None) -> None:
    """Also a load hook: a network that was saved while it held pruned weights goes on without noise."""
    mute(module, not _nothing_held(module))


# A KL weight above 1 until 60 % of the epochs, then only the remaining weights (see studies/).
_FULL = {
    "kl_weight": 2.0,
    "held_kl_weight": 0.3,
    "fit.schedule.flat": 0.6,
    "grid.max_drop": 0.05,
    "grid.max_nll_ratio": 1.08,
}
# Minutes rather than an hour: weights of convolutions are drawn once a step, and what is left after a third
# of the epochs trains without noise (studies/results/demo/NOTES.md).
_DEMO = {
    **_FULL,
    "kl_weight": 3.0,
    "warm_up.end": 1.5,
    "hold_from": 2.5,
    "hold_noise": False,
    "sampling": "mixed",
    "grid.steps": [0.35, 0.5, 0.7, 1.0],
    "grid.prices": [0.0, 0.04, 0.09],
    "fit.epochs": 7,
    "fit.lr": 0.003,
    "fit.schedule.flat": 0.3,
    "fit.schedule.warmup": 0.05,
}
_DEMO_MNIST = {
    **_DEMO,
    "reference.epochs": 2,
    "reference.lr": 0.003,
    "reference.schedule.flat": 0.0,
    "reference.schedule.warmup": 0.2,
}
# The digits have 19 batches an epoch, so that only many epochs are enough steps.
_DEMO_DIGITS = {
    **_FULL,
    "kl_weight": 1.0,
    "fit.epochs": 40,
    "fit.lr": 0.003,
    "warm_up.end": 5.0,
    "hold_from": 24.0,
}

METHOD = MethodEntry(
    "sparse-vd",
    SparseVD,
    presets={
        "full": {
            "lenet5": {
                **_FULL,
                "fit.epochs": 90,
                "warm_up.end": 12.0,
                "hold_from": 54.0,
                "grid.max_kl": 0.001,
            },
            "lenet300": {**_FULL, "fit.epochs": 100, "warm_up.end": 15.0, "hold_from": 60.0},
            "": {**_FULL, "fit.epochs": 40, "warm_up.end": 5.0, "hold_from": 24.0},
        },
        "demo": {
            "lenet5": _DEMO_MNIST,
            "lenet300": _DEMO_MNIST,
            "digits-cnn": _DEMO_DIGITS,
            "digits-mlp": _DEMO_DIGITS,
            "": _DEMO,
        },
    },
    paper="Molchanov, Ashukha & Vetrov, Variational Dropout Sparsifies Deep Neural Networks, ICML 2017",
)
