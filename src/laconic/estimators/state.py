r"""The posterior of the weights that are in the model, given their precisions.

.. math:: \Sigma = (\Phi^T B\Phi + A)^{-1}, \qquad A = diag(\alpha)

(Tipping 2001, eqs. 12 and 26). The matrix is scaled to a unit diagonal before its Cholesky factor is taken:
precisions differ by many orders of magnitude, correlations do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from laconic.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
_JITTERS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6)


@dataclass(frozen=True)
class State:
    """A model: which basis functions it has, their precisions, the posterior of their weights.

    Args:
        active: (m,) columns of the design matrix.
        alpha: (m,) precisions of the weights' priors.
        mean: (m,) posterior means (the mode, for a classifier).
        root: (m, m) R with ``Sigma = R^T R``.
        precision: Precision of the noise; 1 for a classifier.
        evidence: Log marginal likelihood in nats (Laplace's approximation, for a classifier).
    """

    active: IntArray
    alpha: FloatArray
    mean: FloatArray
    root: FloatArray
    precision: float
    evidence: float

    @property
    def variance(self) -> FloatArray:
        """(m,) diagonal of Sigma."""
        diagonal: FloatArray = np.square(self.root).sum(axis=0)
        return diagonal

    @property
    def gamma(self) -> FloatArray:
        """(m,) ``1 - alpha * Sigma_ii``: how well the data determine each weight, from 0 to 1."""
        return np.clip(1.0 - self.alpha * self.variance, 0.0, 1.0)

    def dense(self, size: int) -> FloatArray:
        """(size,) means, 0 where a basis function is not in the model."""
        whole = np.zeros(size)
        whole[self.active] = self.mean
        return whole


def inverse_root(matrix: FloatArray) -> tuple[FloatArray, float]:
    """R with ``matrix^-1 = R^T R``, and ``log |matrix|``; a jitter is added where rounding demands one."""
    size = len(matrix)
    if size == 0:
        return np.zeros((0, 0)), 0.0
    scale = np.sqrt(np.diagonal(matrix))
    unit = matrix / np.outer(scale, scale)
    for jitter in _JITTERS:
        try:
            lower = cholesky(unit + jitter * np.eye(size), lower=True, check_finite=False)
        except LinAlgError:
            continue
        root = solve_triangular(lower, np.diag(1.0 / scale), lower=True, check_finite=False)
        return root, 2.0 * float(np.log(np.diagonal(lower)).sum() + np.log(scale).sum())
    raise InputError(
        f"the posterior of {size} basis functions has no Cholesky factor. "
        "Cure: scale the inputs and the targets, or a kernel whose columns differ more (a larger gamma)"
    )
