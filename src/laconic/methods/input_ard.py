r"""Automatic relevance determination of inputs (MacKay 1994; Neal 1996).

The weights that read an input c share a precision, :math:`w_{ic} \sim N(0, 1/\alpha_c)`, and have the
posterior :math:`q(w_{ic}) = N(\mu_{ic}, s_{ic}^2)`. The precisions are set by empirical Bayes. Given the
posterior, the ELBO is highest at

.. math:: \frac1{\alpha_c} = \frac1{n_c}\sum_i(\mu_{ic}^2 + s_{ic}^2), \qquad
          KL_c = \tfrac12\Big(n_c\log\frac1{\alpha_c} - \sum_i \log s_{ic}^2\Big),

with :math:`n_c` weights. This is where MacKay's re-estimation :math:`\alpha_c = \gamma_c / \sum_i\mu_{ic}^2`
rests, with :math:`\gamma_c = n_c - \alpha_c\sum_i s_{ic}^2` well-determined weights: both say
:math:`\alpha_c\sum_i(\mu_{ic}^2 + s_{ic}^2) = n_c`. The KL of an input that explains nothing falls to zero,
where its means are zero and all its variances equal.

Decision: inputs are ranked by :math:`\gamma_c / n_c`, from 0 to 1, and the fewest stay that the validation
split allows. The network is then cut: it takes the whole input and reads the part that stays.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laconic.bayes.layers import Sampling, local_layers
from laconic.bayes.objective import check_kl_weight
from laconic.bayes.posteriors import GaussianFamily
from laconic.bayes.prepare import make_bayesian, plain_copy, posteriors_of, spread_of
from laconic.errors import InputError
from laconic.methods.common.grid_choice import GridChoice, choose_grid
from laconic.methods.common.group_marginals import Marginals, marginals
from laconic.methods.common.norms import better_norms
from laconic.methods.common.point import on_a_grid, point_stats
from laconic.methods.common.rest import nonzeros, rest_of
from laconic.methods.common.unit_choice import UnitChoice, choose_units
from laconic.methods.contract import Compressed, Context, Judge, Method, warm_up_left
from laconic.methods.registry import MethodEntry
from laconic.networks import duplicate
from laconic.networks.policy import weights_of
from laconic.networks.probe import check_model
from laconic.records import KeepPlan
from laconic.schedules import WarmUp
from laconic.structure import Coupling, Group, find_groups
from laconic.structure.by_score import plan_of_scores
from laconic.structure.coupling.groups import Member
from laconic.structure.coupling.sides import axes_of

_INPUTS = "_laconic_ard_inputs"
Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class _Inputs:
    """``coupling``: the inputs' groups. By group: ``clusters``, the precision of each unit; ``readers``, the
    weights that read it.
    """

    coupling: Coupling
    clusters: Mapping[str, Tensor]
    readers: Mapping[str, tuple[Member, ...]]


@dataclass(frozen=True)
class InputARD(Method):
    """Automatic relevance determination of inputs.

    Args:
        groups: Inputs that stay or go together, as ``[[0, 1, 2], [3, 4, 5]]`` for the axes of two sensors:
            indices along the input's axis of features or channels, or of pixels in flat order. Inputs in no
            group stand alone.
        kl_weight: Multiple of the KL (1 is the ELBO).
        warm_up: Epochs between which the KL's factor rises from 0 to 1.
        init_log_var: log s^2 at the start.
        noise_lr: Learning rate of log s^2 as a multiple of the means'.
        log_var_bounds: What log s^2 is clipped to after each step.
        threshold: Share of well-determined weights below which an input goes where no validation split
            decides.
        units: How the inputs that stay are chosen.
        grid: How the weights are quantised.
        sampling: As in :class:`SparseVD`.

    Raises:
        InputError: A setting outside its bounds; from ``prepare``: groups that do not fit the input.

    >>> InputARD(groups=((0, 1, 2), (3, 4, 5))).threshold
    0.05
    """

    groups: Groups = ()
    kl_weight: float = 1.0
    warm_up: WarmUp = field(default_factory=lambda: WarmUp(0.0, 5.0))
    init_log_var: float = -8.0
    noise_lr: float = 10.0
    log_var_bounds: tuple[float, float] = (-20.0, 4.0)
    threshold: float = 0.05
    units: UnitChoice = field(default_factory=lambda: UnitChoice(per_group=False))
    grid: GridChoice = field(default_factory=GridChoice)
    sampling: Sampling = "local"

    in_nats = True
    changes_architecture = True
    gentler = "lower kl_weight, lower units.max_drop"
    smaller = "higher kl_weight, higher units.max_drop, coarser grid.steps"

    def __post_init__(self) -> None:
        if not self.noise_lr > 0 or not self.log_var_bounds[0] < self.init_log_var < self.log_var_bounds[1]:
            raise InputError(
                f"noise_lr must be > 0 and init_log_var inside log_var_bounds, got {self.noise_lr}, "
                f"{self.init_log_var}, {self.log_var_bounds}. Cure: 10.0, -8.0, (-20.0, 4.0)"
            )
        if not 0 <= self.threshold < 1:
            raise InputError(f"threshold is a share from 0 to 1, got {self.threshold}. Cure: 0.05")
        if self.groups and self.units.per_group:
            raise InputError(
                "units.per_group would tear groups apart. Cure: units=UnitChoice(per_group=False)"
            )
        named = [i for group in self.groups for i in group]
        if len(set(named)) < len(named) or not all(self.groups) or any(i < 0 for i in named):
            raise InputError(
                f"groups must hold each index from 0 once, and at least one each, got {self.groups}. "
                "Cure: [[0, 1, 2], [3, 4, 5]]"
            )
        local_layers(self.sampling)

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """A posterior on every weight that reads a removable input; all others are trained as they are."""
        check_kl_weight(self.kl_weight, context.data_size)
        check_model(model, example)
        found = _inputs(model, find_groups(model, example), self.groups, bool(context.policy.keep))
        readers = {m.tensor for members in found.readers.values() for m in members}
        if not readers:
            warnings.warn(
                f"InputARD: no input of {type(model).__name__} can be removed, it is only quantised. "
                "Cure: a network that reads features or channels by a linear layer, a convolution without "
                "groups or a recurrent layer, and no names in keep",
                stacklevel=2,
            )
            net = duplicate(model)
        else:
            net = make_bayesian(
                model,
                example=example,
                posterior=GaussianFamily(self.init_log_var),
                noise=context.noise,
                select=lambda name, _: name in readers,
                sampling=self.sampling,
                policy=context.policy,
            )
        net.__dict__[_INPUTS] = found
        return net

    def penalty(self, module: nn.Module, context: Context) -> Tensor:
        """``beta(epoch) * kl_weight * sum KL_c`` at the optimal precisions, nats."""
        total = next(module.parameters()).new_zeros(())
        for sums in _sums(module).values():
            total = total + 0.5 * (sums.count * sums.prior_variance().log() - sums.log_variance).sum()
        return self.kl_weight * self.warm_up.factor(context.epochs) * total

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Log variances at ``noise_lr * lr``, never decayed; all others at ``lr``."""
        noise = spread_of(module) if _has_posteriors(module) else []
        ids = {id(p) for p in noise}
        rest = [p for p in module.parameters() if id(p) not in ids]
        return [{"params": rest, "lr": lr}] + (
            [{"params": noise, "lr": lr * self.noise_lr, "weight_decay": 0.0}] if noise else []
        )

    def step(self, module: nn.Module, context: Context) -> None:
        """Keep log variances inside their bounds."""
        if _has_posteriors(module):
            for q in posteriors_of(module).values():
                q.clamp_spread(*self.log_var_bounds)

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A warm-up that is not at its end."""
        return warm_up_left(self.warm_up, context)

    def planned_epochs(self) -> float:
        """Until the warm-up is over."""
        return self.warm_up.end

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Remove the inputs that validation can do without, and put the weights on the grid chosen there."""
        found: _Inputs = module.__dict__[_INPUTS]
        if not _has_posteriors(module):
            done = on_a_grid(duplicate(module), self.grid, context, judge)
            return replace(done, facts={**done.facts, "method": "input-ard", "inputs_left": {}})
        whole = plain_copy(module)
        norms = better_norms(whole, context, judge)
        shares = relevance(module)
        scores = {n: share[found.clusters[n]].cpu() for n, share in shares.items()}
        if judge is None:
            keeps = {n: s >= self.threshold for n, s in scores.items()}
            plan = plan_of_scores(keeps, scores, found.coupling)
        else:
            plan = choose_units(whole, found.coupling, scores, self.units, judge)
        if context.policy.keep:  # named since then: a network that selects renames its layers
            plan = KeepPlan({n: tuple(range(size)) for n, size in plan.sizes.items()}, plan.sizes)
        fewer = [n for n, kept in plan.kept.items() if len(kept) < plan.sizes[n]]
        cut = KeepPlan({n: plan.kept[n] for n in fewer}, {n: plan.sizes[n] for n in fewer})
        with torch.no_grad():
            moments = {n: q.moments() for n, q in posteriors_of(module).items()}
        left = marginals(moments, whole, found.coupling, found.coupling, cut)
        done = _quantised(left, self.grid, context, judge)
        facts = {
            **{f"{name}_of_all_inputs": value for name, value in norms.items()},
            "method": "input-ard",
            "inputs_left": {g.name: _indices(g, plan) for g in found.coupling.groups},
            "inputs_before": {g.name: g.size for g in found.coupling.groups},
            "relevance": {n: [round(float(v), 4) for v in share] for n, share in shares.items()},
            "left_whole": list(found.coupling.notes),
        }
        return replace(done, facts={**done.facts, **facts}, architecture_changed=True)


def relevance(module: nn.Module) -> dict[str, Tensor]:
    r"""By group of the network's inputs the share :math:`\gamma_c / n_c` of well-determined weights.

    Args:
        module: A network that was prepared with :class:`InputARD`.

    Returns:
        One number from 0 to 1 for each precision, in the order of the user's groups and then of the rest.

    >>> import laconic
    >>> net = laconic.prepare(nn.Linear(4, 2), InputARD(), torch.zeros(1, 4), data_size=10)
    >>> {name: tuple(shares.shape) for name, shares in relevance(net).items()}
    {'weight:1': (4,)}
    """
    with torch.no_grad():
        return {n: 1.0 - s.variance / s.second.clamp_min(1e-30) for n, s in _sums(module).items()}


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the weights of each precision, (precisions,)."""

    count: Tensor
    second: Tensor
    variance: Tensor
    log_variance: Tensor

    def prior_variance(self) -> Tensor:
        """The variance 1 / alpha that is best for the posterior."""
        return (self.second / self.count).clamp_min(1e-30)


def _sums(module: nn.Module) -> dict[str, _Sums]:
    found: _Inputs = module.__dict__[_INPUTS]
    if not _has_posteriors(module):
        return {}
    moments = {n: q.moments() for n, q in posteriors_of(module).items()}
    return {name: _sums_of(moments, found, name) for name in found.readers}


def _sums_of(moments: Mapping[str, tuple[Tensor, Tensor]], found: _Inputs, name: str) -> _Sums:
    clusters = found.clusters[name]
    parts: list[Tensor] = []
    for member in found.readers[name]:
        mean, variance = moments[member.tensor]
        units = torch.from_numpy(np.asarray(member.units)).long()
        ours = (units >= 0).to(mean.device)
        place = clusters[units.clamp_min(0)].to(mean.device)
        values = (torch.ones_like(mean), variance + mean.square(), variance, variance.clamp_min(1e-30).log())
        flat = torch.stack([v.movedim(member.axis, 0).flatten(1).sum(1) for v in values])
        sums = flat.new_zeros((4, int(clusters.max()) + 1))
        parts.append(sums.index_add(1, place[ours], flat[:, ours]))
    return _Sums(*torch.stack(parts).sum(0))


def _inputs(model: nn.Module, found: Coupling, groups: Groups, kept: bool) -> _Inputs:
    """The inputs' groups that weights read, and which precision each unit has."""
    weights = {n for n, p in weights_of(model).items() if p.requires_grad}
    tied = {n for names in found.tied for n in names}
    readers: dict[str, tuple[Member, ...]] = {}
    for group in found.groups:
        members = [m for m in group.members if m.tensor in weights]
        reads = tuple(m for m in members if axes_of(model, m.tensor)[1] == m.axis)
        if group.of_input and reads and group.name not in tied and not kept:  # selecting renames layers
            readers[group.name] = reads
    if groups and len(readers) != 1:
        raise InputError(
            f"groups need one input whose parts can be removed, {type(model).__name__} has {len(readers)}: "
            f"{', '.join(readers) or 'none'}. Cure: no groups"
        )
    chosen = tuple(g for g in found.groups if g.name in readers)
    clusters = {g.name: _clusters(g, groups) for g in chosen}
    return _Inputs(replace(found, groups=chosen, tied=()), clusters, readers)


def _clusters(group: Group, groups: Groups) -> Tensor:
    """(units,) the precision of each unit: the user's groups first, then one for each unit that is left."""
    units = _input_of(group).units
    cluster = np.full(group.size, -1)
    for number, indices in enumerate(groups):
        if max(indices) >= len(units) or (units[list(indices)] < 0).any():
            raise InputError(
                f"groups[{number}] is {list(indices)}, but the input has {len(units)} parts that can be "
                f"removed. Cure: indices from 0 to {len(units) - 1}"
            )
        cluster[units[list(indices)]] = number
    alone = cluster < 0
    cluster[alone] = len(groups) + np.arange(int(alone.sum()))
    return torch.from_numpy(cluster).long()


def _input_of(group: Group) -> Member:
    return next(m for m in group.members if m.tensor.startswith("input") and m.tensor[5:].isdigit())


def _indices(group: Group, plan: KeepPlan) -> list[int]:
    """The positions along the input's axis that stay."""
    return np.flatnonzero(np.isin(_input_of(group).units, plan.kept[group.name])).tolist()


def _has_posteriors(module: nn.Module) -> bool:
    return bool(module.__dict__[_INPUTS].readers)


def _quantised(left: Marginals, grid: GridChoice, context: Context, judge: Judge | None) -> Compressed:
    """The cut network on a grid: weights with a posterior by its variance, others as point estimates."""
    small, policy = left.small, context.policy
    plain = {n: w.detach().cpu().float().numpy() for n, w in weights_of(small, policy=policy).items()}
    stats = {**{n: point_stats(n, w) for n, w in plain.items()}, **left.stats}
    keeps = {n: left.alive.get(n, np.ones(s.mean.shape, bool)) for n, s in stats.items()}
    for name, zero in context.removed.items():
        for own in (name, f"net.{name}"):
            if own in keeps and keeps[own].shape == zero.shape:
                keeps[own] = keeps[own] & ~zero
    rest = rest_of(small, {n: p for n, p in small.named_parameters() if n not in stats}, policy)
    stats, keeps = {**stats, **rest.frozen}, {**keeps, **nonzeros(rest.frozen)}
    return choose_grid(small, stats, keeps, rest.beside, grid, judge, context.example, context)


_FULL = {"fit.epochs": 60, "fit.schedule.flat": 0.6, "warm_up.end": 10.0, "units.max_drop": 0.1}
_SHORT = {**_FULL, "fit.epochs": 8, "warm_up.end": 2.0, "fit.lr": 0.002, "noise_lr": 20.0}

METHOD = MethodEntry(
    "input-ard",
    InputARD,
    presets={
        "full": {"": _FULL},
        "demo": {"lenet300": {**_SHORT, "reference.epochs": 3}, "": _SHORT},
    },
    paper="MacKay, Bayesian Non-linear Modelling for the Prediction Competition, ASHRAE Transactions 1994",
)
