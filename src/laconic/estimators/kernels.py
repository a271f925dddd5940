r"""Basis functions of a relevance vector machine: kernels around the training points, or features as such.

.. math::
    K_{rbf} = e^{-\gamma\|x - x'\|^2}, \quad K_{linear} = x^T x', \quad
    K_{poly} = (\gamma\,x^T x' + c_0)^{degree}

A kernel need not be positive definite here: it only names basis functions (Tipping 2001, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import linear_kernel, polynomial_kernel, rbf_kernel

from laconic.errors import InputError

FloatArray = NDArray[np.float64]
KERNELS = ("rbf", "linear", "poly", "linear_spline", "precomputed", "features")
_BLOCK = 2**20  # values of a block of rows
_LEAST = 1e-150  # inputs that vary by less have squares that are no float64 numbers
_ROUNDING = 1e-11  # of the exponent: most that an expanded squared distance may lose


@dataclass(frozen=True)
class Kernel:
    """A kernel with its numbers settled.

    Args:
        kind: One of ``KERNELS``, or a function of (n, d) and (m, d) that gives (n, m).
        gamma: Factor of the squared distance or of the inner product.
        degree: Power of ``poly``.
        coef0: What ``poly`` adds to the inner product.
    """

    kind: str | Callable[..., Any]
    gamma: float
    degree: float
    coef0: float

    def between(self, points: FloatArray, centres: FloatArray) -> FloatArray:
        """(n, m) values of the m basis functions at n points; raises InputError where one is not finite."""
        if len(centres) == 0:
            return np.zeros((len(points), 0))
        if self.kind == "rbf":
            values = _rbf(points, centres, self.gamma)
        elif self.kind == "linear":
            values = linear_kernel(points, centres)
        elif self.kind == "poly":
            values = polynomial_kernel(
                points, centres, degree=self.degree, gamma=self.gamma, coef0=self.coef0
            )
        else:
            function = linear_spline if self.kind == "linear_spline" else self.kind
            values = function(points, centres)  # type: ignore[operator]
        return checked(values, (len(points), len(centres)), self.kind)


def settle(kind: Any, gamma: Any, degree: float, coef0: float, points: FloatArray) -> Kernel:
    """The kernel with gamma as a number: ``scale`` is ``1 / (d * variance of X)``, ``auto`` is ``1 / d``."""
    if not (callable(kind) or (isinstance(kind, str) and kind in KERNELS)):
        raise InputError(
            f"kernel must be one of {', '.join(KERNELS)} or a function, got {kind!r}. Cure: kernel='rbf'"
        )
    if isinstance(gamma, str) and gamma == "scale":
        number = _scale_gamma(points) if kind in ("rbf", "poly") else 1.0
    elif isinstance(gamma, str) and gamma == "auto":
        number = 1.0 / points.shape[1]
    elif is_number(gamma) and 0 < gamma < math.inf:
        number = float(gamma)
    else:
        raise InputError(f"gamma must be 'scale', 'auto' or a number > 0, got {gamma!r}. Cure: gamma='scale'")
    largest = float(np.abs(points).max())
    if kind == "linear" and 0 < largest < _LEAST:
        raise InputError(
            f"X reaches {largest:g} only, whose square is no number, so the linear kernel is zero. "
            f"Cure: divide X by {largest:g}"
        )
    return Kernel(kind, number, degree, coef0)


def is_number(value: Any) -> bool:
    """Whether a setting is one real number, and no truth value.

    >>> is_number(0.5), is_number(True), is_number(np.array([1, 2]))
    (True, False, False)
    """
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _scale_gamma(points: FloatArray) -> float:
    """``1 / (d * variance of X)``, or 1 where X is constant; raises InputError where it is no number."""
    middle = float(np.median(points))
    with np.errstate(over="ignore"):
        size = float(np.abs(points - middle).max())
    if size == 0:
        return 1.0
    if not _LEAST < size < 1 / _LEAST:
        raise InputError(
            f"gamma='scale': X varies by {size:g}, whose square is no number. Cure: divide X by {size:g}"
        )
    variance = size**2 * float(((points - middle) / size).var())
    return float(1.0 / (points.shape[1] * variance))


def _rbf(points: FloatArray, centres: FloatArray, gamma: float) -> FloatArray:
    """``exp(-gamma |x - c|^2)`` about the centres' mean, so that a common offset loses no digits.

    Distances are expanded, which is fast, where that is exact enough; else they are sums of squared
    differences.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        shift = centres.mean(axis=0)
        x, c = points - shift, centres - shift
        far = float(np.square(x).sum(axis=1).max() + np.square(c).sum(axis=1).max())
        if gamma * far * np.finfo(np.float64).eps < _ROUNDING:
            return np.asarray(rbf_kernel(x, c, gamma=gamma))
        return np.asarray(np.exp(-gamma * cdist(points, centres, "sqeuclidean")))


def linear_spline(points: Any, centres: Any) -> FloatArray:
    r"""Tipping's linear spline kernel, a product over the dimensions (Tipping 2001, section 4.1).

    .. math:: 1 + xx' + xx'\min(x,x') - \tfrac{x + x'}{2}\min(x,x')^2 + \tfrac13\min(x,x')^3

    Args:
        points: (n, d).
        centres: (m, d).

    Returns:
        (n, m).

    >>> linear_spline([[1.0]], [[2.0]])
    array([[3.83333333]])
    """
    x = np.asarray(points, dtype=np.float64)[:, None, :]
    c = np.asarray(centres, dtype=np.float64)[None, :, :]
    values = np.ones((x.shape[0], c.shape[1]))
    for d in range(x.shape[2]):
        a, b = x[..., d], c[..., d]
        low = np.minimum(a, b)
        values *= 1 + a * b + a * b * low - (a + b) / 2 * low**2 + low**3 / 3
    return values


def row_blocks(rows: int, columns: int) -> list[slice]:
    """Slices of rows with about a million values each, so that prediction takes bounded memory.

    >>> row_blocks(5, 2**19)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, _BLOCK // max(1, columns))
    return [slice(i, min(i + step, rows)) for i in range(0, rows, step)]


def checked(values: Any, shape: tuple[int, int], kind: Any) -> FloatArray:
    """The values as float64; raises InputError for another shape or a value that is not finite."""
    told = getattr(kind, "__name__", kind)
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"kernel {told}: its values are no real numbers ({error}). Cure: a kernel that returns a matrix "
            "of real numbers"
        ) from error
    if array.shape != shape:
        raise InputError(
            f"kernel {told} gave the shape {array.shape} for {shape[0]} points and {shape[1]} centres. "
            f"Cure: a function of (n, d) and (m, d) that gives (n, m)"
        )
    if not np.isfinite(array).all():
        raise InputError(
            f"kernel {told} gave a NaN or an infinity. Cure: scale the inputs, or a smaller gamma or degree"
        )
    return array
