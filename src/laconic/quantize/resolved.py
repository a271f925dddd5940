r"""One layer's least squares: the weight re-solved for the inputs that it will really get, and its curvature.

Row r of a layer computed ``w.x + b`` and reads ``x~`` in the network quantised so far. Over v,

.. math:: \tfrac12 p_r\, E|w_r \cdot x - v \cdot \tilde x|^2 + \tfrac12 p_r \delta |v - w_r|^2
   = \tfrac12 p_r\, (v - w^*_r) H (v - w^*_r)^\top + \text{const},

with :math:`H = E\,\tilde x\tilde x^\top + \delta I`, :math:`C = E\,x\tilde x^\top + \delta I` and
:math:`w^* = w C H^{-1}`. The damping :math:`\delta` draws :math:`w^*` to w along directions that the inputs
do not show.

A bias is the weight of the constant input 1, without damping. For given other weights its best value is
:math:`b = b^* - (v - w^*) H_{wb} / H_{bb}`, and what remains is the same form with the Schur complement
:math:`H_{ww} - H_{wb} H_{bb}^{-1} H_{bw}`, the covariance of the inputs.

Sources: Hassibi & Stork, NIPS 1992; the asymmetric target as in WaterSIC, 2026, and in calibration by layers
in GPTAQ (Li et al., 2025).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from laconic.errors import InputError, NonFiniteError

DoubleArray = npt.NDArray[np.float64]


class Resolved(NamedTuple):
    """Columns come before rows, so that a column of all rows is contiguous.

    Attributes:
        target: w*, (blocks, K, rows).
        curvature: H, damped, the bias eliminated, (blocks, K, K).
        exact: The same without damping.
        upper: U, upper triangular, with H^-1 = U^T U, (blocks, K, K).
        precision: p, (blocks, rows).
        bias: What is known of the bias; None without one.
        damping: The share of the mean diagonal that was added.
    """

    target: DoubleArray
    curvature: DoubleArray
    exact: DoubleArray
    upper: DoubleArray
    precision: DoubleArray
    bias: Bias | None
    damping: float

    def damage(self, values: DoubleArray, *, damped: bool) -> float:
        """Half p times the mean squared error of ``values``, (blocks, K, rows), above that of w*, in nats."""
        shift = values - self.target
        each = (shift * np.matmul(self.curvature if damped else self.exact, shift)).sum(1)
        return float(0.5 * (self.precision * each).sum())


class Bias(NamedTuple):
    """A bias as a function of the other weights.

    Attributes:
        target: b*, (blocks, rows).
        coupling: H_wb / H_bb, (blocks, K).
        power: H_bb, (blocks,): 1 for a constant input 1.
    """

    target: DoubleArray
    coupling: DoubleArray
    power: DoubleArray

    def best(self, shift: DoubleArray) -> DoubleArray:
        """The bias of least error for weights w* + shift, (blocks, K, rows): (blocks, rows)."""
        best: DoubleArray = self.target - np.einsum("bk,bkr->br", self.coupling, shift)
        return best


def resolve(
    weight: Tensor,
    moment: Tensor,
    damping: float,
    *,
    cross: Tensor | None = None,
    precision: Tensor | None = None,
    precision_floor: float = 0.0,
    bias: Tensor | None = None,
) -> Resolved:
    """The least squares of one weight.

    Args:
        weight: W, (rows, K) or (blocks, rows, K).
        moment: Mean of x~ x~^T, (K, K) or (blocks, K, K); with a bias the last input is the constant 1.
        damping: delta, as a share of the mean of the moment's diagonal.
        cross: Mean of x x~^T, of the moment's shape; None: x = x~.
        precision: p, blocks * rows numbers >= 0; None: 1.
        precision_floor: Least p, as a share of their mean.
        bias: blocks * rows numbers; None: the moment has no constant input.

    Returns:
        Target, curvature and factor.

    Raises:
        InputError: Shapes that do not agree, or a moment that is not positive definite with the damping.
        NonFiniteError: NaN or infinity.

    >>> half = resolve(torch.tensor([[2.0]]), torch.eye(1), 0.0, cross=0.5 * torch.eye(1))
    >>> half.target.item()
    1.0
    """
    w, h = _matrices("weight", weight), _matrices("moment", moment)
    c = None if cross is None else _matrices("cross moment", cross)
    blocks, rows, k = w.shape
    inputs = k + (bias is not None)
    for name, matrix in (("moment", h), ("cross moment", h if c is None else c)):
        if matrix.shape != (blocks, inputs, inputs):
            raise InputError(
                f"a weight of shape {tuple(weight.shape)}{' and a bias' if bias is not None else ''} needs a "
                f"{name} of {blocks} x {inputs} x {inputs}, got {tuple(matrix.shape)}. Cure: the mean of x "
                "x^T of this layer's inputs (the last one 1 for a bias)"
            )
    p = _precision(precision, blocks, rows, precision_floor)
    extra = _damping(h, damping, k)
    target = w
    if bias is not None:
        b = _finite("bias", bias).reshape(-1)
        if len(b) != blocks * rows:
            raise InputError(
                f"the bias has {len(b)} numbers, the weight {blocks * rows} rows. Cure: one for each row"
            )
        target = torch.cat([w, b.reshape(blocks, rows, 1)], 2)
    damped = h + extra
    if c is not None:
        target = torch.linalg.solve(damped, (target @ (c + extra)).transpose(1, 2)).transpose(1, 2)
    if bias is None:
        return _resolved(target, damped, h, p, None, damping)
    power = h[:, k, k].clamp(min=torch.finfo(torch.float64).tiny)
    coupling = h[:, :k, k] / power[:, None]
    square = power[:, None, None] * coupling[:, :, None] * coupling[:, None, :]
    known = Bias(target[:, :, k].numpy(), coupling.numpy(), power.numpy())
    return _resolved(target[:, :, :k], damped[:, :k, :k] - square, h[:, :k, :k] - square, p, known, damping)


def _resolved(
    target: Tensor, damped: Tensor, exact: Tensor, p: Tensor, bias: Bias | None, damping: float
) -> Resolved:
    factor, failed = torch.linalg.cholesky_ex(damped)
    if bool(failed.any()):
        raise InputError(
            f"the moment of {damped.shape[1]} inputs is not positive definite with damping {damping}. Cure: "
            "more data or more damping (0.01 is usual)"
        )
    upper = torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)
    columns_first = target.transpose(1, 2).contiguous()
    return Resolved(
        columns_first.numpy(),
        damped.contiguous().numpy(),
        exact.numpy(),
        upper.numpy(),
        p.numpy(),
        bias,
        damping,
    )


def _damping(h: Tensor, damping: float, k: int) -> Tensor:
    """The matrix that is added: delta for each input but the constant; above 0 also for a dead input."""
    diagonal = h.diagonal(dim1=1, dim2=2)
    extra = (damping * diagonal[:, :k].mean(1, keepdim=True)).repeat(1, k)
    extra[(diagonal[:, :k] == 0) & (extra == 0)] = 1.0
    return torch.diag_embed(torch.cat([extra, extra.new_zeros(len(h), h.shape[1] - k)], 1))


def _precision(given: Tensor | None, blocks: int, rows: int, floor: float) -> Tensor:
    if given is None:
        return torch.ones(blocks, rows, dtype=torch.float64)
    p = _finite("row precision", given)
    if p.numel() != blocks * rows or float(p.min()) < 0 or not float(p.max()) > 0:
        least = float(p.min()) if p.numel() else 0.0
        raise InputError(
            f"row_precision must be {blocks * rows} numbers >= 0, not all 0, got {p.numel()} from "
            f"{least:.3g}. Cure: row_precision=None"
        )
    return p.reshape(blocks, rows).clamp(min=floor * float(p.mean()))


def _finite(name: str, tensor: Tensor) -> Tensor:
    values = tensor.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(values).all()):
        raise NonFiniteError(f"the {name} holds NaN or infinity. Cure: look for them in the batches")
    return values


def _matrices(name: str, tensor: Tensor) -> Tensor:
    if tensor.ndim not in (2, 3) or 0 in tensor.shape:
        raise InputError(
            f"the {name} must be a matrix, or a matrix by block, got {tuple(tensor.shape)}. Cure: (rows, "
            "columns) or (blocks, rows, columns)"
        )
    return _finite(name, tensor).reshape(-1, *tensor.shape[-2:])
