r"""Classification: labels 0 and 1 with a logistic link, by Laplace's approximation.

.. math::
    \mu = \arg\max_w \sum_n \log p(t_n|w) - \tfrac12 w^TAw, \quad
    \Sigma = (\Phi^TB\Phi + A)^{-1}, \quad B = diag(y_n(1 - y_n))

(Tipping 2001, section 3, eqs. 23 to 28). The mode is found by iteratively re-weighted least squares, that is
Newton's method, whose steps are halved where they would lower the posterior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from laconic.estimators.memory import check_model
from laconic.estimators.state import FloatArray, IntArray, State, inverse_root

_NEWTON_STEPS = 100
_HALVINGS = 30
_SETTLED = 1e-10  # Newton decrement in nats


@dataclass(frozen=True, eq=False)
class BernoulliTargets:
    """The data of a two-class problem.

    Args:
        design: (N, M) basis functions at the training points; columns of length 1 (or 0).
        targets: (N,) of 0 and 1.
        limit: Bytes that a fit may take.
    """

    design: FloatArray
    targets: FloatArray
    limit: int

    @property
    def scale(self) -> float:
        """The most that a basis function of length 1 meets in the data: y(1 - y) at an even chance."""
        return 0.25

    def first(self, active: IntArray, alpha: FloatArray) -> State:
        """The model with these basis functions; the mode is sought from zero."""
        return self._state(active, alpha, np.zeros(len(active)))

    def state(self, active: IntArray, alpha: FloatArray, near: State) -> State:
        """The model with these basis functions; the mode is sought from that of ``near``."""
        return self._state(active, alpha, near.dense(self.design.shape[1])[active])

    def with_noise(self, state: State) -> State:
        """The model itself: labels have no noise that could be estimated."""
        return state

    def quality(self, state: State) -> tuple[FloatArray, FloatArray]:
        """S and Q of every column at the mode, with ``Q = phi^T (t - y)`` (Tipping & Faul 2003)."""
        members = self.design[:, state.active]
        chance = expit(members @ state.mean)
        weight = chance * (1 - chance)
        explained = self.design.T @ ((members * weight[:, None]) @ state.root.T)
        sparsity = np.einsum("ij,i,ij->j", self.design, weight, self.design)
        sparsity -= np.square(explained).sum(axis=1)
        return sparsity, self.design.T @ (self.targets - chance)

    def _state(self, active: IntArray, alpha: FloatArray, start: FloatArray) -> State:
        rows, columns = self.design.shape
        check_model(rows, columns, len(active), self.limit)
        members = self.design[:, active]
        mean, value = start, self._log_posterior(members @ start, alpha, start)
        for _ in range(_NEWTON_STEPS):
            chance = expit(members @ mean)
            slope = members.T @ (self.targets - chance) - alpha * mean
            weighted = members * (chance * (1 - chance))[:, None]
            root, log_det = inverse_root(members.T @ weighted + np.diag(alpha))
            step = root.T @ (root @ slope)
            if float(slope @ step) < _SETTLED:
                break
            moved, new = self._uphill(members, alpha, mean, step, value)
            if new <= value:
                break
            mean, value = moved, new
        evidence = value + 0.5 * (float(np.log(alpha).sum()) - log_det)
        return State(active, alpha, mean, root, 1.0, evidence)

    def _uphill(
        self, members: FloatArray, alpha: FloatArray, mean: FloatArray, step: FloatArray, value: float
    ) -> tuple[FloatArray, float]:
        """The first point along a halved step that is no lower, and its value; else where it stands."""
        for halving in range(_HALVINGS):
            moved = mean + step / 2**halving
            new = self._log_posterior(members @ moved, alpha, moved)
            if new > value:
                return moved, new
        return mean, value

    def _log_posterior(self, logits: FloatArray, alpha: FloatArray, weights: FloatArray) -> float:
        likelihood = self.targets @ logits - np.logaddexp(0.0, logits).sum()
        return float(likelihood - 0.5 * alpha @ weights**2)
