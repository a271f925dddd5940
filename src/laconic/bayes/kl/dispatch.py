"""KL(posterior || prior) by the two types, as torch.distributions does it, without its silent choices.

Each pair's rule has a file of its own and is registered by :func:`register_kl`. The most specific rule is
taken. Two rules of which neither is more specific are an error, and so is a pair without a rule: there is no
estimate by sampling in its place, since the nats are reported as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from inspect import isabstract
from typing import Any, TypeVar

import torch
from torch import Tensor

from laconic.errors import InputError, NoKLRuleError

AnyRule = Callable[[Any, Any], Tensor]
Rule = TypeVar("Rule", bound=AnyRule)


class KLTable:
    """Rules by (posterior type, prior type)."""

    def __init__(self) -> None:
        self._rules: dict[tuple[type, type], AnyRule] = {}
        self._totals: dict[AnyRule, AnyRule] = {}

    def register(
        self, posterior: type, prior: type, total: AnyRule | None = None, *, replace: bool = False
    ) -> Callable[[Rule], Rule]:
        """A decorator that registers a rule for a pair of types; a pair has one rule.

        Args:
            posterior: The posterior's class.
            prior: The prior's class.
            total: A quicker way to the rule's sum over all weights, if there is one.
            replace: Whether the rule takes the place of one that is there, as in a notebook cell that is run
                again.

        Raises:
            NoKLRuleError: The pair has a rule, and ``replace`` is false.
        """

        def registered(rule: Rule) -> Rule:
            if (posterior, prior) in self._rules and not replace:
                pair = f"{posterior.__name__}, {prior.__name__}"
                raise NoKLRuleError(
                    f"KL({posterior.__name__} || {prior.__name__}) has a rule already. "
                    f"Cure: @register_kl({pair}, replace=True) to replace it, as in a notebook cell that is "
                    "run again"
                )
            self._rules[posterior, prior] = rule
            if total is not None:
                self._totals[rule] = total
            return rule

        return registered

    def total(self, posterior: type, prior: type) -> AnyRule:
        """The sum over all weights by the rule of :meth:`find`."""
        rule = self.find(posterior, prior)
        return self._totals.get(rule) or (lambda q, p: rule(q, p).sum())

    def find(self, posterior: type, prior: type) -> AnyRule:
        """The most specific rule for two types; raises NoKLRuleError if there is none or no single one."""
        fitting = [
            pair for pair in self._rules if issubclass(posterior, pair[0]) and issubclass(prior, pair[1])
        ]
        best = [pair for pair in fitting if all(_at_least_as_specific(pair, other) for other in fitting)]
        if best:  # at most one: pairs are distinct
            return self._rules[best[0]]
        names = f"KL({posterior.__name__} || {prior.__name__})"
        if not fitting:
            pair = f"{posterior.__name__}, {prior.__name__}"
            raise NoKLRuleError(
                f"no rule for {names}. {self._partners(posterior, prior)}. Cure: one of these pairs, or a "
                f"function (q, p) that returns nats, decorated with @laconic.bayes.register_kl({pair}) and "
                "imported before training"
            )
        rivals = ", ".join(f"({q.__name__}, {p.__name__})" for q, p in fitting)
        raise NoKLRuleError(
            f"{names} is ambiguous between the rules {rivals}. Cure: register one for exactly this pair"
        )

    def _partners(self, posterior: type, prior: type) -> str:
        """With which priors the posterior has rules, and the prior with which posteriors."""
        priors = ", ".join(_named(p) for q, p in self._rules if issubclass(posterior, q))
        posteriors = ", ".join(q.__name__ for q, p in self._rules if issubclass(prior, p))
        return (
            f"{posterior.__name__} has rules with the priors: {priors or 'none'}; {prior.__name__} with the "
            f"posteriors: {posteriors or 'none'}"
        )

    def pairs(self) -> tuple[tuple[type, type], ...]:
        """All pairs that have a rule, in the order of registration."""
        return tuple(self._rules)


def _named(prior: type) -> str:
    """A prior's class; an abstract one stands for all of its subclasses."""
    return f"any {prior.__name__}" if isabstract(prior) else prior.__name__


def _at_least_as_specific(pair: tuple[type, type], other: tuple[type, type]) -> bool:
    return issubclass(pair[0], other[0]) and issubclass(pair[1], other[1])


# Filled once, at import, by the pair files; never changed by a call.
TABLE = KLTable()
register_kl = TABLE.register


def kl_divergence(q: Any, p: Any) -> Tensor:
    r""":math:`KL(q\,\|\,p)` in nats by independent parts, differentiable in the posterior's parameters.

    .. math:: KL(q\,\|\,p) = \int q(w)\log\frac{q(w)}{p(w)}\,dw

    Args:
        q: A posterior.
        p: A prior; of an improper one (``p.improper``) the value is known up to a constant.

    Returns:
        One number for each part: single weights for a Gaussian, whole groups for a family whose weights share
        a number. Their sum is the KL of the tensor.

    Raises:
        NoKLRuleError: The pair has no rule; the message names those that have one.

    >>> import torch
    >>> from laconic.bayes.kl import kl_divergence
    >>> from laconic.bayes.posteriors import Gaussian
    >>> from laconic.bayes.priors import Normal
    >>> kl_divergence(Gaussian(torch.ones(1), torch.zeros(1)), Normal()).item()
    0.5
    """
    return TABLE.find(type(q), type(p))(q, p)


def check_rules(posteriors: Mapping[str, Any], p: Any) -> None:
    """Refuse a prior under which the KL of a network's posteriors cannot be computed, before any training.

    Args:
        posteriors: The posteriors by the weights' names (:func:`laconic.bayes.posteriors_of`).
        p: The prior.

    Raises:
        NoKLRuleError: No rule for one of the pairs, or for a part of one.
        InputError: A prior that is a name or a class; a KL that is not finite (the message names the weight).

    >>> from laconic.bayes.posteriors import Gaussian
    >>> from laconic.bayes.priors import Normal
    >>> check_rules({"fc.weight": Gaussian(torch.ones(2), torch.zeros(2))}, Normal())
    """
    if isinstance(p, str | type):
        given = repr(p) if isinstance(p, str) else p.__name__
        kind = "a name" if isinstance(p, str) else "a class"
        raise InputError(
            f"prior={given} is {kind}, not a prior. Cure: an object, as laconic.bayes.Normal(std=0.1)"
        )
    with torch.no_grad():
        for name, q in posteriors.items():
            total = float(kl_total(q, p))
            if not math.isfinite(total):
                raise InputError(
                    f"KL({type(q).__name__} || {type(p).__name__}) of {name!r} is {total}. Cure: a rule that "
                    "is finite at the weights as they are, or other settings of the prior"
                )


def kl_total(q: Any, p: Any) -> Tensor:
    """The sum of :func:`kl_divergence` over all parts, in less memory and time.

    Args:
        q: A posterior.
        p: A prior.

    Returns:
        A scalar, nats.

    Raises:
        NoKLRuleError: The pair has no rule.

    >>> import torch
    >>> from laconic.bayes.kl import kl_total
    >>> from laconic.bayes.posteriors import Gaussian
    >>> from laconic.bayes.priors import Normal
    >>> kl_total(Gaussian(torch.ones(3), torch.zeros(3)), Normal()).item()
    1.5
    """
    return TABLE.total(type(q), type(p))(q, p)
