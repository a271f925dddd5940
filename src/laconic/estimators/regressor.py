"""The relevance vector machine for regression (Tipping, JMLR 2001)."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from laconic.errors import InputError
from laconic.estimators.gaussian import GaussianTargets
from laconic.estimators.kernels import is_number
from laconic.estimators.machine import RelevanceVectorMachine, machine_of
from laconic.estimators.state import FloatArray

_LEAST = 1e-150  # smaller numbers have no square
_FAR = 1e6  # deviations from zero beyond which targets are fitted about their mean


class RelevanceVectorRegressor(RegressorMixin, RelevanceVectorMachine):  # type: ignore[misc]
    r"""Sparse Bayesian regression on kernels around the training points.

    .. math::
        y(x) = w_0 + \sum_n w_n K(x, x_n), \quad t = y(x) + N(0, \sigma^2), \quad
        w_i \sim N(0, \alpha_i^{-1})

    The precisions and the noise maximise the marginal likelihood. Most precisions become infinite: few
    training points, the relevance vectors, stay in the model. There is nothing to choose but the kernel.

    Args:
        kernel: ``rbf``, ``linear``, ``poly``, ``linear_spline`` (Tipping's for one-dimensional curves),
            ``precomputed`` (X holds kernel values: (N, N) in ``fit``, (n, N) in ``predict``), ``features``
            (no kernel: the columns of X are the basis functions, and the relevant ones are chosen among
            them), or a function of (n, d) and (m, d) that gives (n, m).
        gamma: ``exp(-gamma |x - x'|^2)`` of ``rbf``, also the factor in ``poly``. ``scale`` is
            ``1 / (d * variance of X)``, ``auto`` is ``1 / d``. Tipping's width r is ``gamma = 1 / r**2``.
        degree: Power of ``poly``.
        coef0: Constant of ``poly``.
        fit_intercept: Whether a constant is among the basis functions.
        noise_std: Standard deviation of the noise, in the targets' unit; None: estimated. It must be given
            where there are more basis functions than examples and they hardly overlap (``features``): the
            evidence can then rise as the noise goes to zero, and the model fits the noise.
        algorithm: ``fast`` adds, re-estimates or deletes one basis function at a time (Tipping & Faul 2003).
            ``reestimate`` starts with all and updates all precisions at once (Tipping 2001): cubic in the
            number of training points.
        max_iter: Most iterations.
        tol: ``fast`` ends when no step gains this many nats, ``reestimate`` when no log precision changes by
            it.
        max_bytes: What a fit may take: a fit that needs more is refused before it is begun, or when the
            number of relevance vectors passes what fits.

    Attributes:
        relevance_: (n_relevant_,) indices of the relevance vectors among the training points (columns of X
            for ``features``).
        n_relevant_: How many there are.
        relevance_vectors_: (n_relevant_, d), unless X is the basis itself.
        coef_: (n_relevant_,) posterior means of their weights.
        intercept_: Posterior mean of the constant; 0 where it is not in the model. Targets a million of
            their deviations from zero, or all equal, are fitted about their mean, which is added to it: the
            prior of the constant and the evidence are then those of the rest.
        noise_std_: Standard deviation of the noise.
        log_evidence_: Log marginal likelihood in nats.
        n_iter_: Iterations taken.

    Raises:
        InputError: From ``fit``: a setting outside its bounds, a kernel value that is not finite, inputs or
            targets too small, too large or too far from zero for float64, or a model that takes more than
            ``max_bytes``.

    >>> x = np.linspace(-10, 10, 100)[:, None]
    >>> y = np.sinc(x[:, 0] / np.pi) + 0.1 * np.random.default_rng(0).standard_normal(100)
    >>> machine = RelevanceVectorRegressor(gamma=1 / 9).fit(x, y)
    >>> machine.n_relevant_ < 12, round(machine.noise_std_, 1)
    (True, 0.1)
    """

    def __init__(
        self,
        kernel: Any = "rbf",
        *,
        gamma: Any = "scale",
        degree: float = 3,
        coef0: float = 1.0,
        fit_intercept: bool = True,
        noise_std: float | None = None,
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
        self.noise_std = noise_std
        self.algorithm = algorithm
        self.max_iter = max_iter
        self.tol = tol
        self.max_bytes = max_bytes

    def fit(self, X: Any, y: Any) -> Self:
        """Maximise the marginal likelihood of ``y`` (N,) given ``X`` (N, d)."""
        self._check_settings()
        noise = self.noise_std
        if noise is not None and not (is_number(noise) and 0 < noise < math.inf):
            raise InputError(f"noise_std must be a number > 0 or None, got {noise!r}. Cure: noise_std=None")
        points, values = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        level, scale = _level_and_scale(np.asarray(values, dtype=np.float64), bool(self.fit_intercept))
        if noise is not None and not _LEAST < float(noise) / scale < 1 / _LEAST:
            raise InputError(
                f"noise_std={noise:g} beside targets that vary by {scale:g}: the square of their ratio is no "
                "number. Cure: noise_std=None, or one in the unit of y"
            )
        design, lengths = self._design(points)
        fixed = None if noise is None else (scale / float(noise)) ** 2
        found = self._maximise(GaussianTargets(design, (values - level) / scale, self.max_bytes, fixed))
        machine = machine_of(found, lengths, scale, len(values))
        self._store([machine], points, found.iterations)
        self._level = level
        self.coef_, self.intercept_ = self._weights[0, :-1], float(self._weights[0, -1]) + level
        self.noise_std_ = scale / math.sqrt(found.state.precision)
        self.log_evidence_ = machine.evidence
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        r"""The predictive mean and, on demand, its standard deviation.

        .. math:: \mu^T\phi(x), \qquad \sqrt{\sigma^2 + \phi(x)^T\Sigma\phi(x)}

        (Tipping 2001, eqs. 21 and 22.)

        Args:
            X: (n, d).
            return_std: Whether the standard deviation, noise included, is returned, too.

        Returns:
            (n,) means, or the pair of means and standard deviations.
        """
        mean, variance = self._latents(X)
        if not return_std:
            return mean[:, 0] + self._level
        return mean[:, 0] + self._level, np.sqrt(self.noise_std_**2 + variance[:, 0])


def _level_and_scale(values: FloatArray, intercept: bool) -> tuple[float, float]:
    """What is taken off the targets, and their deviation or, where they are all equal, their size.

    Raises InputError where float64 does not hold them.
    """
    size = float(np.abs(values).max())
    if size > 1 / _LEAST:
        raise InputError(f"y reaches {size:g}, whose square is no number. Cure: divide y by {size:g}")
    middle, spread = float(np.median(values)), float(np.ptp(values))
    if 0 < (spread or size) < _LEAST:
        raise InputError(
            f"y varies by {spread or size:g}, whose square is no number. Cure: divide y by {spread or size:g}"
        )
    std = float((values - middle).std()) if spread else 0.0
    if 0 < std < np.spacing(size):
        raise InputError(
            f"y varies by {spread:g} about {middle:g}, where neighbouring float64 numbers are "
            f"{np.spacing(size):g} apart. Cure: subtract {middle:g} where y is computed"
        )
    if abs(middle) <= _FAR * std or (std == 0 and not intercept):
        return 0.0, std or size or 1.0
    if not intercept:
        raise InputError(
            f"y lies about {middle:g} and varies by {std:g} only, and fit_intercept=False has no constant "
            f"for it. Cure: fit_intercept=True, or y less {middle:g}"
        )
    return middle + float((values - middle).mean()), std or size
