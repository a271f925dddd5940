"""Whether a quantised network is near enough to the pruned one, and what is told of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from laconic.methods.common.grid_settings import GridChoice
from laconic.methods.contract import Judge, Score


def within(nll: float, before: float, share: float) -> bool:
    """Whether a likelihood is at most ``share`` of its own size worse than before; it may be negative."""
    return nll <= before + share * abs(before)


def allowed(score: Score, kl: float | None, choice: GridChoice, judge: Judge, before: Score) -> bool:
    """Whether a network is near enough to the pruned one: by its predictions where they are measured, else by
    metric and likelihood.

    Args:
        score: The network's on the validation split.
        kl: Nats per term from the pruned network's predictions; None where this is not measured.
        choice: The allowances.
        judge: Holds the target, which takes the place of an allowance.
        before: The pruned network's score.
    """
    if kl is not None and choice.max_kl is not None:
        return kl <= choice.max_kl
    near = within(score.nll, before.nll, choice.max_nll_ratio - 1)
    return near and judge.accepts(score, before, choice.max_drop)


def replaced(choice: GridChoice, judge: Judge) -> tuple[str, ...]:
    """Names of the allowances that were set and that the target takes the place of.

    >>> from laconic.methods.contract import Target
    >>> judge = Judge(lambda network: Score(2.0, 0.1, 10), None, Target(max_drop=1))
    >>> replaced(GridChoice(max_kl=0.001), judge)
    ('max_kl',)
    """
    target = judge.target
    if (target.max_drop, target.max_bytes) == (None, None):
        return ()
    takes = ("max_kl", "max_drop") if target.max_bytes is None else ("max_kl", "max_drop", "max_nll_ratio")
    return tuple(name for name in _set(choice) if name in takes)


def unused(choice: GridChoice, judge: Judge) -> str:
    """A note on the allowances that were set and are not looked at; empty where there is none."""
    names, why = replaced(choice, judge), "a target was given, which decides alone"
    cure = "give no target"
    if not names and choice.max_kl is not None and judge.divergence is None:
        names, why = ("max_kl",), "nothing measures how far predictions are"
        cure = "Judge(divergence=...)"
    if not names:
        return ""
    was, it = ("was", "it") if len(names) == 1 else ("were", "them")
    return f"grid: {_given(choice, names)} {was} not looked at: {why}. Cure: leave {it} out, or {cure}"


def outcome(
    choice: GridChoice, judge: Judge, before: Score, after: Score, kl: float | None, near: bool, tried: int
) -> tuple[bool, str]:
    """Whether the finished network keeps the allowances that were set, and a sentence that tells it.

    Args:
        choice: The allowances.
        judge: Holds the target and the metric.
        before: The pruned network's score.
        after: The finished network's.
        kl: Nats per term from the pruned network's predictions to the finished network's; None where this is
            not measured.
        near: Whether the grid was within the allowances, biases not counted.
        tried: How many grids there were to choose from.

    Returns:
        True and an empty sentence where nothing was set that is looked at.
    """
    given = [name for name in _set(choice) if name not in replaced(choice, judge)]
    if kl is not None:
        given = ["max_kl"]
    if not given or (kl is None and choice.max_kl is not None) or judge.target.max_bytes is not None:
        return True, ""
    metric = judge.metric
    if kl is not None:
        found = f"the predictions are {kl:.3g} nats per term from the pruned network's"
    else:
        found = (
            f"by the grids the {metric.name} went from {metric.show(before.metric)} to "
            f"{metric.show(after.metric)}, the nats per term from {before.nll:.3g} to {after.nll:.3g}"
        )
    met = allowed(after, kl, choice, judge, before)
    told = f"grid: {_given(choice, given)} {'met' if met else 'missed'}: {found}, on the validation split"
    if met:
        return True, told
    if near:
        return False, f"{told}; the weights alone are within. Cure: wider grid.bias_bits"
    loose = f"grid.max_kl={1.05 * kl:.2g}" if kl is not None else f"a higher grid.{given[0]}"
    return False, f"{told}, the least of {tried} grids. Cure: finer grid.steps, or {loose}"


def _set(choice: GridChoice) -> list[str]:
    """Names of the allowances that differ from their defaults."""
    usual = {field.name: field.default for field in fields(choice)}
    names = ("max_kl", "max_drop", "max_nll_ratio")
    return [name for name in names if getattr(choice, name) != usual[name]]


def _given(choice: GridChoice, names: list[str] | tuple[str, ...]) -> str:
    return " and ".join(f"{name}={getattr(choice, name):g}" for name in names)


def reachable(
    bytes_more: int, divergence: float | None, drop: float | None, *, keeps: bool
) -> dict[str, Any]:
    """The fact that says what keeps the limits of the loss where a file that is short enough does not.

    Args:
        bytes_more: How much longer the shortest file that keeps them is than the one that is returned or,
            where none keeps them, how much longer the one is that loses least.
        divergence: Its predictions' from the original's, in nats per term; None where that is not measured.
        drop: How much worse its metric is, in the metric's unit; None where nothing limits it.
        keeps: Whether it keeps the limits.
    """
    return {"bytes_more": bytes_more, "divergence": divergence, "drop": drop, "keeps": keeps}
