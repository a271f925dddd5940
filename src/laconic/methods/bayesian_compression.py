r"""Bayesian compression (Louizos, Ullrich & Welling, NIPS 2017, arXiv 1705.08665): BC-GNJ and BC-GHS.

Weights of a group share a random scale, :math:`w_{ij} = z_i\tilde w_{ij}` (eq. 2), with
:math:`q(\tilde w_{ij}) = N(\mu_{ij}, \sigma_{ij}^2)` and the prior :math:`\tilde w_{ij} \sim N(0, 1)`. The
scales decide which groups go:

- ``normal-jeffreys`` (BC-GNJ, section 4.1): :math:`p(z) \propto 1/|z|`, q(z) Gaussian;
- ``horseshoe`` (BC-GHS, section 4.2): half-Cauchy scales, one per unit and one shared, log-normal posteriors.

.. math:: L = E_q[-\log p(D|z, \tilde w)] + KL(q(z)\|p(z)) + \sum KL(q(\tilde w)\|p(\tilde w))

(eq. 5). The groups are the network's coupled units (:mod:`laconic.structure`): input units, hidden units and
channels with all that reads them, LSTM units, attention heads. A unit has one scale wherever it is read, also
in a residual network, so that units whose scale goes can be removed from the network. A linear layer that
reads a unit at several positions (a flattened channel) has a scale for each position besides, as in the
paper; columns of such positions become zero.

Decision: by scores of the scales (log alpha; log-normal modes) against a threshold that the validation split
chooses, for the network and then group by group (:mod:`laconic.methods.common.unit_choice`). The weights that
are left have mean :math:`E[z]\mu` and the marginal variance of section 4.3, which says how many bits a layer
needs (:mod:`laconic.quantize.posterior_bits`) and, as in every method here, in which steps they are stored.

Two things differ from the authors' code. One z is drawn a pass, not one an example. And a tensor's prior is
:math:`N(0, c^2)` with c its root mean square at the start: with z in the unit 1/c this is the same model for
BC-GNJ, whose prior has no unit, and another unit of the shared scale for BC-GHS. Scales then start at 1
beside weights that are in the middle of their prior. ``weight_std=1`` gives the paper's letter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import nn

from laconic.bayes.gates import Gate
from laconic.bayes.kl import kl_total
from laconic.bayes.layers import Sampling, local_layers
from laconic.bayes.objective import check_kl_weight
from laconic.bayes.posteriors import GaussianFamily
from laconic.bayes.prepare import make_bayesian, posteriors_of, spread_of
from laconic.bayes.priors import Normal
from laconic.bayes.scales import Horseshoe, NormalJeffreys
from laconic.errors import InputError, ModelError
from laconic.methods.common.grid_choice import GridChoice, choose_grid
from laconic.methods.common.group_marginals import marginals, positions_read
from laconic.methods.common.levels import posterior_bits_facts
from laconic.methods.common.merit import merit_facts
from laconic.methods.common.norms import better_norms
from laconic.methods.common.rest import nonzeros, rest_of
from laconic.methods.common.unit_choice import UnitChoice, choose_units
from laconic.methods.common.units import unit_facts, with_units_told
from laconic.methods.contract import Compressed, Context, Judge, Method, warm_up_left
from laconic.methods.gated_moments import gated_moments
from laconic.methods.gating import PREFIX, attach_gates, fold_gates, gates_of
from laconic.methods.registry import MethodEntry
from laconic.networks.policy import is_bias
from laconic.networks.probe import check_model
from laconic.schedules import WarmUp
from laconic.structure import Coupling, Group, find_groups
from laconic.structure.by_score import plan_of_scores
from laconic.structure.coupling.groups import left_whole, without_inputs

Scales = Literal["normal-jeffreys", "horseshoe"]
_COUPLING = "_laconic_scaled_groups"
_STDS = "laconic_prior_stds"


@dataclass(frozen=True)
class BayesianCompression(Method):
    """Group-wise scale mixtures with the published defaults.

    Args:
        scales: ``normal-jeffreys`` (BC-GNJ) or ``horseshoe`` (BC-GHS).
        kl_weight: Multiple of the KL (1 is the ELBO).
        warm_up: Epochs between which the KL's factor rises from 0 to 1.
        init_log_var: log sigma^2 of weights and scales at the start.
        noise_lr: Learning rate of log variances as a multiple of the means'.
        gate_lr: Learning rate of the scales' means as a multiple of the weights'.
        log_var_bounds: What log variances are clipped to after each step.
        first_variance: Share of its prior's variance to which the variances of the first layer's weights are
            clipped (None: not at all). The authors' code takes 0.04.
        weight_std: Standard deviation of the weights' prior (None: each tensor's root mean square at the
            start).
        bias_std: Standard deviation of a normal prior on biases, whose negative logarithm is added to the
            penalty; None: no prior. The paper's is 1.
        tau: Scale of the shared half-Cauchy prior (horseshoe alone).
        inputs: Whether parts of the network's input have scales and may be removed.
        positions: Whether the positions of a unit that a linear layer reads have scales of their own.
        units: How the units that stay are chosen.
        grid: How the remaining weights are quantised.
        sampling: As in :class:`SparseVD`.

    Raises:
        InputError: A setting outside its bounds.

    >>> BayesianCompression("horseshoe").tau
    1e-05
    """

    scales: Scales = "normal-jeffreys"
    kl_weight: float = 1.0
    warm_up: WarmUp = field(default_factory=lambda: WarmUp(0.0, 5.0))
    init_log_var: float = -9.0
    noise_lr: float = 1.0
    gate_lr: float = 1.0
    log_var_bounds: tuple[float, float] = (-20.0, 4.0)
    first_variance: float | None = 0.04
    weight_std: float | None = None
    bias_std: float | None = None
    tau: float = 1e-5
    inputs: bool = True
    positions: bool = True
    units: UnitChoice = field(default_factory=UnitChoice)
    grid: GridChoice = field(default_factory=GridChoice)
    sampling: Sampling = "local"

    in_nats = True
    changes_architecture = True
    gentler = "lower kl_weight, lower units.max_drop"
    smaller = "higher kl_weight, higher units.max_drop, coarser grid.steps"

    def __post_init__(self) -> None:
        if self.scales not in get_args(Scales):
            raise InputError(
                f"scales must be one of {', '.join(get_args(Scales))}, got {self.scales!r}"
                f". Cure: scales='{get_args(Scales)[0]}'"
            )
        if not (self.noise_lr > 0 and self.gate_lr > 0):
            raise InputError(
                f"noise_lr and gate_lr must be > 0, got {self.noise_lr} and {self.gate_lr}. Cure: 1"
            )
        if not self.log_var_bounds[0] < self.init_log_var < self.log_var_bounds[1]:
            raise InputError(
                f"init_log_var must lie inside log_var_bounds, got {self.init_log_var}, {self.log_var_bounds}"
                ". Cure: init_log_var=-9, log_var_bounds=(-20, 4)"
            )
        for name in ("first_variance", "weight_std", "bias_std", "tau"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be finite and > 0, got {value}. Cure: {name}=1")
        local_layers(self.sampling)

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """A posterior on every weight and a scale on every unit that some weight reads."""
        check_kl_weight(self.kl_weight, context.data_size)
        check_model(model, example)
        coupling = self._groups(model, example, context)
        net = make_bayesian(
            model,
            example=example,
            posterior=GaussianFamily(self.init_log_var),
            noise=context.noise,
            sampling=self.sampling,
            policy=context.policy,
        )
        extended = positions_read(net, coupling) if self.positions else coupling
        net = attach_gates(net, extended, self._gate, context.noise)
        means = [q.expectation().detach() for q in posteriors_of(net).values()]
        stds = [self.weight_std or float(m.square().mean().sqrt()) or 1.0 for m in means]
        net.register_buffer(_STDS, torch.tensor(stds))
        net.__dict__[_COUPLING] = (coupling, extended)
        return net

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """``beta * kl_weight * (KL of the weights + KL of the scales)``, nats; BC-GNJ up to a constant."""
        stds = module.get_buffer(_STDS).tolist()
        weights = zip(posteriors_of(module).values(), stds, strict=True)
        parts = [kl_total(q, Normal(std=std)) for q, std in weights]
        parts += [gate.penalty().sum() for gate in gates_of(module).values()]
        if self.bias_std is not None:
            biases = (p for n, p in module.named_parameters() if is_bias(n) and not n.startswith(PREFIX))
            parts += [0.5 * (b / self.bias_std).square().sum() for b in biases]
        return self.kl_weight * self.warm_up.factor(context.epochs) * torch.stack(parts).sum()

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Weights at ``lr``, scales at ``gate_lr * lr``, log variances at ``noise_lr * lr``; neither of the
        last two is decayed.
        """
        gates = {n: p for n, p in module.named_parameters(recurse=False) if n.startswith(PREFIX)}
        noise = [*spread_of(module), *(p for n, p in gates.items() if n.endswith("log_var"))]
        scales = [p for n, p in gates.items() if not n.endswith("log_var")]
        apart = {id(p) for p in (*noise, *scales)}
        rest = [p for p in module.parameters() if id(p) not in apart]
        return [
            {"params": rest, "lr": lr},
            {"params": scales, "lr": lr * self.gate_lr, "weight_decay": 0.0},
            {"params": noise, "lr": lr * self.noise_lr, "weight_decay": 0.0},
        ]

    def step(self, module: nn.Module, context: Context) -> None:
        """Keep log variances inside their bounds."""
        posteriors = list(posteriors_of(module).values())
        for q in posteriors:
            q.clamp_spread(*self.log_var_bounds)
        for gate in gates_of(module).values():
            gate.clamp(*self.log_var_bounds)  # type: ignore[attr-defined]
        if self.first_variance is not None:
            std = float(module.get_buffer(_STDS)[0])
            low, high = self.log_var_bounds
            posteriors[0].clamp_spread(low, max(low, min(high, math.log(self.first_variance * std**2))))

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A warm-up that is not at its end."""
        return warm_up_left(self.warm_up, context)

    def planned_epochs(self) -> float:
        """Until the warm-up is over."""
        return self.warm_up.end

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Remove the units that validation can do without, and put the rest on the grid chosen there."""
        coupling, extended = module.__dict__[_COUPLING]
        whole = fold_gates(module)
        norms = better_norms(whole, context, judge)
        gates = gates_of(module)
        scores = {name: gate.score().detach().cpu() for name, gate in gates.items()}  # type: ignore[attr-defined]
        if judge is None:
            keeps = {name: gate.keep().cpu() for name, gate in gates.items()}
            plan = plan_of_scores(keeps, scores, extended)
        else:
            plan = choose_units(whole, extended, scores, self.units, judge)
        left = marginals(gated_moments(module), whole, coupling, extended, plan)
        kept = context.policy.keeps
        stats = {n: s for n, s in left.stats.items() if not kept(n)}
        keeps_of = {n: left.alive[n] & (s.mean != 0) for n, s in stats.items()}
        others = {n: p for n, p in left.small.named_parameters() if n not in stats}
        rest = rest_of(left.small, others, context.policy)
        done = choose_grid(
            left.small,
            {**stats, **rest.frozen},
            {**keeps_of, **nonzeros(rest.frozen)},
            rest.beside,
            self.grid,
            judge,
            context.example,
            context,
        )
        own = {group.name for group in coupling.groups}  # positions of a unit are none
        facts = {
            **{f"{name}_of_all_units": value for name, value in norms.items()},
            "method": "bayesian-compression",
            "scales": self.scales,
            **unit_facts(module, coupling, {n: k for n, k in plan.kept.items() if n in own}),
            "left_whole": list(coupling.notes),
            **posterior_bits_facts(stats, keeps_of),
            **merit_facts(left.before, stats, left.alive, done.tensors),
        }
        done = replace(done, facts={**done.facts, **facts}, architecture_changed=True)
        return with_units_told(done, "a higher kl_weight, a higher units.max_drop")

    def _groups(self, model: nn.Module, example: Any, context: Context) -> Coupling:
        """The groups that have scales; raises ModelError where there is none."""
        found = find_groups(model, example)
        kept = [g.name for g in found.groups if any(context.policy.keeps(m.tensor) for m in g.members)]
        with_inputs = self.inputs and not context.policy.keep  # a network that selects renames its layers
        coupling = found if with_inputs else without_inputs(found)
        kept = [n for n in kept if any(g.name == n for g in coupling.groups)]
        coupling = left_whole(coupling, kept, "keep names one of its tensors")
        if not coupling.groups:
            told = "; ".join(coupling.notes) or "its layers are all inputs or outputs"
            raise ModelError(
                f"{type(model).__name__} has no group of coupled units that a scale could remove: {told}. "
                "Cure: a method that decides by weight, as SparseVD(), or fewer names in keep"
            )
        return coupling

    def _gate(self, group: Group) -> Gate:
        if self.scales == "horseshoe":
            return Horseshoe.open(group.size, self.init_log_var, self.tau)
        return NormalJeffreys.open(group.size, self.init_log_var)


# From a network that was trained plainly. The authors' clip of the first layer's variances is left out: no
# weight of that layer could then reach its prior, which costs one nat for each whether it is needed or not.
_FULL = {
    "first_variance": None,
    "noise_lr": 5.0,
    "warm_up.end": 10.0,
    "units.max_drop": 0.05,
    "grid.max_drop": 0.05,
    "grid.max_nll_ratio": 1.08,
    "fit.epochs": 100,
    "fit.schedule.flat": 0.6,
}
# At a KL weight of 1 LeNet-300-100 keeps 203-27-21 units and errs on 2.64 % (studies/README.md).
_LENET300 = {**_FULL, "kl_weight": 0.2, "fit.epochs": 60}
_LENET5 = {**_FULL, "kl_weight": 0.5, "fit.epochs": 60}
_SHORT = {"fit.epochs": 8, "noise_lr": 20.0, "gate_lr": 3.0, "warm_up.end": 2.0, "fit.lr": 0.002}
_SHORT_MNIST = {**_FULL, **_SHORT, "reference.epochs": 3}

METHOD = MethodEntry(
    "bayesian-compression",
    BayesianCompression,
    presets={
        "full": {"lenet5": _LENET5, "lenet300": _LENET300, "": {**_FULL, "fit.epochs": 60}},
        "demo": {"lenet5": _SHORT_MNIST, "lenet300": _SHORT_MNIST, "": {**_FULL, **_SHORT}},
    },
    paper="Louizos, Ullrich & Welling, Bayesian Compression for Deep Learning, NIPS 2017",
)
