r"""L0 regularisation by hard concrete gates (Louizos, Welling & Kingma, ICLR 2018, arXiv 1712.01312).

Posterior: weights are points times gates z in [0, 1], which are exactly zero with a probability above zero.
A gate belongs to a unit (a channel, a hidden unit, a head, with all that reads it) or to a single weight.
Penalty (eq. 7 and 12): the expected number of weights that are not zero, at :math:`\lambda_t` nats each in
tensor t,

.. math:: L = \frac1M\sum_m -\log p(y_m|x_m, \theta z) + \frac{1}{N}\sum_t \lambda_t\,E\|w_t\|_0,
          \qquad P(z \ne 0) = \sigma(\log\alpha - \beta\log(-\gamma/\zeta)).

Decision: the gate of eq. 13, :math:`\min(1, \max(0, \sigma(\log\alpha)(\zeta - \gamma) + \gamma))`, goes into
the weights. Units and weights where it is zero are removed. What is left is put on a grid as for every other
method.

The paper has one gate for the filters of a convolution and another one for the inputs of a linear layer. Here
both are gates of one coupled unit, and a weight is there if the units that it reads and makes are: its
probability is their product (see :mod:`laconic.methods.gated_units`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from laconic.bayes.gates import HardConcrete
from laconic.bayes.posteriors.hard_concrete import HardConcreteFamily, HardConcreteWeights
from laconic.bayes.prepare import deterministic_of, make_bayesian, plain_copy, posteriors_of, spread_of
from laconic.errors import InputError
from laconic.methods.common.grid_choice import GridChoice, choose_grid
from laconic.methods.common.levels import posterior_bits_facts
from laconic.methods.common.point import point_stats
from laconic.methods.common.rest import nonzeros, rest_of
from laconic.methods.common.units import with_units_told
from laconic.methods.contract import Compressed, Context, Judge, Method, warm_up_left
from laconic.methods.gated_units import (
    clamp_gates,
    expected_counts,
    gate_parameters,
    gate_units,
    gated_groups,
    split_groups,
    weights_in,
    weights_used,
    without_units,
)
from laconic.methods.gating import gates_of, gates_plan
from laconic.methods.registry import MethodEntry
from laconic.schedules import WarmUp


@dataclass(frozen=True)
class L0(Method):
    r"""L0 regularisation with the published defaults.

    Args:
        lambdas: Nats that each weight costs which is not zero: one number for all tensors, or one for each
            weight tensor, in the network's order (the paper's "sep": 10, 0.5, 0.1, 10 for LeNet-5).
        gates: "units" removes coupled units, "weights" single weights.
        cost: What ``lambdas`` are for: "weights", or the multiply-accumulates of one example ("macs").
        open_probability: Of a gate's concrete variable above one half at the start. The paper trains from
            scratch at 0.5; a trained network is disturbed less by 0.9.
        warm_up: Epochs between which the penalty's factor rises from 0 to 1.
        noise_lr: Learning rate of :math:`\log\alpha` as a multiple of the weights'.
        log_alpha_bounds: What :math:`\log\alpha` is clipped to after each step.
        inputs: Whether parts of the network's input have gates, too (with ``gates="units"``).
        grid: How the remaining weights are quantised.

    Raises:
        InputError: A setting outside its bounds.

    >>> import laconic
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net = laconic.prepare(net, L0(), torch.zeros(1, 4), data_size=100)
    >>> with torch.no_grad():  # as after training: three gates are closed
    ...     _ = net.laconic_gate_0_log_alpha[:3].fill_(-4.0)
    >>> laconic.convert(net).module[0].out_features
    5
    """

    lambdas: tuple[float, ...] = (0.1,)
    gates: Literal["units", "weights"] = "units"
    cost: Literal["weights", "macs"] = "weights"
    open_probability: float = 0.5
    warm_up: WarmUp = field(default_factory=lambda: WarmUp(0.0, 0.0))
    noise_lr: float = 1.0
    log_alpha_bounds: tuple[float, float] = (math.log(0.01), math.log(100.0))
    inputs: bool = False
    grid: GridChoice = field(default_factory=GridChoice)

    in_nats = True
    gentler = "lower lambdas"
    smaller = "higher lambdas, coarser grid.steps"

    @property
    def changes_architecture(self) -> bool:  # type: ignore[override]
        """Whether units are removed, or weights alone."""
        return self.gates == "units"

    def __post_init__(self) -> None:
        if not self.lambdas or not all(0 <= v < math.inf for v in self.lambdas) or not any(self.lambdas):
            raise InputError(
                f"lambdas are nats >= 0 for each weight, one of them above 0, got {self.lambdas}. Cure: 0.1"
            )
        if self.gates not in ("units", "weights") or self.cost not in ("weights", "macs"):
            raise InputError(
                f"gates is 'units' or 'weights', and cost 'weights' or 'macs', got {self.gates!r} and "
                f"{self.cost!r}. Cure: gates='units', cost='weights'"
            )
        if self.gates == "weights" and (self.inputs or self.cost == "macs"):
            raise InputError(
                f"inputs and cost='macs' are of units, got gates='weights', inputs={self.inputs} and "
                f"cost={self.cost!r}. Cure: gates='units'"
            )
        low, high = self.log_alpha_bounds
        if not 0 < self.open_probability < 1 or not low < self._start() < high or not self.noise_lr > 0:
            raise InputError(
                f"need open_probability in (0, 1), its log odds inside log_alpha_bounds and noise_lr > 0, "
                f"got {self.open_probability}, {self.log_alpha_bounds} and {self.noise_lr}. "
                "Cure: open_probability=0.5"
            )

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """Give every coupled unit, or every weight, a gate."""
        if self.gates == "units":
            start = self.open_probability
            net = gate_units(
                model, example, context, lambda g: HardConcrete.open(g.size, start), inputs=self.inputs
            )
            self._by_tensor(weights_used(net))
            return net
        net = make_bayesian(
            model,
            example=example,
            posterior=HardConcreteFamily(self.open_probability),
            noise=context.noise,
            policy=context.policy,
        )
        self._by_tensor(tuple(posteriors_of(net)))
        return net

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """``beta(epoch) * sum lambda E||w||_0`` over all weight tensors, nats."""
        if self.gates == "units":
            shares = {name: gate.penalty() for name, gate in gates_of(module).items()}
            counts = expected_counts(module, shares, macs=self.cost == "macs")
        else:
            counts = {name: q.open_probability().sum() for name, q in _gated_weights(module).items()}
        lambdas = self._by_tensor(tuple(counts))
        total = torch.stack([lambdas[name] * count for name, count in counts.items()]).sum()
        return self.warm_up.factor(context.epochs) * total

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        r"""Weights at ``lr``, :math:`\log\alpha` at ``noise_lr * lr``, never decayed."""
        apart = gate_parameters(module) if self.gates == "units" else spread_of(module)
        return split_groups(module, apart, lr, self.noise_lr)

    def step(self, module: nn.Module, context: Context) -> None:
        r"""Clip :math:`\log\alpha`."""
        if self.gates == "units":
            clamp_gates(module, *self.log_alpha_bounds)
        for q in posteriors_of(module).values():
            q.clamp_spread(*self.log_alpha_bounds)

    def weights_left(self, module: nn.Module) -> dict[str, int]:
        """Weights of each tensor whose gates are not closed."""
        if self.gates == "units":
            return weights_in(module, gates_plan(module, gated_groups(module)[0]))
        with torch.no_grad():
            return {n: int((q.expectation() != 0).sum()) for n, q in _gated_weights(module).items()}

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A warm-up that is not at its end."""
        return warm_up_left(self.warm_up, context)

    def planned_epochs(self) -> float:
        """Until the warm-up is over."""
        return self.warm_up.end

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Remove what is behind closed gates, fold the others in, and quantise what is left."""
        if self.gates == "units":
            plan = gates_plan(module, gated_groups(module)[0])
            small = without_units(module, plan, self.grid, context, judge)
            small = with_units_told(small, "higher lambdas")
        else:
            small = self._without_weights(module, context, judge)
        return replace(small, facts={**small.facts, "method": "l0"})

    def _without_weights(self, module: nn.Module, context: Context, judge: Judge | None) -> Compressed:
        policy = context.policy
        gated = {n: q for n, q in _gated_weights(module).items() if not policy.keeps(n)}
        with torch.no_grad():
            values = {n: np.asarray(q.expectation().cpu(), np.float32) for n, q in gated.items()}
        stats = {n: point_stats(n, w) for n, w in values.items()}
        keeps = {n: w != 0 for n, w in values.items()}
        for name, zero in context.removed.items():
            if name in keeps:
                keeps[name] &= ~zero
        told = posterior_bits_facts({n: q.stats(n) for n, q in gated.items()}, keeps)
        rest = rest_of(module, deterministic_of(module), policy)
        stats, keeps = {**stats, **rest.frozen}, {**keeps, **nonzeros(rest.frozen)}
        plain = plain_copy(module)
        small = choose_grid(plain, stats, keeps, rest.beside, self.grid, judge, context.example, context)
        return replace(small, facts={**small.facts, **told})

    def _by_tensor(self, names: tuple[str, ...]) -> dict[str, float]:
        """The price of a weight of each tensor."""
        if len(self.lambdas) not in (1, len(names)):
            raise InputError(
                f"lambdas has {len(self.lambdas)} numbers, the network has {len(names)} weight tensors "
                f"({', '.join(names)}). Cure: one number for all, or one for each in this order"
            )
        lambdas = self.lambdas * len(names) if len(self.lambdas) == 1 else self.lambdas
        return dict(zip(names, lambdas, strict=True))

    def _start(self) -> float:
        return math.log(self.open_probability / (1.0 - self.open_probability))


def _gated_weights(module: nn.Module) -> dict[str, HardConcreteWeights]:
    """The posteriors by name; ``prepare`` makes no others."""
    return {n: q for n, q in posteriors_of(module).items() if isinstance(q, HardConcreteWeights)}


# A trained network is the start, so gates begin nearly open, and move faster than the weights.
_TRAINED = {"open_probability": 0.9, "noise_lr": 5.0, "fit.schedule.flat": 0.5}
_FULL_LENET5 = {**_TRAINED, "lambdas": [10.0, 0.5, 0.1, 10.0], "fit.epochs": 100}
_FULL_LENET300 = {**_TRAINED, "lambdas": [0.1], "inputs": True, "fit.epochs": 100}
_FULL = {**_TRAINED, "fit.epochs": 60}
_SHORT = {"fit.epochs": 15, "reference.epochs": 3}

METHOD = MethodEntry(
    "l0",
    L0,
    presets={
        "full": {"lenet5": _FULL_LENET5, "lenet300": _FULL_LENET300, "": _FULL},
        "demo": {
            "lenet5": {**_FULL_LENET5, **_SHORT},
            "lenet300": {**_FULL_LENET300, **_SHORT},
            "": {**_FULL, "fit.epochs": 15},
        },
    },
    paper="Louizos, Welling & Kingma, Learning Sparse Neural Networks through L0 Regularization, ICLR 2018",
)
