r"""Integers of a matrix, column after column: by error feedback, then by coordinate descent; and their steps.

*Feedback* (one sweep): with :math:`H^{-1} = U^\top U`, rounding column j moves the columns behind it by
:math:`-e_j U_{jk}`, :math:`e_j = (w_j - q_j s) / U_{jj}`, and costs exactly :math:`e_j^2` while these stay
real. *Descent*: with all other weights on their levels, column j would best be
:math:`w_j = v_j - [H (v - w^*)]_j / H_{jj}`, and another level costs :math:`H_{jj} (w_j - q_j s)^2` more. In
both, each weight takes the level of least distortion + price * rate, at the rates of the integers before.

A *beam* is feedback that keeps the cheapest few beginnings of each row, by their distortion and price.

Sources: Frantar et al., GPTQ, ICLR 2023, and Conzelmann et al., CERWU, 2025 (feedback, with the rate inside);
Jelinek & Anderson 1971 (the M-algorithm: a beam);
Behdin et al., QuantEase, 2023 (descent).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from laconic.quantize import native
from laconic.quantize.rate_model import DoubleArray, LevelPrices, count_rate
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
    """Steps of a layout.

    Args:
        layout: What has a step of its own.
        numbers: The steps: one, or one for each ``share`` rows or columns.
        share: Consecutive rows (of all blocks) or columns of one step.
        shape: The matrix's (blocks, K, rows).

    Returns:
        The steps of each row and column.

    >>> lay_out("column", np.array([0.5, 2.0]), 2, (1, 4, 3)).by_column.tolist()
    [0.5, 0.5, 2.0, 2.0]
    """
    blocks, k, rows = shape
    by_row, by_column = np.ones((blocks, rows)), np.ones(k)
    if layout == "row":
        by_row = np.repeat(numbers, share).reshape(blocks, rows)
    else:
        by_column = np.repeat(numbers, share if layout == "column" else k)
    return Steps(layout, numbers, share, by_row, by_column)


class Rates:
    """The price, in nats of distortion, of every level at every place.

    Args:
        integers: From which the rates are counted, (blocks, K, rows); not all zero unless the price is 0.
        price: Nats of distortion for a nat of rate.

    >>> Rates(np.zeros((1, 2, 1), np.int32), 0.0).free
    True
    """

    def __init__(self, integers: IntArray, price: float) -> None:
        blocks, k, rows = integers.shape
        self.free = price == 0
        self._zero = self._other = np.empty(0)
        self._level = LevelPrices(np.empty(0), 0)
        if self.free:
            return
        model = count_rate(as_matrix(integers), margin=1)
        odds = model.odds.reshape(blocks, rows, k).transpose(0, 2, 1)
        self._half = model.levels.half
        self._zero = np.ascontiguousarray(-price * np.log1p(-odds))
        self._other = np.ascontiguousarray(-price * np.log(odds))
        self._level = model.levels.times(price)

    @property
    def tables(self) -> tuple[DoubleArray, DoubleArray, DoubleArray] | None:
        """Prices of zero and of not zero, (blocks, K, rows), and of levels, -half to half; empty if free.

        None where a table of all levels would be too long.
        """
        return (self._zero, self._other, self._level.nats) if self._level.seen is None else None

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
            level = self._level.of(q)
            cost = curvature * (w - q * step) ** 2 + self._other[:, j] + level
            better = (cost < least) & (q != 0)
            least = np.where(better, cost, least)
            best = np.where(better, q, best)
        return best

    def options(
        self, w: DoubleArray, step: DoubleArray, curvature: DoubleArray, j: int
    ) -> tuple[DoubleArray, DoubleArray]:
        """Three different levels for each of w, (..., blocks, rows), and their costs; of ``choose``."""
        nearest: DoubleArray = np.clip(np.rint(w / step), -self._half, self._half)
        beside = np.where(nearest == 0, np.sign(w), nearest - np.sign(nearest))
        levels = np.stack([np.zeros_like(nearest), beside, nearest])
        rate = np.where(
            levels != 0,
            self._other[:, j] + self._level.of(levels),
            self._zero[:, j],
        )
        costs: DoubleArray = curvature * (w - levels * step) ** 2 + rate
        costs[1:][levels[1:] == 0] = np.inf  # zero is there already
        return levels, costs


def as_matrix(integers: IntArray) -> IntArray:
    """(blocks, K, rows) as (blocks * rows, K)."""
    return np.ascontiguousarray(integers.transpose(0, 2, 1)).reshape(-1, integers.shape[1])


def feedback(problem: Resolved, steps: Steps, rates: Rates, block: int) -> tuple[IntArray, float]:
    """One sweep from the first column to the last.

    Args:
        problem: The least squares.
        steps: Of each row and column.
        rates: The prices of levels.
        block: Columns that are updated at once; it changes the time, not the result.

    Returns:
        The integers, (blocks, K, rows), and their damped distortion in nats.

    >>> import torch
    >>> from laconic.quantize.resolved import resolve
    >>> problem = resolve(torch.tensor([[0.9, -0.4]]), torch.eye(2), 0.0)
    >>> steps = lay_out("tensor", np.array([0.5]), 1, (1, 2, 1))
    >>> free = Rates(np.zeros((1, 2, 1), np.int32), 0.0)
    >>> feedback(problem, steps, free, 64)[0].ravel().tolist()
    [2, -1]
    """
    w, upper = problem.target.copy(), problem.upper
    k = w.shape[1]
    integers, damage = np.zeros(w.shape, np.int32), 0.0
    columns = _compiled("feedback", upper, rates) or _fed_back
    for start in range(0, k, block):
        end = min(start + block, k)
        part = np.ascontiguousarray(w[:, start:end])
        errors = np.empty_like(part)
        columns(problem, steps, rates, integers, part, errors, start)
        damage += 0.5 * float((problem.precision[:, None, :] * errors**2).sum())
        if end < k:
            w[:, end:] -= np.matmul(upper[:, start:end, end:].transpose(0, 2, 1), errors)
    return integers, damage


def _fed_back(
    problem: Resolved,
    steps: Steps,
    rates: Rates,
    integers: IntArray,
    part: DoubleArray,
    errors: DoubleArray,
    start: int,
) -> None:
    """Round the columns of a part, (blocks, columns, rows); fill their integers and errors."""
    upper, end = problem.upper, start + part.shape[1]
    for j in range(start, end):
        scale, step, now = upper[:, j, j, None], steps.of_column(j), part[:, j - start]
        q = rates.choose(now, step, 0.5 * problem.precision / scale**2, j)
        error = (now - q * step) / scale
        integers[:, j], errors[:, j - start] = q, error
        part[:, j - start + 1 :] -= upper[:, j, j + 1 : end, None] * error[:, None, :]


def _compiled(what: str, matrix: DoubleArray, rates: Rates) -> Callable[..., None] | None:
    """A pass over columns in compiled code: the same operations in the same order; None without it."""
    extension, tables = native.extension(), rates.tables
    if extension is None or tables is None:
        return None
    run, matrix = getattr(extension, what), np.ascontiguousarray(matrix)

    def columns(
        problem: Resolved,
        steps: Steps,
        rates: Rates,
        integers: IntArray,
        part: DoubleArray,
        change: DoubleArray,
        start: int,
    ) -> None:
        precision = np.ascontiguousarray(problem.precision)
        told = (steps.by_row, steps.by_column, precision, *tables)
        run(part, change, integers, matrix, *told, *integers.shape, start, start + part.shape[1])

    return columns


def beam(problem: Resolved, steps: Steps, rates: Rates, width: int, block: int) -> IntArray:
    """One sweep that keeps the ``width`` cheapest beginnings of each row, not only the cheapest.

    Args:
        problem: The least squares.
        steps: Of each row and column.
        rates: The prices of levels, above 0.
        width: Beginnings that are kept; time and memory grow with it.
        block: Columns that are updated at once; it changes the time, not the result.

    Returns:
        The integers of the cheapest whole rows, (blocks, K, rows).

    >>> import torch
    >>> from laconic.quantize.resolved import resolve
    >>> problem = resolve(torch.tensor([[0.9, -0.4]]), torch.eye(2), 0.0)
    >>> steps = lay_out("tensor", np.array([0.5]), 1, (1, 2, 1))
    >>> beam(problem, steps, Rates(np.int32([[[2], [-1]]]), 1e-3), 4, 64).ravel().tolist()
    [2, -1]
    """
    w = np.repeat(problem.target[None], width, 0)  # (width, blocks, K, rows)
    k, integers = w.shape[2], np.zeros(w.shape, np.int32)
    cost = np.full((width, w.shape[1], w.shape[3]), np.inf)
    cost[0] = 0.0
    for start in range(0, k, block):
        end = min(start + block, k)
        part, levels = w[:, :, start:end].copy(), integers[:, :, start:end].copy()
        errors = np.zeros_like(part)
        origin = np.broadcast_to(np.arange(width)[:, None, None], cost.shape)
        for j in range(start, end):
            scale, step, now = problem.upper[:, j, j, None], steps.of_column(j), part[:, :, j - start]
            options, prices = rates.options(now, step, 0.5 * problem.precision / scale**2, j)
            every = (cost + prices).reshape(-1, *cost.shape[1:])
            chosen = np.argpartition(every, width - 1, 0)[:width]
            cost = np.take_along_axis(every, chosen, 0)
            q, parent = np.take_along_axis(options.reshape(every.shape), chosen, 0), chosen % width
            origin = np.take_along_axis(origin, parent, 0)
            from_parent = parent[:, :, None]
            part, errors = (
                np.take_along_axis(part, from_parent, 0),
                np.take_along_axis(errors, from_parent, 0),
            )
            levels = np.take_along_axis(levels, from_parent, 0)
            error = (part[:, :, j - start] - q * step) / scale
            levels[:, :, j - start], errors[:, :, j - start] = q, error
            part[:, :, j - start + 1 :] -= problem.upper[:, j, j + 1 : end, None] * error[:, :, None]
        integers = np.take_along_axis(integers, origin[:, :, None], 0)
        integers[:, :, start:end] = levels
        if end < k:
            ahead = np.matmul(problem.upper[:, start:end, end:].transpose(0, 2, 1), errors)
            w[:, :, end:] = np.take_along_axis(w[:, :, end:], origin[:, :, None], 0) - ahead
    best = cost.argmin(0)[None, :, None]
    return np.ascontiguousarray(np.take_along_axis(integers, best, 0)[0])


def descent(
    problem: Resolved, steps: Steps, rates: Rates, integers: IntArray, block: int
) -> tuple[IntArray, float]:
    """Each column once takes its best levels, all others given: distortion + price * rate never rises.

    Args:
        problem: The least squares.
        steps: Of each row and column.
        rates: The prices of levels.
        integers: Where it starts, (blocks, K, rows).
        block: Columns that are updated at once; it changes the time, not the result.

    Returns:
        The new integers, and their damped distortion in nats.

    >>> import torch
    >>> from laconic.quantize.resolved import resolve
    >>> problem = resolve(torch.tensor([[0.9, -0.4]]), torch.eye(2), 0.0)
    >>> steps = lay_out("tensor", np.array([0.5]), 1, (1, 2, 1))
    >>> start = np.zeros((1, 2, 1), np.int32)
    >>> descent(problem, steps, Rates(start, 0.0), start, 64)[0].ravel().tolist()
    [2, -1]
    """
    integers, h = integers.copy(), problem.curvature
    k = integers.shape[1]
    slope = np.matmul(h, steps.values(integers) - problem.target)
    columns = _compiled("descent", h, rates) or _descended
    for start in range(0, k, block):
        end = min(start + block, k)
        part = slope[:, start:end].copy()
        moves = np.empty_like(part)
        columns(problem, steps, rates, integers, part, moves, start)
        if moves.any():
            slope += np.matmul(h[:, :, start:end], moves)
    each = ((steps.values(integers) - problem.target) * slope).sum(1)
    return integers, 0.5 * float((problem.precision * each).sum())


def _descended(
    problem: Resolved,
    steps: Steps,
    rates: Rates,
    integers: IntArray,
    part: DoubleArray,
    moves: DoubleArray,
    start: int,
) -> None:
    """Move the columns of a part, whose slopes are given, to their best levels; fill integers and moves."""
    h, end = problem.curvature, start + part.shape[1]
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


def refit(problem: Resolved, steps: Steps, integers: IntArray) -> DoubleArray:
    """The steps of least squared error for given integers.

    Args:
        problem: The least squares.
        steps: The present steps.
        integers: (blocks, K, rows).

    Returns:
        Multiples of the present steps, in [1/2, 2]; 1 for a step whose integers are all zero.

    >>> import torch
    >>> from laconic.quantize.resolved import resolve
    >>> problem = resolve(torch.tensor([[0.9, -0.45]]), torch.eye(2), 0.0)
    >>> steps = lay_out("tensor", np.array([0.5]), 1, (1, 2, 1))
    >>> refit(problem, steps, np.int32([[[2], [-1]]])).round(6).tolist()
    [0.9]
    """
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
