r"""Structured Bayesian pruning (Neklyudov, Molchanov, Ashukha & Vetrov, NIPS 2017, arXiv 1705.07283).

Posterior: each coupled unit (a channel with all that reads and normalises it, a hidden unit, a head) is
multiplied by a noise :math:`\theta` with a truncated log-normal :math:`q(\log\theta) = TN(\mu, \sigma^2; a,
b)`; weights are points. Prior: :math:`p(\log\theta) = U(a, b)` with a = -20 and b = 0, which is proper. The
objective (section 3.3) is the ELBO, the KL being that of the units alone:

.. math:: L = \frac1M\sum_m -\log p(y_m|x_m, W, \theta) +
              \frac{\beta(t)\,\lambda}{N}\sum_u k_u\,KL(q(\theta_u)\|p)

Decision (section 3.4): units whose signal-to-noise ratio :math:`E[\theta]/\sqrt{Var[\theta]}` is below 1 are
removed. The others' :math:`E[\theta]` goes into the weights, so that the small network has no noise. What is
left is put on a grid as for every other method.

The authors start from a trained network, give the noise ten times the weights' learning rate, and clip
:math:`\mu` and :math:`\log\sigma` to [-20, 5] (their code). In the variant SBPa the KL's multiplier
:math:`k_u` differs by layer, so that expensive layers lose more. Here it is a power of the
multiply-accumulates that a unit costs (``by_macs``). Other than in the paper, one :math:`\theta` is drawn for
each unit and pass, not for each example: all that reads a unit then sees the same draw in any network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from laconic.bayes.gates import Gate, TruncatedLogNormal
from laconic.bayes.objective import check_kl_weight
from laconic.errors import InputError
from laconic.methods.common.grid_choice import GridChoice
from laconic.methods.common.units import with_units_told
from laconic.methods.contract import Compressed, Context, Judge, Method, Target, warm_up_left
from laconic.methods.gated_units import (
    clamp_gates,
    gate_parameters,
    gate_units,
    gated_groups,
    macs_by_unit,
    split_groups,
    weights_in,
    without_units,
)
from laconic.methods.gating import fold_gates, gates_of
from laconic.methods.registry import MethodEntry
from laconic.records import KeepPlan
from laconic.schedules import WarmUp
from laconic.structure.by_score import plan_of_scores


@dataclass(frozen=True)
class StructuredBayesianPruning(Method):
    r"""Structured Bayesian pruning with the published defaults.

    Args:
        threshold: Signal-to-noise ratio below which a unit is removed.
        tried_thresholds: Further thresholds. Of all whose validation metric is at most ``max_drop`` worse
            than that of ``threshold``, ``convert`` takes the one that leaves the fewest
            multiply-accumulates (of equals the one with the best likelihood).
        max_drop: In the metric's unit (None: half of what the metric tolerates).
        kl_weight: Multiple of the KL (1 is the ELBO).
        warm_up: Epochs between which the KL's factor rises from 0 to 1.
        by_macs: Exponent of the multiply-accumulates in a unit's KL multiplier :math:`k_u` (SBPa): 0 gives 1
            to every unit, as in SBP; 1 makes it proportional to what the unit costs. Its mean over all units
            is 1.
        init_log_sigma: :math:`\log\sigma` at the start, where :math:`\mu = 0`.
        low: a, the smallest log noise.
        high: b, the largest log noise.
        noise_lr: Learning rate of :math:`\mu` and :math:`\log\sigma` as a multiple of the weights'.
        clip: What :math:`\mu` and :math:`\log\sigma` are clipped to after each step.
        inputs: Whether parts of the network's input have noise, and may be removed, too.
        grid: How the remaining weights are quantised (None: they stay float32, to be trained further).

    Raises:
        InputError: A setting outside its bounds.

    >>> import laconic
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net = laconic.prepare(net, StructuredBayesianPruning(), torch.zeros(1, 4), data_size=100)
    >>> with torch.no_grad():  # as after training: three units are all noise
    ...     _ = net.laconic_gate_0_log_sigma[:3].fill_(2.0), net.laconic_gate_0_mu[:3].fill_(-8.0)
    >>> laconic.convert(net).module[0].out_features
    5
    """

    threshold: float = 1.0
    tried_thresholds: tuple[float, ...] = ()
    max_drop: float | None = None
    kl_weight: float = 1.0
    warm_up: WarmUp = field(default_factory=lambda: WarmUp(0.0, 5.0))
    by_macs: float = 0.0
    init_log_sigma: float = -5.0
    low: float = -20.0
    high: float = 0.0
    noise_lr: float = 10.0
    clip: tuple[float, float] = (-20.0, 5.0)
    inputs: bool = False
    grid: GridChoice | None = field(default_factory=GridChoice)

    in_nats = True
    changes_architecture = True
    gentler = "lower kl_weight"

    @property
    def smaller(self) -> str:  # type: ignore[override]
        """A heavier KL, and larger steps where there is a grid."""
        return "higher kl_weight" if self.grid is None else "higher kl_weight, coarser grid.steps"

    def __post_init__(self) -> None:
        for threshold in (self.threshold, *self.tried_thresholds):
            if not threshold >= 0:
                raise InputError(
                    f"threshold and tried_thresholds are ratios of signal to noise >= 0, got {threshold}. "
                    "Cure: 1"
                )
        if not self.kl_weight > 0:
            raise InputError(
                f"kl_weight must be > 0, since the KL alone removes units, got {self.kl_weight}. Cure: 1"
            )
        if not self.noise_lr > 0 or not self.clip[0] < self.init_log_sigma < self.clip[1]:
            raise InputError(
                f"noise_lr must be > 0 and init_log_sigma inside clip, got {self.noise_lr}, "
                f"{self.init_log_sigma} and {self.clip}. Cure: noise_lr=10, init_log_sigma=-5, clip=(-20, 5)"
            )
        if not self.low < self.high:
            raise InputError(f"low must be below high, got {self.low}, {self.high}. Cure: low=-20, high=0")
        if not self.by_macs >= 0 or (self.max_drop is not None and not self.max_drop >= 0):
            raise InputError(
                f"by_macs and max_drop must be >= 0, got {self.by_macs} and {self.max_drop}. Cure: by_macs=1"
            )

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """Give every coupled unit a noise near 1."""
        check_kl_weight(self.kl_weight, context.data_size)
        return gate_units(model, example, context, lambda g: self._gate(g.size), inputs=self.inputs)

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """``beta(epoch) * kl_weight * sum k KL(q || p)`` over all units, nats."""
        factors = self._factors(module)
        kls = [factors[name] * gate.penalty().sum() for name, gate in gates_of(module).items()]
        return self.kl_weight * self.warm_up.factor(context.epochs) * torch.stack(kls).sum()

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Weights at ``lr``, the noise's parameters at ``noise_lr * lr``, never decayed."""
        return split_groups(module, gate_parameters(module), lr, self.noise_lr)

    def step(self, module: nn.Module, context: Context) -> None:
        r"""Clip :math:`\mu` and :math:`\log\sigma`."""
        clamp_gates(module, *self.clip)

    def weights_left(self, module: nn.Module) -> dict[str, int]:
        """Weights of each tensor that read and make units whose signal-to-noise ratio reaches the
        threshold.
        """
        return weights_in(module, self._plan(module, self.threshold))

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A warm-up that is not at its end."""
        return warm_up_left(self.warm_up, context)

    def planned_epochs(self) -> float:
        """Until the warm-up is over."""
        return self.warm_up.end

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Remove the units below the threshold, fold the others' noise in, and quantise what is left."""
        threshold = self._chosen(module, judge)
        small = without_units(module, self._plan(module, threshold), self.grid, context, judge)
        facts = {**small.facts, "method": "structured-bayesian-pruning", "threshold": threshold}
        return with_units_told(replace(small, facts=facts), "a higher threshold")

    def _gate(self, units: int) -> TruncatedLogNormal:
        start = TruncatedLogNormal.open(units, self.init_log_sigma)
        return replace(start, low=self.low, high=self.high, threshold=self.threshold)

    def _factors(self, module: nn.Module) -> dict[str, float]:
        """The KL multiplier of each group's units; 1 on average over all units."""
        if self.by_macs == 0:
            return dict.fromkeys(gates_of(module), 1.0)
        costs = {name: cost**self.by_macs for name, cost in macs_by_unit(module).items()}
        sizes = {name: gated_groups(module)[0].group(name).size for name in costs}
        mean = sum(costs[n] * sizes[n] for n in costs) / sum(sizes.values())
        return {name: cost / mean if mean else 1.0 for name, cost in costs.items()}

    def _plan(self, module: nn.Module, threshold: float) -> KeepPlan:
        ratios = {name: _ratio(gate) for name, gate in gates_of(module).items()}
        return plan_of_scores({n: r >= threshold for n, r in ratios.items()}, ratios, gated_groups(module)[0])

    def _chosen(self, module: nn.Module, judge: Judge | None) -> float:
        """The threshold that validation allows and that leaves the fewest multiply-accumulates."""
        if judge is None or not self.tried_thresholds:
            return self.threshold
        macs = gated_groups(module)[1]
        plans = {t: self._plan(module, t) for t in sorted({self.threshold, *self.tried_thresholds})}
        scores = {t: judge.evaluate(fold_gates(module, plan).eval()) for t, plan in plans.items()}
        usual = scores[self.threshold]
        plain = replace(judge, target=Target())
        allowed = 0.5 * judge.metric.allowance(usual.metric) if self.max_drop is None else self.max_drop
        accepted = [t for t, score in scores.items() if plain.accepts(score, usual, allowed)]
        return min(accepted, key=lambda t: (macs.total(_sizes(plans[t])), scores[t].nll))


def _ratio(gate: Gate) -> torch.Tensor:
    """The signal-to-noise ratios of a group; ``prepare`` makes log-normal gates only."""
    if not isinstance(gate, TruncatedLogNormal):
        raise InputError(
            f"a log-normal gate was expected, got {type(gate).__name__}. Cure: prepare the network with "
            "StructuredBayesianPruning"
        )
    return gate.signal_to_noise().detach()


def _sizes(plan: KeepPlan) -> Mapping[str, int]:
    return {name: len(units) for name, units in plan.kept.items()}


_FULL = {
    "tried_thresholds": [0.7, 1.5, 2.0, 3.0],
    "fit.epochs": 100,
    "fit.schedule.flat": 0.5,
    "warm_up.end": 5.0,
}
_LENET300 = {"inputs": True}
_SHORT = {"fit.epochs": 15, "warm_up.end": 2.0}

METHOD = MethodEntry(
    "structured-bayesian-pruning",
    StructuredBayesianPruning,
    presets={
        "full": {
            "lenet5": _FULL,
            "lenet300": {**_FULL, **_LENET300},
            "lenet500": {**_FULL, **_LENET300},
            "": _FULL,
        },
        "demo": {
            "lenet5": {**_FULL, **_SHORT, "reference.epochs": 3},
            "lenet300": {**_FULL, **_LENET300, **_SHORT, "reference.epochs": 3},
            "": {**_FULL, **_SHORT},
        },
    },
    paper="Neklyudov, Molchanov, Ashukha & Vetrov, Structured Bayesian Pruning via Log-Normal Multiplicative "
    "Noise, NIPS 2017",
)
