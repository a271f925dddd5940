r"""Maximises the marginal likelihood over the precisions alpha of the weights' priors.

With all but one basis function held, the log marginal likelihood is, up to a constant,

.. math::
    \ell(\alpha) = \tfrac12\Big(\log\frac{\alpha}{\alpha + s} + \frac{q^2}{\alpha + s}\Big), \qquad
    \hat\alpha = \begin{cases} s^2/(q^2 - s) & q^2 > s \\ \infty & \text{otherwise} \end{cases}

(Faul & Tipping 2002; Tipping & Faul 2003, eqs. 18 to 21): s says how much a basis function overlaps with the
others, q how well it fits what they leave. :func:`fast` starts with no basis function and adds, re-estimates
or deletes the one that gains most. :func:`reestimate` starts with all of them and repeats
:math:`\alpha_i \leftarrow \gamma_i/\mu_i^2` (MacKay 1992; Tipping 2001, eq. 16).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from laconic.estimators.state import FloatArray, IntArray, State

_SPANNED = 1e-10  # share of a basis function that the model does not span, below which rounding decides
_ROUGH = 0.1  # gain in nats below which the noise is estimated for the first time
_GONE = 1e8  # a precision that many times the data's: the weight is zero


class Targets(Protocol):
    """What the two algorithms need of a likelihood."""

    @property
    def design(self) -> FloatArray:
        """(N, M) basis functions."""

    @property
    def scale(self) -> float:
        """The precision that a basis function of length 1 meets in the data at the start."""

    def first(self, active: IntArray, alpha: FloatArray) -> State:
        """A model to start from."""

    def state(self, active: IntArray, alpha: FloatArray, near: State) -> State:
        """Another model, close to one that is known."""

    def with_noise(self, state: State) -> State:
        """The model with its noise estimated anew."""

    def quality(self, state: State) -> tuple[FloatArray, FloatArray]:
        """S and Q of every column."""


@dataclass(frozen=True)
class Maximum:
    """Where an algorithm ended.

    Args:
        state: The model.
        iterations: How many were taken, at least 1.
        converged: Whether no step gained more than the tolerance.
    """

    state: State
    iterations: int
    converged: bool


def fast(targets: Targets, tol: float, max_iter: int) -> Maximum:
    """Add, re-estimate or delete one basis function at a time (Tipping & Faul 2003, section 4).

    The noise is estimated when no step gains much any more, first roughly, then ever more finely. If it were
    estimated from a model of one or two basis functions, it would take all that they leave for noise, and
    nothing would be added.

    A step that lowers the evidence, which Laplace's approximation allows, is taken back and not tried again
    before another one succeeds. So the evidence rises from step to step, and the search ends.
    """
    used = np.flatnonzero(np.square(targets.design).sum(axis=0) > 0)
    state = targets.first(np.zeros(0, np.intp), np.zeros(0))
    blocked: set[int] = set()
    rough = max(tol, _ROUGH)
    for iteration in range(1, max_iter + 1):
        alpha, gain = _proposals(targets, state)
        gain[list(blocked)] = 0.0
        best = int(used[np.argmax(gain[used])]) if len(used) else -1
        if best < 0 or gain[best] < rough:
            before = state.evidence
            state = targets.with_noise(state)
            if max(0.0 if best < 0 else gain[best], state.evidence - before) < tol:
                return Maximum(state, iteration, converged=True)
            rough = max(tol, rough / 2)
            continue
        moved = _moved(targets, state, best, alpha, gain)
        if moved.evidence <= state.evidence:
            blocked.add(best)
        else:
            blocked = set() if moved.evidence > state.evidence + tol else blocked | {best}
            state = moved
    return Maximum(state, max_iter, converged=False)


def reestimate(targets: Targets, tol: float, max_iter: int) -> Maximum:
    """MacKay's updates of all precisions at once, from a model with every basis function.

    A basis function goes when its precision is 1e8 times the data's and, once the others have settled, when
    ``q^2 <= s``: its precision would go on rising without end.
    """
    lengths = np.square(targets.design).sum(axis=0)
    active = np.flatnonzero(lengths > 0)
    state = targets.first(active, np.ones(len(active)))
    before = -np.inf
    for iteration in range(1, max_iter + 1):
        alpha = np.maximum(state.gamma, 1e-12) / np.maximum(state.mean**2, 1e-300)
        kept = alpha < _GONE * max(targets.scale, state.precision)
        if kept.all() and state.evidence - before < tol:
            kept = _needed(state)
            if kept.all():
                return Maximum(state, iteration, converged=True)
        before = state.evidence
        state = targets.with_noise(targets.state(state.active[kept], alpha[kept], state))
    return Maximum(state, max_iter, converged=False)


def contribution(alpha: FloatArray, s: FloatArray, q: FloatArray) -> FloatArray:
    """What basis functions add to the log marginal likelihood, in nats; 0 at an infinite precision."""
    return 0.5 * (q**2 / (alpha + s) - np.log1p(s / alpha))


def _proposals(targets: Targets, state: State) -> tuple[FloatArray, FloatArray]:
    """(M,) the best precision of each basis function, and what going there gains in nats."""
    s, q = targets.quality(state)
    trusted = s > _SPANNED * state.precision * 0.25
    now = np.full(len(s), np.inf)
    variance = state.variance
    s[state.active] = np.maximum(1.0 / variance - state.alpha, 1e-300)
    q[state.active] = state.mean / variance
    trusted[state.active] = True
    now[state.active] = state.alpha
    s = np.maximum(s, 1e-300)
    left = q**2 - s
    best = np.where(left > 0, s**2 / np.where(left > 0, left, 1.0), np.inf)
    best = np.maximum(best, 1e-300)
    gain = contribution(best, s, q) - contribution(now, s, q)
    return best, np.where(trusted, gain, 0.0)


def _moved(targets: Targets, state: State, best: int, alpha: FloatArray, gain: FloatArray) -> State:
    """The best single step or, where that is a re-estimate, that of all members at once if it gains more.

    One at a time converges slowly where basis functions overlap.
    """
    members = state.active
    if best in members and np.isfinite(alpha[best]):
        together = np.where(np.isfinite(alpha[members]), alpha[members], state.alpha)
        tried = targets.state(members, together, state)
        if tried.evidence > state.evidence + gain[best]:
            return tried
    return _changed(targets, state, best, float(alpha[best]))


def _changed(targets: Targets, state: State, column: int, alpha: float) -> State:
    """The model with one precision replaced; an infinite one deletes the basis function."""
    others = state.active != column
    if np.isinf(alpha):
        return targets.state(state.active[others], state.alpha[others], state)
    if not others.all():
        return targets.state(state.active, np.where(others, state.alpha, alpha), state)
    return targets.state(np.append(state.active, column), np.append(state.alpha, alpha), state)


def _needed(state: State) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which members have ``q^2 > s``."""
    s = 1.0 / state.variance - state.alpha
    needed: np.ndarray[tuple[int], np.dtype[np.bool_]] = (state.mean / state.variance) ** 2 > s
    return needed
