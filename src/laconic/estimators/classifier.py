"""The relevance vector machine for classification (Tipping, JMLR 2001)."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.special import expit
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from laconic.errors import InputError
from laconic.estimators.bernoulli import BernoulliTargets
from laconic.estimators.machine import RelevanceVectorMachine, machine_of
from laconic.estimators.state import FloatArray


class RelevanceVectorClassifier(ClassifierMixin, RelevanceVectorMachine):  # type: ignore[misc]
    r"""Sparse Bayesian classification on kernels around the training points.

    .. math::
        p(t = 1|x) = \sigma\Big(w_0 + \sum_n w_n K(x, x_n)\Big), \quad w_i \sim N(0, \alpha_i^{-1})

    The precisions maximise Laplace's approximation of the marginal likelihood. More than two classes: one
    machine for each class against the rest.

    Args:
        kernel: As in :class:`RelevanceVectorRegressor`.
        gamma: As there.
        degree: As there.
        coef0: As there.
        fit_intercept: As there.
        moderated: Whether probabilities are averaged over the posterior, by MacKay's approximation
            :math:`\sigma\big(a/\sqrt{1 + \pi v/8}\big)` for an output with mean a and variance v (MacKay
            1992); False: those at the mode, as in Tipping 2001. Two classes are told apart in the same way.
        algorithm: As there.
        max_iter: As there, for each class.
        tol: As there.
        max_bytes: As there.

    Attributes:
        classes_: The labels.
        relevance_: (n_relevant_,) indices of the relevance vectors of all machines.
        n_relevant_: How many there are.
        relevance_vectors_: (n_relevant_, d), unless X is the basis itself.
        coef_: (machines, n_relevant_) posterior modes of their weights; one machine for two classes.
        intercept_: (machines,).
        log_evidence_: (machines,) log marginal likelihoods in nats.
        n_iter_: Iterations of the machine that took most.

    Raises:
        InputError: From ``fit``: one class alone, a setting outside its bounds, a kernel value that is not
            finite, or a model that takes more than ``max_bytes``.

    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> machine = RelevanceVectorClassifier().fit(x, np.where(x[:, 0] * x[:, 1] > 0, "same", "other"))
    >>> machine.predict([[1, 1], [-1, 1]])
    array(['same', 'other'], dtype='<U5')
    >>> machine.n_relevant_ < 12
    True
    """

    def __init__(
        self,
        kernel: Any = "rbf",
        *,
        gamma: Any = "scale",
        degree: float = 3,
        coef0: float = 1.0,
        fit_intercept: bool = True,
        moderated: bool = True,
        algorithm: str = "fast",
        max_iter: int = 10_000,
        tol: float = 1e-5,
        max_bytes: int = 2**31,
    ) -> None:
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.fit_intercept = fit_intercept
        self.moderated = moderated
        self.algorithm = algorithm
        self.max_iter = max_iter
        self.tol = tol
        self.max_bytes = max_bytes

    def fit(self, X: Any, y: Any) -> Self:
        """Maximise the marginal likelihood of the labels ``y`` (N,) given ``X`` (N, d)."""
        self._check_settings()
        points, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"y holds 1 class ({self.classes_[0]!r}), a classifier needs two. Cure: data of both"
            )
        design, lengths = self._design(points)
        positive = [1] if len(self.classes_) == 2 else range(len(self.classes_))
        found = [
            self._maximise(BernoulliTargets(design, (codes == c).astype(np.float64), self.max_bytes))
            for c in positive
        ]
        machines = [machine_of(one, lengths, 1.0, len(labels)) for one in found]
        self._store(machines, points, max(one.iterations for one in found))
        self.coef_, self.intercept_ = self._weights[:, :-1], self._weights[:, -1]
        self.log_evidence_ = np.array([m.evidence for m in machines])
        return self

    def decision_function(self, X: Any) -> FloatArray:
        """Log odds of the second class (n,), or of each class against the rest (n, classes)."""
        mean, variance = self._latents(X)
        if self.moderated:
            mean = mean / np.sqrt(1.0 + np.pi / 8.0 * variance)
        return mean[:, 0] if len(self.machines_) == 1 else mean

    def predict_proba(self, X: Any) -> FloatArray:
        """(n, classes) probabilities; with more than two classes those against the rest, scaled to sum 1."""
        odds = self.decision_function(X)
        if odds.ndim == 1:
            return np.stack([expit(-odds), expit(odds)], axis=1)
        chances = np.maximum(expit(odds), np.finfo(np.float64).tiny)
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> Any:
        """(n,) labels."""
        odds = self.decision_function(X)
        best = (odds > 0).astype(np.intp) if odds.ndim == 1 else odds.argmax(axis=1)
        return self.classes_[best]
