r"""Regression: targets with Gaussian noise, whose posterior and marginal likelihood are exact.

.. math::
    \mu = \beta\Sigma\Phi^T t, \quad
    \log p(t) = \tfrac12\big(N\log\tfrac{\beta}{2\pi} - \beta\|t - \Phi\mu\|^2 - \mu^TA\mu
    + \log|A| - \log|\Sigma^{-1}|\big)

(Tipping 2001, eqs. 12, 13, 15). The columns of the design matrix have length 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from laconic.estimators.memory import check_model
from laconic.estimators.state import FloatArray, IntArray, State, inverse_root

FIRST_PRECISION = 100.0
"""At the start a hundredth of the targets' variance is taken for noise: too little rather than too much, as
a search that starts with much noise ends in a model that explains nothing."""
MOST_PRECISION = 1e6
"""Noise below a millionth of the targets' variance is not told from none."""


@dataclass(eq=False)
class GaussianTargets:
    """The data of a regression.

    Args:
        design: (N, M) basis functions at the training points; columns of length 1 (or 0).
        targets: (N,), with a variance of about 1.
        limit: Bytes that a fit may take.
        fixed: The noise's precision, or None: it is estimated.
    """

    design: FloatArray
    targets: FloatArray
    limit: int
    fixed: float | None = None
    _lengths: FloatArray = field(init=False)
    _projections: FloatArray = field(init=False)
    _products: FloatArray = field(init=False)
    _place: dict[int, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._lengths = np.einsum("ij,ij->j", self.design, self.design)
        self._projections = self.design.T @ self.targets
        self._products = np.empty((self.design.shape[1], 0), order="F")

    @property
    def scale(self) -> float:
        """The precision that a basis function meets in the data: that of the noise."""
        return FIRST_PRECISION if self.fixed is None else self.fixed

    def first(self, active: IntArray, alpha: FloatArray) -> State:
        """The model with these basis functions and the first guess of the noise."""
        return self._state(active, alpha, self.scale)

    def state(self, active: IntArray, alpha: FloatArray, near: State) -> State:
        """The model with these basis functions and the noise of ``near``."""
        return self._state(active, alpha, near.precision)

    def with_noise(self, state: State) -> State:
        r"""The model with its noise estimated anew: :math:`1/\beta = \|t - \Phi\mu\|^2/(N - \sum\gamma_i)`
        (eq. 18), or by the EM step, which never lowers the evidence, where that one would.
        """
        if self.fixed is not None:
            return state
        residual = float(np.square(self.targets - self.design[:, state.active] @ state.mean).sum())
        known, count = float(state.gamma.sum()), len(self.targets)
        tried = state
        if count > known:
            tried = self._state(state.active, state.alpha, _bounded((count - known), residual))
        if tried.evidence < state.evidence - 1e-9 * abs(state.evidence) or count <= known:
            em = _bounded(count, residual + known / state.precision)
            tried = self._state(state.active, state.alpha, em)
        return tried if tried.evidence > state.evidence else state

    def quality(self, state: State) -> tuple[FloatArray, FloatArray]:
        """S and Q of every column (Tipping & Faul 2003, eqs. 24 and 25), of which those in the model include
        their own part.
        """
        beta = state.precision
        products = self._with(state.active)
        explained = np.square(products @ state.root.T).sum(axis=1)
        sparsity = beta * self._lengths - beta**2 * explained
        return sparsity, beta * (self._projections - products @ state.mean)

    def _state(self, active: IntArray, alpha: FloatArray, beta: float) -> State:
        gram = self._with(active)[active]
        root, log_det = inverse_root(beta * gram + np.diag(alpha))
        mean = beta * (root.T @ (root @ self._projections[active]))
        error = float(np.square(self.targets - self.design[:, active] @ mean).sum())
        count = len(self.targets)
        evidence = count * math.log(beta / (2 * math.pi)) - beta * error - float(alpha @ mean**2)
        evidence += float(np.log(alpha).sum()) - log_det
        return State(active, alpha, mean, root, beta, 0.5 * evidence)

    def _with(self, active: IntArray) -> FloatArray:
        """(M, m) products of all columns with the active ones; each is computed once."""
        missing = [int(i) for i in active if int(i) not in self._place]
        if missing:
            held = len(self._place)
            rows, columns = self.design.shape
            check_model(rows, columns, held + len(missing), self.limit)
            if held + len(missing) > self._products.shape[1]:
                room = min(columns, max(held + len(missing), 2 * held, 8))
                grown = np.empty((columns, room), order="F")
                grown[:, :held] = self._products[:, :held]
                self._products = grown
            self._products[:, held : held + len(missing)] = self.design.T @ self.design[:, missing]
            self._place.update({i: held + k for k, i in enumerate(missing)})
        return self._products[:, [self._place[int(i)] for i in active]]


def _bounded(count: float, error: float) -> float:
    """The precision ``count / error``, at most MOST_PRECISION."""
    return MOST_PRECISION if error * MOST_PRECISION <= count else count / error
