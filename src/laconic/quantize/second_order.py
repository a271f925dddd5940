r"""Second-order rate-distortion quantisation of one matrix, re-solved on the inputs that it will really get.

A layer computed ``w.x``; in the network quantised so far it reads ``x~`` instead of x. Row r of integers q on
steps s has the damage, in nats,

.. math:: \tfrac12 p_r\, E|w_r \cdot x - (q_r s) \cdot \tilde x|^2 + \lambda\, R(q_r)
   = \tfrac12 p_r\, (q_r s - w^*_r) H (q_r s - w^*_r)^\top + \lambda R(q_r) + \text{const},

with :math:`H = E\,\tilde x\tilde x^\top + \delta I`, :math:`C = E\,x\tilde x^\top + \delta I` and the re-solved weight
:math:`w^* = w C H^{-1}`, which the damping :math:`\delta` draws to w. It is minimised column after column: with
:math:`H^{-1} = U^\top U`, U upper triangular, rounding column j moves the columns behind it by
:math:`-e_j U_{jk}`, :math:`e_j = (w_j - q_j s) / U_{jj}`, and costs exactly :math:`e_j^2`. So each weight takes the
level of least :math:`\tfrac12 p_r e_j^2 + \lambda R(q)`. Then rates are counted anew, and the passes repeated.

At a price :math:`\lambda` a weight of fine step costs :math:`p_r s^2 / (24 U_{jj}^2)` nats of distortion and
:math:`-\ln s` of rate; the sum is least at :math:`s^2 = 12 \lambda U_{jj}^2 / p_r`. Steps of a tensor, of rows or of
columns follow from the mean of :math:`p_r / U_{jj}^2` over their weights.

Sources: Hassibi & Stork, NIPS 1992 (the update); Frantar et al., GPTQ, ICLR 2023 (by columns, with the Cholesky
factor); Conzelmann et al., CERWU, 2025 (the rate inside); WaterSIC, 2026 (a step by column,
:math:`s_j \propto U_{jj}`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from laconic.errors import InputError, NonFiniteError
from laconic.quantize.rate_model import DoubleArray, RateModel, count_rate, rate_bits
from laconic.quantize.uniform import bfloat16
from laconic.records import IntArray

Layout = Literal["tensor", "row", "column"]
BITS_PER_STEP = 16
"""A step is a bfloat16 in a file."""


@dataclass(frozen=True)
class SecondOrder:
    """Settings of second-order quantisation.

    Args:
        damping: Share of the mean of H's diagonal that is added to it, > 0 where inputs may be dead.
        layouts: Steps to try: one for the tensor, one by row, one by column.
        multiples: Multiples of the step that the price gives, to try.
        iterations: Passes of choosing integers and counting their rates, >= 1.
        block: Columns that are updated at once.
        precision_floor: Least row precision, as a share of their mean.

    Raises:
        InputError: A setting out of its range, or nothing to try.

    >>> SecondOrder(damping=0.02).layouts
    ('tensor', 'row', 'column')
    """

    damping: float = 0.01
    layouts: tuple[Layout, ...] = ("tensor", "row", "column")
    multiples: tuple[float, ...] = (1.0,)
    iterations: int = 3
    block: int = 64
    precision_floor: float = 1e-3

    def __post_init__(self) -> None:
        if not (self.damping >= 0 and self.precision_floor >= 0 and self.iterations >= 1 and self.block >= 1):
            raise InputError(
                "damping and precision_floor must be >= 0, iterations and block >= 1, got "
                f"{self.damping}, {self.precision_floor}, {self.iterations}, {self.block}"
            )
        if not self.layouts or not set(self.layouts) <= {"tensor", "row", "column"}:
            raise InputError(f"layouts must name tensor, row or column, got {self.layouts}")
        if not self.multiples or not min(self.multiples) > 0:
            raise InputError(f"multiples must be above 0, at least one, got {self.multiples}")


@dataclass(frozen=True, eq=False)
class QuantizedMatrix:
    """A matrix on its grid.

    Attributes:
        integers: int32, of the shape of the weight.
        steps: float64 numbers that float32 holds: one, or one by row or column (or by some of them together).
        layout: What has a step of its own.
        values: The quantised weight ``integers * steps``, float64, of the weight's shape.
        target: The re-solved real weight w*, float64, of the weight's shape.
        distortion: Half p_r times the mean squared error above that of ``target``, in nats.
        rate: Bits of the integers and steps (and of the bias on its grid).
        bias: The bias re-solved for the integers, on its grid, float64 (rows,); None without one.
        bias_integers: The bias's integers, int32 (rows,); None without one.
        bias_step: Step of the bias; None without one.
    """

    integers: IntArray
    steps: DoubleArray
    layout: Layout
    values: DoubleArray
    target: DoubleArray
    distortion: float
    rate: float
    bias: DoubleArray | None = None
    bias_integers: IntArray | None = None
    bias_step: float | None = None


def quantize_matrix(
    weight: Tensor,
    moment: Tensor,
    price: float,
    config: SecondOrder | None = None,
    *,
    cross: Tensor | None = None,
    row_precision: Tensor | None = None,
    bias: Tensor | None = None,
    rows_per_step: int = 1,
    columns_per_step: int = 1,
    step: float | None = None,
) -> QuantizedMatrix:
    """Integers and steps of one weight.

    Args:
        weight: W, (rows, K); or (blocks, rows, K), where blocks of rows read different inputs.
        moment: Mean of x~ x~^T, (K, K) or (blocks, K, K); with a bias the last input is the constant 1.
        price: lambda, nats of distortion accepted for one nat of rate, >= 0.
        config: The settings.
        cross: Mean of x x~^T, x the inputs in the original network, of the moment's shape; None: x = x~.
        row_precision: Precision of each output (its curvature in nats, times the number of terms), (rows,) or
            (blocks, rows), > 0; None: 1.
        bias: (rows,) or (blocks, rows); None: the moment has no constant input.
        rows_per_step: Consecutive rows (of all blocks) that share a step in the layout "row".
        columns_per_step: Consecutive columns that share a step in the layout "column", the same in all blocks.
        step: One step for the tensor instead of those that follow from the price; needed at price 0.

    Returns:
        The layout and multiple of least distortion + price * rate.

    Raises:
        InputError: Shapes that do not agree, a negative price, price 0 without a step, or a moment that is not
            positive definite with the damping.
        NonFiniteError: NaN or infinity in the weight or the moments.

    >>> w = torch.tensor([[0.9, -0.4]])
    >>> quantize_matrix(w, torch.eye(2), 0.0, step=0.5).integers.tolist()
    [[2, -1]]
    """
    config = config or SecondOrder()
    problem = _problem(weight, moment, cross, row_precision, bias, config)
    if not price >= 0 or (price == 0 and step is None):
        raise InputError(f"price must be >= 0, and a step be given at price 0, got price {price}")
    candidates = _candidates(problem, price, config, (rows_per_step, columns_per_step), step)
    firsts = [_pass(problem, c, _start(problem, c), price, config.block) for c in candidates]
    costs = [_cost(problem, c, q, price) for c, q in zip(candidates, firsts, strict=True)]
    best = int(np.argmin(costs))
    grid, q = candidates[best], firsts[best]
    least = costs[best]
    current = q
    for _ in range(config.iterations - 1):
        current = _pass(problem, grid, current, price, config.block)
        cost = _cost(problem, grid, current, price)
        if cost < least:
            q, least = current, cost
    return _result(problem, grid, q, price, tuple(weight.shape))


class _Problem(NamedTuple):
    """Matrices with columns first, so that a column of all rows is contiguous: (blocks, K, rows)."""

    target: DoubleArray
    h: DoubleArray  # damped, the bias eliminated: (blocks, K, K)
    exact: DoubleArray  # the same without damping
    upper: DoubleArray  # U, (blocks, K, K)
    precision: DoubleArray  # (blocks, rows)
    bias: DoubleArray | None  # the bias re-solved for the target, (blocks, rows)
    coupling: DoubleArray | None  # H_wb / H_bb, (blocks, K)
    bias_power: DoubleArray | None  # H_bb, (blocks,)


class _Grid(NamedTuple):
    """Steps as a product of a part by row and one by column, one of which is all ones."""

    layout: Layout
    by_row: DoubleArray  # (blocks, rows)
    by_column: DoubleArray  # (K,)
    steps: DoubleArray


def _problem(
    weight: Tensor,
    moment: Tensor,
    cross: Tensor | None,
    row_precision: Tensor | None,
    bias: Tensor | None,
    config: SecondOrder,
) -> _Problem:
    w = _double("weight", weight, 3)
    h = _double("moment", moment, 3)
    blocks, rows, k = w.shape
    inputs = k + (bias is not None)
    c = h if cross is None else _double("cross moment", cross, 3)
    for name, matrix in (("moment", h), ("cross moment", c)):
        if matrix.shape != (blocks, inputs, inputs):
            raise InputError(
                f"the {name} of a weight of shape {tuple(weight.shape)} must be {inputs} x {inputs} for each "
                f"of {blocks} blocks, got {tuple(matrix.shape)}"
            )
    if bias is not None:
        b = _double("bias", bias, 1).reshape(-1)
        if b.numel() != blocks * rows:
            raise InputError(f"the bias has {b.numel()} entries, the weight {blocks * rows} rows")
        w = torch.cat([w, b.reshape(blocks, rows, 1)], 2)
    precision = _precision(row_precision, blocks, rows, config.precision_floor)
    extra = config.damping * h.diagonal(dim1=1, dim2=2)[:, :k].mean(1, keepdim=True).expand(blocks, inputs)
    dead = h.diagonal(dim1=1, dim2=2) == 0
    extra = torch.where(dead & (extra == 0), 1.0, extra)
    if bias is not None:
        extra = torch.cat([extra[:, :k], torch.zeros_like(extra[:, k:])], 1)
    damped = h + torch.diag_embed(extra)
    target = w if cross is None else _resolve(w, c + torch.diag_embed(extra), damped)
    coupling = power = shift = None
    if bias is not None:
        power = h[:, k, k]
        coupling = h[:, :k, k] / power[:, None]
        shift = target[:, :, k]
        square = power[:, None, None] * coupling[:, :, None] * coupling[:, None, :]
        h, damped, target = h[:, :k, :k] - square, damped[:, :k, :k] - square, target[:, :, :k]
    upper = _upper(damped, config.damping)
    as_numpy = [None if t is None else t.contiguous().numpy() for t in (shift, coupling, power)]
    return _Problem(
        target.transpose(1, 2).contiguous().numpy(),
        damped.numpy(),
        h.numpy(),
        upper.numpy(),
        precision.numpy(),
        *as_numpy,
    )


def _double(name: str, tensor: Tensor, dimensions: int) -> Tensor:
    values = tensor.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(values).all()):
        raise NonFiniteError(f"the {name} holds NaN or infinity. Cure: look for them in the batches")
    if dimensions == 3:
        if values.ndim not in (2, 3) or 0 in values.shape:
            raise InputError(f"the {name} must be a matrix, or a matrix by block, got {tuple(values.shape)}")
        return values.reshape(-1, *values.shape[-2:])
    return values


def _precision(given: Tensor | None, blocks: int, rows: int, floor: float) -> Tensor:
    if given is None:
        return torch.ones(blocks, rows, dtype=torch.float64)
    p = _double("row precision", given, 1)
    if p.numel() != blocks * rows or float(p.min()) < 0 or not float(p.max()) > 0:
        raise InputError(
            f"row_precision must be {blocks * rows} numbers >= 0, not all 0, got {p.numel()} from "
            f"{float(p.min()) if p.numel() else 0:.3g}"
        )
    return p.reshape(blocks, rows).clamp(min=floor * float(p.mean()))


def _resolve(w: Tensor, c: Tensor, h: Tensor) -> Tensor:
    """w C H^-1 by block."""
    return torch.linalg.solve(h, (w @ c).transpose(1, 2)).transpose(1, 2)


def _upper(h: Tensor, damping: float) -> Tensor:
    """U with H^-1 = U^T U."""
    factor, failed = torch.linalg.cholesky_ex(h)
    if bool(failed.any()):
        raise InputError(
            f"the moment of {h.shape[1]} inputs is not positive definite with damping {damping}. Cure: more data "
            "or more damping (0.01 is usual)"
        )
    return torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)


# --- steps ------------------------------------------------------------------------------------------


def _candidates(
    problem: _Problem, price: float, config: SecondOrder, share: tuple[int, int], step: float | None
) -> list[_Grid]:
    """The grids to try."""
    blocks, k, rows = problem.target.shape
    if step is not None:
        one = np.array([bfloat16(step)])
        return [_grid("tensor", one, problem, share)]
    curvature = 1.0 / np.square(np.diagonal(problem.upper, axis1=1, axis2=2))  # (blocks, K)
    found = []
    for layout in config.layouts:
        if layout == "row":
            if blocks * rows % share[0]:
                raise InputError(f"{blocks * rows} rows cannot share steps by {share[0]}")
            each = problem.precision * curvature.mean(1, keepdims=True)
            mean = each.reshape(-1, share[0]).mean(1)
        elif layout == "column":
            if k % share[1]:
                raise InputError(f"{k} columns cannot share steps by {share[1]}")
            each = (curvature * problem.precision.mean(1, keepdims=True)).mean(0)
            mean = each.reshape(-1, share[1]).mean(1)
        else:
            mean = np.array([(curvature.mean(1) * problem.precision.mean(1)).mean()])
        if layout != "tensor" and len(mean) == 1 and "tensor" in config.layouts:
            continue
        for multiple in config.multiples:
            raw = multiple * np.sqrt(12.0 * price / mean)
            found.append(_grid(layout, np.array([bfloat16(s) for s in raw]), problem, share))
    return found


def _grid(layout: Layout, steps: DoubleArray, problem: _Problem, share: tuple[int, int]) -> _Grid:
    blocks, k, rows = problem.target.shape
    by_row, by_column = np.ones((blocks, rows)), np.ones(k)
    if layout == "column":
        by_column = np.repeat(steps, share[1])
    elif layout == "row":
        by_row = np.repeat(steps, share[0]).reshape(blocks, rows)
    else:
        by_column = np.full(k, steps[0])
    return _Grid(layout, by_row, by_column, steps)


# --- integers -----------------------------------------------------------------------------------------


def _start(problem: _Problem, grid: _Grid) -> IntArray:
    """The nearest levels of the re-solved weight, from which the first rates are counted."""
    q = np.rint(problem.target / (grid.by_column[:, None] * grid.by_row[:, None, :]))
    if np.abs(q).max() >= 2**31:
        raise InputError(f"a step of {grid.steps.min():.3g} is too small for the weight")
    return q.astype(np.int32)


def _pass(problem: _Problem, grid: _Grid, last: IntArray, price: float, block: int) -> IntArray:
    """All columns once, under the rates of ``last``."""
    w = problem.target.copy()
    k = w.shape[1]
    out = np.zeros(w.shape, np.int32)
    if price > 0 and not last.any():
        return out
    rates = _Rates(last, price)
    for start in range(0, k, block):
        end = min(start + block, k)
        part = w[:, start:end]
        errors = np.empty_like(part)
        for j in range(start, end):
            row = j - start
            step = grid.by_row * grid.by_column[j]
            scale = problem.upper[:, j, j, None]
            now = part[:, row]
            q = rates.choose(now, step, 0.5 * problem.precision / scale**2, j)
            error = (now - q * step) / scale
            out[:, j], errors[:, row] = q, error
            ahead = problem.upper[:, j, j + 1 : end, None]
            part[:, row + 1 :] -= ahead * error[:, None, :]
        if end < k:
            w[:, end:] -= np.matmul(problem.upper[:, start:end, end:].transpose(0, 2, 1), errors)
    return out


class _Rates:
    """The price, in nats of distortion, of every level at every place."""

    def __init__(self, last: IntArray, price: float) -> None:
        self.free = price == 0
        if self.free:
            return
        blocks, k, rows = last.shape
        model: RateModel = count_rate(_as_matrix(last), margin=1)
        odds = model.odds.reshape(blocks, rows, k).transpose(0, 2, 1)
        self.half = model.half
        self.zero = np.ascontiguousarray(-price * np.log1p(-odds))
        self.other = np.ascontiguousarray(-price * np.log(odds))
        self.level = price * model.level_nats

    def choose(self, w: DoubleArray, step: DoubleArray, curvature: DoubleArray, j: int) -> DoubleArray:
        """The level of least curvature * (w - q step)^2 + price: the nearest, the next inwards, or zero."""
        nearest = np.rint(w / step)
        if self.free:
            return nearest
        nearest = np.clip(nearest, -self.half, self.half)
        inward = nearest - np.sign(nearest)
        best = np.zeros_like(w)
        least = curvature * w**2 + self.zero[:, j]
        for q in (inward, nearest):
            cost = (
                curvature * (w - q * step) ** 2 + self.other[:, j] + self.level[q.astype(np.intp) + self.half]
            )
            better = (cost < least) & (q != 0)
            least = np.where(better, cost, least)
            best = np.where(better, q, best)
        return best


def _as_matrix(q: IntArray) -> IntArray:
    """(blocks, K, rows) as (blocks * rows, K)."""
    return np.ascontiguousarray(q.transpose(0, 2, 1)).reshape(-1, q.shape[1])


def _distortion(problem: _Problem, values: DoubleArray) -> float:
    """Half p_r times (v - w*) H (v - w*)^T, without damping."""
    shift = values - problem.target
    each = np.einsum("bkr,bkr->br", shift, np.matmul(problem.exact, shift))
    return float(0.5 * (problem.precision * each).sum())


def _values(grid: _Grid, q: IntArray) -> DoubleArray:
    return q * (grid.by_column[:, None] * grid.by_row[:, None, :])


def _bits(grid: _Grid, q: IntArray) -> float:
    return rate_bits(_as_matrix(q)) + BITS_PER_STEP * len(grid.steps)


def _cost(problem: _Problem, grid: _Grid, q: IntArray, price: float) -> float:
    """Distortion (damped, as the passes minimise it) + price * rate, in nats."""
    shift = _values(grid, q) - problem.target
    each = np.einsum("bkr,bkr->br", shift, np.matmul(problem.h, shift))
    return float(0.5 * (problem.precision * each).sum()) + price * math.log(2.0) * _bits(grid, q)


def _result(
    problem: _Problem, grid: _Grid, q: IntArray, price: float, shape: tuple[int, ...]
) -> QuantizedMatrix:
    values = _values(grid, q)
    distortion, rate = _distortion(problem, values), _bits(grid, q)

    def back(x: npt.NDArray[np.float64]) -> DoubleArray:
        return np.ascontiguousarray(x.transpose(0, 2, 1)).reshape(shape)

    integers = np.ascontiguousarray(q.transpose(0, 2, 1)).reshape(shape)
    whole = QuantizedMatrix(
        integers, grid.steps, grid.layout, back(values), back(problem.target), distortion, rate
    )
    if problem.bias is None or problem.coupling is None or problem.bias_power is None:
        return whole
    real = problem.bias - np.einsum("bk,bkr->br", problem.coupling, values - problem.target)
    curvature = problem.precision * problem.bias_power[:, None]
    largest = float(np.abs(real).max())
    fine = math.sqrt(12.0 * price / float(curvature.mean())) if price > 0 else largest / 2**15
    step = bfloat16(max(fine, largest / 2**30) or 1.0)
    integers_b = np.rint(real / step).astype(np.int32)
    error = real - integers_b * step
    rate += rate_bits(integers_b.reshape(1, -1)) + BITS_PER_STEP
    distortion += float(0.5 * (curvature * error**2).sum())
    return QuantizedMatrix(
        integers,
        grid.steps,
        grid.layout,
        whole.values,
        whole.target,
        distortion,
        rate,
        (integers_b * step).reshape(-1),
        integers_b.reshape(-1),
        step,
    )
