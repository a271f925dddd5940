"""What both estimators share: from training points to a sparse model, and from a model to its outputs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from laconic.errors import InputError
from laconic.estimators.kernels import Kernel, checked, is_number, row_blocks, settle
from laconic.estimators.maximise import Maximum, Targets, fast, reestimate
from laconic.estimators.memory import check_design
from laconic.estimators.state import FloatArray, IntArray

ALGORITHMS = ("fast", "reestimate")
_LEVEL = 1e-4  # of a basis function's square, what is not the constant's: with less, rounding hides its shape
_USUAL = {"max_iter": "10_000", "max_bytes": "2**31", "tol": "1e-5", "degree": "3"}


@dataclass(frozen=True, eq=False)
class Machine:
    """One sparse linear model of the basis functions, in their own units.

    Args:
        columns: (m,) basis functions in the model, ascending; the one past the last is the intercept.
        weights: (m,) posterior means.
        root: (m, m) R, where the posterior covariance is ``R^T R``.
        alpha: (m,) precisions of the weights' priors.
        evidence: Log marginal likelihood in nats.
    """

    columns: IntArray
    weights: FloatArray
    root: FloatArray
    alpha: FloatArray
    evidence: float

    def latent(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the linear output, given (n, m) values of the model's basis functions."""
        return features @ self.weights, np.square(features @ self.root.T).sum(axis=1)


class RelevanceVectorMachine(BaseEstimator):  # type: ignore[misc]
    """The estimators' base; see :class:`RelevanceVectorRegressor`."""

    kernel: Any
    gamma: Any
    degree: float
    coef0: float
    fit_intercept: bool
    algorithm: str
    max_iter: int
    tol: float
    max_bytes: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        return tags

    def _check_settings(self) -> None:
        """Raises InputError for a setting outside its bounds."""
        if not (isinstance(self.algorithm, str) and self.algorithm in ALGORITHMS):
            raise InputError(
                f"algorithm must be one of {', '.join(ALGORITHMS)}, got {self.algorithm!r}. Cure: 'fast'"
            )
        for name in ("max_iter", "max_bytes"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
                raise InputError(f"{name} must be a whole number >= 1, got {value!r}. Cure: {_USUAL[name]}")
        for name in ("tol", "degree"):
            value = getattr(self, name)
            if not (is_number(value) and 0 < value < math.inf):
                raise InputError(f"{name} must be a number > 0, got {value!r}. Cure: {_USUAL[name]}")
        if not (is_number(self.coef0) and math.isfinite(self.coef0)):
            raise InputError(f"coef0 must be a finite number, got {self.coef0!r}. Cure: coef0=1.0")
        for name in ("fit_intercept", "moderated"):
            value = getattr(self, name, True)
            if not isinstance(value, (bool, np.bool_)):
                raise InputError(f"{name} must be True or False, got {value!r}. Cure: {name}=True")

    def _design(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(N, M) basis functions at the training points with columns of length 1, and their lengths."""
        rows, width = points.shape
        kernel = settle(self.kernel, self.gamma, self.degree, self.coef0, points)
        own = kernel.kind in ("precomputed", "features")
        if kernel.kind == "precomputed" and rows != width:
            raise InputError(
                f"kernel='precomputed' needs a square matrix of the training points, got {rows} x {width}. "
                "Cure: X = k(points, points)"
            )
        columns = (width if own else rows) + bool(self.fit_intercept)
        check_design(rows, columns, self.max_bytes)
        basis = points if own else kernel.between(points, points)
        design = np.concatenate([basis, np.ones((rows, int(bool(self.fit_intercept))))], axis=1)
        sizes = np.abs(design).max(axis=0)
        sizes[sizes == 0] = 1.0
        design /= sizes  # first, so that no square is lost
        lengths = np.sqrt(np.square(design).sum(axis=0))
        checked(sizes * lengths, lengths.shape, self.kernel)
        lengths[lengths == 0] = 1.0
        design /= lengths
        lengths *= sizes
        self._warn_of_constants(design[:, :-1] if self.fit_intercept else design)
        self.kernel_ = kernel
        self._basis_count = columns - bool(self.fit_intercept)
        return design, lengths

    def _warn_of_constants(self, design: FloatArray) -> None:
        """Warn where all basis functions are nearly constants, which the fit cannot tell apart."""
        level = 1.0 - np.square(design.sum(axis=0)) / len(design)
        if design.size and level.max() < _LEVEL and np.ptp(design, axis=0).any():
            warnings.warn(
                f"kernel {getattr(self.kernel, '__name__', self.kernel)}: all basis functions are constant "
                f"to {100 * math.sqrt(max(0.0, level.max())):.1g} %, and a fit hardly sees the rest. "
                "Cure: subtract the mean of X (of each column) before fit and predict, or a larger gamma",
                UserWarning,
                stacklevel=4,
            )

    def _maximise(self, targets: Targets) -> Maximum:
        """Run the algorithm, and warn where it did not end by itself."""
        algorithm: Callable[[Targets, float, int], Maximum] = fast if self.algorithm == "fast" else reestimate
        found = algorithm(targets, self.tol, self.max_iter)
        if not found.converged:
            warnings.warn(
                f"the evidence still rises after max_iter={self.max_iter} iterations. "
                f"Cure: a larger max_iter, or a larger tol than {self.tol}",
                ConvergenceWarning,
                stacklevel=4,
            )
        return found

    def _store(self, machines: Sequence[Machine], points: FloatArray, iterations: int) -> None:
        """The attributes that a fit leaves."""
        members = [m.columns[m.columns < self._basis_count] for m in machines]
        self.machines_ = tuple(machines)
        self.relevance_ = np.unique(np.concatenate(members))
        self.n_relevant_ = len(self.relevance_)
        self.n_iter_ = iterations
        if self.kernel_.kind not in ("precomputed", "features"):
            self.relevance_vectors_ = points[self.relevance_]
        whole = np.zeros((len(machines), self.n_relevant_ + 1))
        for row, machine in zip(whole, machines, strict=True):
            row[np.searchsorted(self.relevance_, machine.columns)] = machine.weights
        self._weights = whole

    def _latents(self, X: Any) -> tuple[FloatArray, FloatArray]:
        """(n, machines) mean and variance of each machine's linear output."""
        check_is_fitted(self, "machines_")
        points = validate_data(self, X, dtype=np.float64, reset=False)
        shape = len(points), len(self.machines_)
        mean, variance = np.empty(shape), np.empty(shape)
        where = [np.searchsorted(self.relevance_, m.columns) for m in self.machines_]
        for rows, features in self._features(points):
            for i, machine in enumerate(self.machines_):
                mean[rows, i], variance[rows, i] = machine.latent(features[:, where[i]])
        return mean, variance

    def _features(self, points: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
        """Blocks of rows of the relevant basis functions, the last of which is the constant."""
        kernel: Kernel = self.kernel_
        for rows in row_blocks(len(points), self.n_relevant_ + 1):
            if kernel.kind in ("precomputed", "features"):
                values = points[rows][:, self.relevance_]
            else:
                values = kernel.between(points[rows], self.relevance_vectors_)
            yield rows, np.concatenate([values, np.ones((len(values), 1))], axis=1)


def machine_of(found: Maximum, lengths: FloatArray, scale: float, terms: int) -> Machine:
    """The model in the units of the basis functions and of the targets, which were divided by ``scale``."""
    state = found.state
    order = np.argsort(state.active)
    columns = state.active[order]
    unit = scale / lengths[columns]
    return Machine(
        columns,
        state.mean[order] * unit,
        state.root[:, order] * unit,
        state.alpha[order] / unit / unit,
        state.evidence - terms * math.log(scale),
    )
