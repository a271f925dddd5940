r"""Bits that no code goes below at a given distortion.

*Of the integers*: their entropy under the rate model of this room (row and column densities, levels).

*Of the matrix*: the rate-distortion function of Gaussian weights. Let row r be Gaussian with zero mean and
covariance :math:`\Sigma_r`, and its distortion :math:`\tfrac12 p_r\, (v - w) H (v - w)^\top` with the second
moment H of the inputs, damped as in the decision. Then :math:`y = w H^{1/2}` has covariance
:math:`H^{1/2} \Sigma_r H^{1/2}` and a plain squared error. In the basis of the eigenvectors it is K
independent Gaussians of variances :math:`\mu_{rk}`.
To describe one of power :math:`a_{rk} = \tfrac12 p_r \mu_{rk}` with an error d takes at least
:math:`\max(0, \tfrac12 \ln (a_{rk} / d))` nats. Given the total distortion D, their sum is least where all
have the same slope :math:`-1 / (2 d)`, that is the same error :math:`\theta`, or are not sent (reverse
water-filling):

.. math:: D = \sum_{rk} \min(\theta, a_{rk}), \qquad
   R = \sum_{rk} \tfrac12 \ln\frac{a_{rk}}{\min(\theta, a_{rk})} .

Here :math:`\Sigma_r = \rho_r \operatorname{diag}(\gamma_1, \dots, \gamma_K)`, from the mean squares of the
weights by row and by column. Of all weights of these variances Gaussian ones need most bits, so a code that
knows no more of the weights cannot do with less; weights with heavier tails may.

Sources: Shannon 1959; Cover & Thomas, Elements of Information Theory, 2006, theorem 10.3.3; WaterSIC, 2026 (a
layer's weights and the covariance of its inputs).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from laconic.errors import InputError
from laconic.quantize.rate_model import DoubleArray, rate_bits
from laconic.quantize.resolved import resolve
from laconic.quantize.second_order import QuantizedMatrix


@dataclass(frozen=True)
class Floor:
    """What a matrix needs at least, in bits; biases and steps are not counted.

    Attributes:
        entropy: The entropy of its integers.
        gaussian: The rate-distortion function of Gaussian weights at the distortion that was reached.

    >>> Floor(entropy=120.0, gaussian=100.0).gaussian
    100.0
    """

    entropy: float
    gaussian: float


def floor_of(
    found: QuantizedMatrix, moment: Tensor, *, row_precision: Tensor | None = None, bias: bool = False
) -> Floor:
    """The floor of a quantised matrix.

    Args:
        found: The matrix; its re-solved weight is what the code describes.
        moment: Mean of x~ x~^T, as for :func:`laconic.quantize.second_order.quantize_matrix`.
        row_precision: Precision of each output, as there.
        bias: Whether the last input of the moment is the constant 1.

    Returns:
        Both floors, in bits.

    Raises:
        InputError: Shapes that do not agree.

    >>> from laconic.quantize.second_order import quantize_matrix
    >>> w, h = torch.tensor([[1.0, -2.0, 0.5]]), torch.eye(3)
    >>> found = quantize_matrix(w, h, 0.0, step=0.75)
    >>> floor_of(found, h).gaussian < found.rate
    True
    """
    target = torch.as_tensor(found.target)
    powers = gaussian_powers(target, moment, row_precision=row_precision, bias=bias, damping=found.damping)
    return Floor(rate_bits(_rows(found.integers)), waterfilling_bits(powers, found.damped_distortion))


def gaussian_powers(
    weight: Tensor,
    moment: Tensor,
    *,
    row_precision: Tensor | None = None,
    bias: bool = False,
    damping: float = 0.0,
) -> DoubleArray:
    """Powers of the independent parts of a weight: half p_r times the eigenvalues of H^(1/2) Sigma_r H^(1/2).

    Args:
        weight: W, (rows, K) or (blocks, rows, K).
        moment: H, (K, K) or (blocks, K, K); with a bias K + 1.
        row_precision: p, blocks * rows numbers; None: 1.
        bias: Whether the last input of the moment is the constant 1, which is free to follow.
        damping: Share of the mean of H's diagonal that is added to it. Without it, directions that few
            samples do not show would count as free.

    Returns:
        The powers in nats, (blocks, rows, K), at least 0.

    Raises:
        InputError: Shapes that do not agree.

    >>> gaussian_powers(torch.tensor([[2.0, 2.0]]), torch.diag(torch.tensor([1.0, 3.0]))).tolist()
    [[[2.0, 6.0]]]
    """
    zeros = weight.new_zeros(weight.shape[:-1]) if bias else None
    # With no damping asked for, some has to make the factor exist; ``exact`` is without it.
    problem = resolve(weight, moment, damping or 1.0, precision=row_precision, bias=zeros)
    h = problem.curvature if damping else problem.exact
    squares = np.square(problem.target)  # (blocks, K, rows)
    whole = float(squares.mean())
    by_row, by_column = squares.mean(1), squares.mean(2)
    deviation = np.sqrt(by_column / whole) if whole > 0 else np.zeros_like(by_column)
    scaled = deviation[:, :, None] * h * deviation[:, None, :]
    spectrum = np.clip(np.linalg.eigvalsh(scaled), 0.0, None)
    powers: DoubleArray = 0.5 * (problem.precision * by_row)[:, :, None] * spectrum[:, None, :]
    return powers


def waterfilling_bits(powers: npt.ArrayLike, distortion: float) -> float:
    """Least bits that describe independent Gaussians with a total distortion.

    Args:
        powers: Distortion of each if nothing is sent, any shape, at least 0.
        distortion: Allowed in all, in the powers' unit.

    Returns:
        Bits; 0 if nothing need be sent, infinity at distortion 0 of any power.

    Raises:
        InputError: A negative power or distortion, or one that is no number.

    >>> waterfilling_bits([1.0], 0.25)
    1.0
    """
    a = np.sort(np.asarray(powers, np.float64).ravel())
    a = a[a != 0]
    if not distortion >= 0 or not (a > 0).all() or not np.isfinite(a).all():
        low, high = (float(a[0]), float(a[-1])) if a.size else (0.0, 0.0)
        raise InputError(
            f"powers and distortion must be numbers >= 0, got distortion {distortion} and powers in "
            f"{low:.3g} to {high:.3g}. Cure: variances as powers, distortion=0.1"
        )
    if distortion >= a.sum():
        return 0.0
    if distortion == 0:
        return math.inf
    below = np.concatenate([[0.0], np.cumsum(a)[:-1]])  # distortion of all smaller powers
    left = np.arange(len(a), 0, -1)
    first = int(np.argmax(below + left * a >= distortion))
    level = (distortion - below[first]) / left[first]
    return float(0.5 * np.log2(a[first:] / level).sum())


def _rows(integers: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return integers.reshape(-1, integers.shape[-1])
