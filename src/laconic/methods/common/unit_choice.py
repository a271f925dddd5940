"""Which units stay: a threshold on their scores that the validation split allows, then group by group.

Scores come from gates (:mod:`laconic.bayes.gates`): the higher, the more a unit matters. A candidate is the
network itself in which the removed units are zero. First one threshold serves all groups, the strongest that
is allowed. Then each group may lose more of its lowest units alone, as long as this is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.methods.common.allowances import within
from laconic.methods.contract import Judge, Score
from laconic.progress import steps
from laconic.records import KeepPlan
from laconic.structure import Coupling
from laconic.structure.by_score import plan_of_scores
from laconic.structure.shrinking import masked

Scores = Mapping[str, Tensor]


@dataclass(frozen=True)
class UnitChoice:
    """How thresholds are tried, and how much worse than the network with all units the pruned one may be.

    Args:
        thresholds: Scores below which units go that are tried. Empty: each of ``tries`` thresholds leaves
            a fixed share of the units that the one before leaves.
        tries: Thresholds tried where ``thresholds`` is empty.
        per_group: Whether each group may then lose more units alone.
        max_drop: What the task's metric may lose on the validation split, in its unit (None: half of what
            the metric tolerates; under a target half of the target).
        max_nll_ratio: The same for the negative log-likelihood, as a factor >= 1.

    Raises:
        InputError: A setting outside its bounds.

    >>> UnitChoice().per_group
    True
    """

    thresholds: tuple[float, ...] = ()
    tries: int = 24
    per_group: bool = True
    max_drop: float | None = None
    max_nll_ratio: float = 1.1

    def __post_init__(self) -> None:
        if self.tries < 1 or any(t != t for t in self.thresholds):
            raise InputError(
                f"units: tries must be >= 1 and thresholds numbers, got {self.tries} and {self.thresholds}. "
                "Cure: tries=24"
            )
        if (self.max_drop is not None and not self.max_drop >= 0) or not self.max_nll_ratio >= 1:
            raise InputError(
                f"units: max_drop must be >= 0 and max_nll_ratio >= 1, got {self.max_drop} and "
                f"{self.max_nll_ratio}. Cure: max_drop=0.1, max_nll_ratio=1.1"
            )


@dataclass(frozen=True, eq=False)
class _Trial:
    """What a plan is judged by."""

    net: nn.Module
    coupling: Coupling
    judge: Judge
    choice: UnitChoice
    before: Score

    def accepts(self, plan: KeepPlan) -> bool:
        """Whether the network without the removed units is near enough to the whole one."""
        with masked(self.net, self.coupling, plan) as small:
            score = self.judge.evaluate(small)
        near = within(score.nll, self.before.nll, self.choice.max_nll_ratio - 1)
        return near and self.judge.accepts(score, self.before, self._allowance())

    def _allowance(self) -> float:
        if self.choice.max_drop is not None:
            return self.choice.max_drop
        return 0.5 * self.judge.metric.allowance(self.before.metric)


def choose_units(
    net: nn.Module, coupling: Coupling, scores: Scores, choice: UnitChoice, judge: Judge
) -> KeepPlan:
    """The fewest units that the validation split allows.

    Args:
        net: A plain network with all units; it is left as it was.
        coupling: Its groups, and others whose members may be zeroed.
        scores: By group, one number a unit.
        choice: What is tried and allowed.
        judge: Scores candidates.

    Returns:
        The units that stay; all of them where no removal is allowed.

    >>> from laconic.structure import find_groups
    >>> layers = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> coupling = find_groups(layers, torch.zeros(1, 2))
    >>> judge = Judge(lambda net: Score(0.0, float(net[0].bias[2] == 0), 1))  # the third unit is needed
    >>> scores = {"0.weight:0": torch.tensor([1.0, 3.0, 2.0])}
    >>> choose_units(layers, coupling, scores, UnitChoice(), judge).kept
    {'0.weight:0': (1, 2)}
    """
    target = judge.target
    if target.max_drop is not None:  # the grid, which comes next, takes its part
        judge = replace(judge, target=replace(target, max_drop=0.5 * target.max_drop))
    trial = _Trial(net.eval(), coupling, judge, choice, judge.evaluate(net))
    plan = _by_one_threshold(trial, scores)
    return _group_by_group(trial, scores, plan) if choice.per_group else plan


def plan_at(scores: Scores, threshold: float, coupling: Coupling) -> KeepPlan:
    """The units whose score reaches a threshold."""
    return plan_of_scores({n: s >= threshold for n, s in scores.items()}, scores, coupling)


def _by_one_threshold(trial: _Trial, scores: Scores) -> KeepPlan:
    """The strongest of the thresholds that are allowed; two refusals in a row end the search."""
    best, refused = plan_at(scores, -torch.inf, trial.coupling), 0
    thresholds = sorted(trial.choice.thresholds) or _spread(scores, trial.choice.tries)
    with steps("thresholds", len(thresholds)) as advance:
        for threshold in thresholds:
            plan = plan_at(scores, threshold, trial.coupling)
            if refused < 2 and plan.kept != best.kept:
                accepted = trial.accepts(plan)
                best, refused = (plan, 0) if accepted else (best, refused + 1)
            advance()
    return best


def _spread(scores: Scores, tries: int) -> list[float]:
    """Thresholds at which the units left fall by one factor from each to the next, down to two a group."""
    flat = torch.cat([s.flatten() for s in scores.values()]).sort().values
    least = min(len(flat), 2 * len(scores))
    shares = torch.linspace(0.0, 1.0, tries + 1)[1:]
    left = len(flat) * (least / len(flat)) ** shares
    return [float(flat[len(flat) - max(1, int(n))]) for n in left.round()]


def _group_by_group(trial: _Trial, scores: Scores, plan: KeepPlan) -> KeepPlan:
    """Take an eighth of each group's units, the lowest, again and again while this is allowed."""
    open_groups = [n for n in scores if len(plan.kept[n]) > 1]
    with steps("units", len(open_groups)) as advance:
        while open_groups:
            for name in list(open_groups):
                fewer = _without_lowest(scores, plan, name, trial.coupling)
                if fewer.kept != plan.kept and trial.accepts(fewer):
                    plan = fewer
                    continue
                open_groups.remove(name)
                advance()
    return plan


def _without_lowest(scores: Scores, plan: KeepPlan, name: str, coupling: Coupling) -> KeepPlan:
    """The plan without the lowest eighth of a group, at least one unit."""
    keeps = {}
    for group, score in scores.items():
        keeps[group] = torch.zeros(len(score), dtype=torch.bool)
        keeps[group][list(plan.kept[group])] = True
    kept = torch.tensor(plan.kept[name])
    lowest = scores[name][kept].argsort()[: max(1, len(kept) // 8)]
    keeps[name][kept[lowest]] = False
    return plan_of_scores(keeps, scores, coupling)
