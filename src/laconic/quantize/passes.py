r"""Integers of a matrix, column after column: by error feedback, then by coordinate descent; and their steps.

*Feedback* (one sweep): with :math:`H^{-1} = U^\top U`, rounding column j moves the columns behind it by
:math:`-e_j U_{jk}`, :math:`e_j = (w_j - q_j s) / U_{jj}`, and costs exactly :math:`e_j^2` while these stay
real. *Descent*: with all other weights on their levels, column j would best be
:math:`w_j = v_j - [H (v - w^*)]_j / H_{jj}`, and another level costs :math:`H_{jj} (w_j - q_j s)^2` more. In
both, each weight takes the level of least distortion + price * rate, at the rates of the integers before.

Sources: Frantar et al., GPTQ, ICLR 2023, and Conzelmann et al., CERWU, 2025 (feedback, with the rate inside);
Behdin et al., QuantEase, 2023 (descent).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from laconic.quantize.rate_model import DoubleArray, count_rate
from laconic.quantize.resolved import Resolved
from laconic.records import IntArray

Layout = Literal["tensor", "row", "column"]


class Steps(NamedTuple):
    """Steps of a matrix: a part by row times a part by column, of which one is all ones.

    Attributes:
        layout: What has a step of its own.
        numbers: The steps, (1,), or one for each ``share`` rows or columns.
        share: Consecutive rows or columns of one step.
        by_row: (blocks, rows).
        by_column: (K,).
    """

    layout: Layout
    numbers: DoubleArray
    share: int
    by_row: DoubleArray
    by_column: DoubleArray

    def of_column(self, j: int) -> DoubleArray:
        """The steps of column j, (blocks, rows)."""
        scaled: DoubleArray = self.by_row * self.by_column[j]
        return scaled

    def values(self, integers: IntArray) -> DoubleArray:
        """Integers, (blocks, K, rows), times their steps."""
        scaled: DoubleArray = integers * (self.by_column[:, None] * self.by_row[:, None, :])
        return scaled


def lay_out(layout: Layout, numbers: DoubleArray, share: int, shape: tuple[int, int, int]) -> Steps:
    """The steps of a matrix (blocks, K, rows)."""
    blocks, k, rows = shape
    by_row, by_column = np.ones((blocks, rows)), np.ones(k)
    if layout == "row":
        by_row = np.repeat(numbers, share).reshape(blocks, rows)
    else:
        by_column = np.repeat(numbers, share if layout == "column" else k)
    return Steps(layout, numbers, share, by_row, by_column)


class Rates:
    """The price, in nats of distortion, of every level at every place."""

    def __init__(self, integers: IntArray, price: float) -> None:
        blocks, k, rows = integers.shape
        self.free = price == 0
        if self.free:
            return
        model = count_rate(as_matrix(integers), margin=1)
        odds = model.odds.reshape(blocks, rows, k).transpose(0, 2, 1)
        self._half = model.half
        self._zero = np.ascontiguousarray(-price * np.log1p(-odds))
        self._other = np.ascontiguousarray(-price * np.log(odds))
        self._level = price * model.level_nats

    def choose(
        self, w: DoubleArray, step: DoubleArray, curvature: DoubleArray, j: int, last: IntArray | None = None
    ) -> DoubleArray:
        """The level of least curvature * (w - q step)^2 + price of the nearest, one beside it, 0, the last.

        The one beside it is the next towards zero; beside zero it is the next towards w.
        """
        nearest: DoubleArray = np.rint(w / step)
        if self.free:
            return nearest
        nearest = np.clip(nearest, -self._half, self._half)
        beside = np.where(nearest == 0, np.sign(w), nearest - np.sign(nearest))
        best, least = np.zeros_like(w), curvature * w**2 + self._zero[:, j]
        for q in (beside, nearest) if last is None else (beside, nearest, last):
            level = self._level[q.astype(np.intp) + self._half]
            cost = curvature * (w - q * step) ** 2 + self._other[:, j] + level
            better = (cost < least) & (q != 0)
            least = np.where(better, cost, least)
            best = np.where(better, q, best)
        return best


def as_matrix(integers: IntArray) -> IntArray:
    """(blocks, K, rows) as (blocks * rows, K)."""
    return np.ascontiguousarray(integers.transpose(0, 2, 1)).reshape(-1, integers.shape[1])


def feedback(problem: Resolved, steps: Steps, rates: Rates, block: int) -> IntArray:
    """Integers (blocks, K, rows) by one sweep from the first column to the last."""
    w, upper = problem.target.copy(), problem.upper
    k = w.shape[1]
    integers = np.zeros(w.shape, np.int32)
    for start in range(0, k, block):
        end = min(start + block, k)
        part = w[:, start:end]
        errors = np.empty_like(part)
        for j in range(start, end):
            scale, step, now = upper[:, j, j, None], steps.of_column(j), part[:, j - start]
            q = rates.choose(now, step, 0.5 * problem.precision / scale**2, j)
            error = (now - q * step) / scale
            integers[:, j], errors[:, j - start] = q, error
            part[:, j - start + 1 :] -= upper[:, j, j + 1 : end, None] * error[:, None, :]
        if end < k:
            w[:, end:] -= np.matmul(upper[:, start:end, end:].transpose(0, 2, 1), errors)
    return integers


def descent(problem: Resolved, steps: Steps, rates: Rates, integers: IntArray, block: int) -> IntArray:
    """The integers after each column once took its best levels, all others given."""
    integers, h = integers.copy(), problem.curvature
    k = integers.shape[1]
    slope = np.matmul(h, steps.values(integers) - problem.target)
    for start in range(0, k, block):
        end = min(start + block, k)
        part = slope[:, start:end].copy()
        moves = np.empty_like(part)
        for j in range(start, end):
            step, power = steps.of_column(j), h[:, j, j, None]
            value = integers[:, j] * step
            q = rates.choose(
                value - part[:, j - start] / power, step, 0.5 * problem.precision * power, j, integers[:, j]
            )
            move = q * step - value
            integers[:, j], moves[:, j - start] = q, move
            if move.any():
                part += h[:, start:end, j, None] * move[:, None, :]
        if moves.any():
            slope += np.matmul(h[:, :, start:end], moves)
    return integers


def refit(problem: Resolved, steps: Steps, integers: IntArray) -> DoubleArray:
    """The steps of least squared error for these integers, as multiples of the present ones, in [1/2, 2]."""
    values, h, p = steps.values(integers), problem.curvature, problem.precision
    if steps.layout == "column":
        weighed = np.matmul(values * p[:, None, :], values.transpose(0, 2, 1))
        size = len(steps.numbers)
        shape = (size, steps.share, size, steps.share)
        square = (h * weighed).sum(0).reshape(shape).sum((1, 3))
        product = (values * np.matmul(h, problem.target) * p[:, None, :]).sum((0, 2))
        used = square.diagonal() > 0
        factors = np.ones(size)
        some = square[np.ix_(used, used)]
        some = some + 1e-9 * np.diag(some.diagonal())
        factors[used] = np.linalg.solve(some, product.reshape(size, steps.share).sum(1)[used])
    else:
        towards = np.matmul(h, values)
        square, product = p * (towards * values).sum(1), p * (towards * problem.target).sum(1)
        parts = (len(steps.numbers), -1)
        square, product = square.reshape(parts).sum(1), product.reshape(parts).sum(1)
        factors = np.divide(product, square, out=np.ones_like(square), where=square > 0)
    return np.clip(factors, 0.5, 2.0)
