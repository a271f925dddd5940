r"""Second-order rate-distortion quantisation of one matrix, re-solved on the inputs that it will really get.

A layer computed ``w.x``; in the network quantised so far it reads ``x~`` in place of x. Row r of integers q
on steps s then costs, in nats,

.. math:: \tfrac12 p_r\, E|w_r \cdot x - (q_r s) \cdot \tilde x|^2 + \lambda\, R(q_r)

(:mod:`laconic.quantize.resolved` turns the first term into a distance from a re-solved weight). Integers are
chosen by sweeps with error feedback, then by descent under rates that are counted anew
(:mod:`laconic.quantize.passes`); steps are refitted in between.

At a price :math:`\lambda` a weight on a fine step costs :math:`p_r s^2 / (24 U_{jj}^2)` nats of distortion
and :math:`-\ln s` nats of rate; the sum is least at :math:`s^2 = 12 \lambda U_{jj}^2 / p_r`. A step that
several weights share follows from the mean of :math:`p_r / U_{jj}^2` over those that are not zero.

Sources: Frantar et al., GPTQ, ICLR 2023; Conzelmann et al., CERWU, 2025 (the rate inside); WaterSIC, 2026 (a
step by column, proportional to :math:`U_{jj}`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from laconic.errors import InputError
from laconic.quantize.passes import Layout, Rates, Steps, as_matrix, beam, descent, feedback, lay_out, refit
from laconic.quantize.rate_model import DoubleArray, rate_bits
from laconic.quantize.resolved import Bias, Resolved, resolve
from laconic.quantize.uniform import bfloat16
from laconic.records import AnyArray, IntArray

BITS_PER_STEP = 16
"""A step is a bfloat16 in a file."""
CODE_ABOVE_MANTISSA, BITS_OF_CODES = 2, 40
"""Bits that the code of one of many steps takes beside its mantissa: they are mostly within some octaves. And
those that stand before all codes.
"""
NEAR = 1.01
"""Further sweeps are for the layout that is best after the first, and those that cost so much at most."""
MOST_LEVELS = 2**20
"""Levels on each side of zero that a step may give; each of them has a price in memory."""


@dataclass(frozen=True)
class SecondOrder:
    """Settings of second-order quantisation.

    Args:
        damping: Share of the mean of H's diagonal that is added to it, >= 0.
        damping_by_samples: More damping for a moment of few samples, as a multiple of inputs / samples: error
            feedback moves weights along what so few samples do not show, and would learn them by heart.
        layouts: Steps to try: one for the tensor, one by row, one by column.
        multiples: Multiples of the step that the price gives, to try.
        sweeps: Most sweeps with error feedback; they end when one is no gain.
        descents: Most passes of descent after them; they end when one is no gain.
        beam: Beginnings of each row that a further sweep keeps; 1: no such sweep. Its time grows with it.
        block: Columns that are updated at once.
        precision_floor: Least row precision, as a share of their mean.

    Raises:
        InputError: A setting out of its range, or nothing to try.

    >>> SecondOrder(damping=0.02).layouts
    ('tensor', 'row')
    """

    damping: float = 0.02
    damping_by_samples: float = 0.03
    layouts: tuple[Layout, ...] = ("tensor", "row")
    multiples: tuple[float, ...] = (1.0,)
    sweeps: int = 3
    descents: int = 4
    beam: int = 1
    block: int = 64
    precision_floor: float = 1e-3

    def __post_init__(self) -> None:
        if not min(self.damping, self.damping_by_samples, self.precision_floor) >= 0:
            raise InputError(
                "damping, damping_by_samples and precision_floor must be >= 0, got "
                f"{self.damping}, {self.damping_by_samples}, {self.precision_floor}. Cure: damping=0.01"
            )
        if min(self.sweeps, self.beam, self.block) < 1 or self.descents < 0:
            raise InputError(
                "sweeps, beam and block must be >= 1, descents >= 0, got "
                f"{self.sweeps}, {self.beam}, {self.block}, {self.descents}"
                ". Cure: sweeps=1, beam=1, block=128, descents=0"
            )
        if not self.layouts or not set(self.layouts) <= {"tensor", "row", "column"}:
            raise InputError(f"layouts must name tensor, row or column, got {self.layouts}. Cure: ('row',)")
        if not self.multiples or not min(self.multiples) > 0:
            raise InputError(f"multiples must be above 0, at least one, got {self.multiples}. Cure: (1.0,)")


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
        damped_distortion: What was minimised: the same with the damping, without the rounding of the bias.
        damping: The share of the mean diagonal that was added.
        rate: Bits of the integers and steps (and of the bias on its grid).
        bias: The bias re-solved for the integers, on its grid, float64 (rows,); None without one.
        bias_integers: The bias's integers, int32 (rows,); None without one.
        bias_step: Step of the bias; None without one.

    >>> import torch
    >>> found = quantize_matrix(torch.tensor([[0.9, -0.4]]), torch.eye(2), 0.0, step=0.5)
    >>> found.steps.tolist(), found.layout, found.values.tolist()
    ([0.5], 'tensor', [[1.0, -0.5]])
    """

    integers: IntArray
    steps: DoubleArray
    layout: Layout
    values: DoubleArray
    target: DoubleArray
    distortion: float
    damped_distortion: float
    damping: float
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
    samples: int | None = None,
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
        samples: How many x~ the moment is a mean of; they add ``damping_by_samples * K / samples`` to the
            damping. None: many.
        cross: Mean of x x~^T, x the inputs in the original network, of the moment's shape; None: x = x~.
        row_precision: Precision of each output (its curvature in nats, times the number of terms), (rows,) or
            (blocks, rows), > 0; None: 1.
        bias: (rows,) or (blocks, rows); None: the moment has no constant input.
        rows_per_step: Consecutive rows (of all blocks) that share a step in the layout "row".
        columns_per_step: Consecutive columns that share a step in the layout "column"; all blocks do.
        step: One step for the tensor instead of those that follow from the price; needed at price 0.

    Returns:
        The layout and multiple of least distortion + price * rate.

    Raises:
        InputError: Shapes that do not agree, a negative price, price 0 without a step, or a moment that is
            not positive definite with the damping.
        NonFiniteError: NaN or infinity in the weight or the moments.

    >>> import torch
    >>> w = torch.tensor([[0.9, -0.4]])
    >>> quantize_matrix(w, torch.eye(2), 0.0, step=0.5).integers.tolist()
    [[2, -1]]
    """
    config = config or SecondOrder()
    if not math.isfinite(price) or price < 0 or (price == 0 and step is None):
        raise InputError(f"price must be >= 0, and a step be given at price 0, got {price}. Cure: price=1")
    problem = resolve(
        weight,
        moment,
        config.damping + (config.damping_by_samples * weight.shape[-1] / samples if samples else 0.0),
        cross=cross,
        precision=row_precision,
        precision_floor=config.precision_floor,
        bias=bias,
    )
    if step is None:
        candidates = _candidates(problem, price, config, {"row": rows_per_step, "column": columns_per_step})
    else:
        candidates = [(lay_out("tensor", np.array([bfloat16(step)]), 1, problem.target.shape), None)]
    begun = [_begun(problem, *one, price, config) for one in candidates]
    near = NEAR * min(choice.cost for choice in begun)
    best = min((_swept(problem, c, price, config) for c in begun if c.cost <= near), key=lambda c: c.cost)
    best = _descended(problem, best, price, config, fixed=step is not None)
    if config.beam > 1 and price > 0 and best.integers.any():
        integers = beam(problem, best.steps, Rates(best.integers, price), config.beam, config.block)
        other = _choice(problem, best.steps, integers, price)
        other = _descended(problem, other, price, config, fixed=step is not None)
        best = min(best, other, key=lambda c: c.cost)
    return _result(problem, best, price, tuple(weight.shape))


class _Choice(NamedTuple):
    """Steps, integers (blocks, K, rows), and damped distortion + price * rate in nats."""

    steps: Steps
    integers: IntArray
    cost: float


def _choice(
    problem: Resolved, steps: Steps, integers: IntArray, price: float, damage: float | None = None
) -> _Choice:
    if damage is None:
        damage = problem.damage(steps.values(integers), damped=True)
    return _Choice(steps, integers, damage + price * math.log(2.0) * _bits(steps, integers))


def _bits(steps: Steps, integers: IntArray) -> float:
    count, bits = len(steps.numbers), BITS_PER_STEP
    if count > 1:
        bits = BITS_OF_CODES + count * (CODE_ABOVE_MANTISSA + step_mantissa(integers.size // count))
    return rate_bits(as_matrix(integers)) + bits


def step_mantissa(weights: int) -> int:
    """Bits of mantissa of one of many steps, which so many weights share.

    About the best step s the cost of a weight is flat: a step off by the share e costs e^2 nats at price 1.
    With m bits of mantissa the mean of e^2 is about 2^-2m / 24, so a step costs n 2^-2m / 24 nats and m bits,
    least near m = log2(n) / 2 - 2. One bit more is kept, since the steps are also fitted to the integers.

    >>> [step_mantissa(n) for n in (9, 118, 784, 4608)]
    [1, 2, 4, 5]
    """
    return min(7, max(1, round(math.log2(max(1, weights)) / 2) - 1))


def _candidates(
    problem: Resolved, price: float, config: SecondOrder, share: dict[str, int]
) -> list[tuple[Steps, float | None]]:
    """Steps of each layout that the price gives, times each multiple; and the multiple."""
    found: list[tuple[Steps, float | None]] = []
    for layout in config.layouts:
        blocks, k, rows = problem.target.shape
        group, count = share.get(layout, 1), {"row": blocks * rows, "column": k, "tensor": 1}[layout]
        if group < 1 or count % group:
            raise InputError(f"{count} {layout}s cannot share steps by {group}. Cure: a divisor of {count}")
        if count == group and layout != "tensor" and "tensor" in config.layouts:
            continue
        unit = lay_out(layout, np.ones(count // group), group, problem.target.shape)
        for multiple in config.multiples:
            found.append((_priced(problem, unit, None, price, multiple), multiple))
    return found


def _priced(
    problem: Resolved, steps: Steps, integers: IntArray | None, price: float, multiple: float
) -> Steps:
    """Steps of the same layout from the mean of p_r / U_jj^2 over the weights that are not zero (None: all).

    Zeros cost no more on a coarser grid, so only the others say how fine a step pays. No step is so fine that
    the largest weight on it is beyond ``MOST_LEVELS``.
    """
    curvature = 1.0 / np.square(np.diagonal(problem.upper, axis1=1, axis2=2))  # (blocks, K)
    each = problem.precision[:, None, :] * curvature[:, :, None]
    share = np.ones(each.shape) if integers is None else (integers != 0).astype(np.float64)
    axes = {"row": (1,), "column": (0, 2), "tensor": (0, 1, 2)}[steps.layout]
    parts = (len(steps.numbers), -1)
    total, weighed, plain = (
        x.sum(axes).reshape(parts).sum(1) for x in (share, share * each, each / np.prod(each.shape))
    )
    plain *= len(plain)
    mean = np.where(total > 0, weighed / np.maximum(total, 1.0), plain)
    largest = np.abs(problem.target).max(axes).reshape(parts).max(1)
    wanted = np.maximum(multiple * np.sqrt(12.0 * price / mean), largest / MOST_LEVELS)
    numbers = _short(wanted, problem.target.size)
    return lay_out(steps.layout, numbers, steps.share, problem.target.shape)


def _short(steps: DoubleArray, weights: int) -> DoubleArray:
    """Steps that a file stores in few bits; so many weights share them."""
    mantissa = 7 if len(steps) < 2 else step_mantissa(weights // len(steps))
    return np.array([bfloat16(float(s), mantissa) for s in steps])


def _begun(
    problem: Resolved, steps: Steps, multiple: float | None, price: float, config: SecondOrder
) -> _Choice:
    """A sweep, and one with steps that follow its zeros: ``multiple`` of the price's (None: as given)."""
    best = _sweep_once(problem, _nearest(problem, steps), price, config.block)
    if price > 0 and multiple is not None and best.integers.any():
        moved = _priced(problem, steps, best.integers, price, multiple)
        best = _sweep_once(problem, _nearest(problem, moved), price, config.block)
    return best


def _swept(problem: Resolved, best: _Choice, price: float, config: SecondOrder) -> _Choice:
    """Further sweeps, until one is no gain."""
    for _ in range(config.sweeps - 1 if price > 0 else 0):
        found = _sweep_once(problem, best, price, config.block)
        if not found.cost < best.cost:
            break
        best = found
    return best


def _nearest(problem: Resolved, steps: Steps) -> _Choice:
    """The nearest levels, whose cost nobody asks for."""
    levels = np.rint(problem.target / steps.values(np.ones(problem.target.shape, np.int32)))
    if np.abs(levels).max() >= 2**30:
        raise InputError(f"step {steps.numbers.min():.3g} is too small for the weight. Cure: a larger step")
    return _Choice(steps, levels.astype(np.int32), math.inf)


def _sweep_once(problem: Resolved, last: _Choice, price: float, block: int) -> _Choice:
    if price > 0 and not last.integers.any():
        return _choice(problem, last.steps, last.integers, price)
    found = feedback(problem, last.steps, Rates(last.integers, price), block)
    return _choice(problem, last.steps, found[0], price, found[1])


def _descended(
    problem: Resolved, best: _Choice, price: float, config: SecondOrder, *, fixed: bool
) -> _Choice:
    """Passes of descent until one is no gain."""
    for _ in range(config.descents):
        better = _descended_once(problem, best, price, config, fixed=fixed)
        if not better.cost < best.cost:
            break
        best = better
    return best


def _descended_once(
    problem: Resolved, last: _Choice, price: float, config: SecondOrder, *, fixed: bool
) -> _Choice:
    """One pass of descent under the rates of the last integers, and steps refitted to the new ones."""
    steps, integers = last.steps, last.integers
    if price > 0 and not integers.any():
        return last
    integers, damage = descent(problem, steps, Rates(integers, price), integers, config.block)
    best = _choice(problem, steps, integers, price, damage)
    if fixed or not integers.any():
        return best
    numbers = _short(steps.numbers * refit(problem, steps, integers), integers.size)
    moved = lay_out(steps.layout, numbers, steps.share, problem.target.shape)
    return min(best, _choice(problem, moved, integers, price), key=lambda c: c.cost)


def _result(problem: Resolved, best: _Choice, price: float, shape: tuple[int, ...]) -> QuantizedMatrix:
    steps, integers = best.steps, best.integers
    values = steps.values(integers)

    def back(array: AnyArray) -> AnyArray:
        return np.ascontiguousarray(array.transpose(0, 2, 1)).reshape(shape)

    distortion = problem.damage(values, damped=False)
    found = QuantizedMatrix(
        integers=back(integers),
        steps=steps.numbers,
        layout=steps.layout,
        values=back(values),
        target=back(problem.target),
        distortion=distortion,
        damped_distortion=problem.damage(values, damped=True),
        damping=problem.damping,
        rate=_bits(steps, integers),
    )
    if problem.bias is None:
        return found
    return _with_bias(
        found, problem.bias, problem.bias.best(values - problem.target), problem.precision, price
    )


def _with_bias(
    found: QuantizedMatrix, known: Bias, real: DoubleArray, precision: DoubleArray, price: float
) -> QuantizedMatrix:
    """The bias on the step that the price gives; 16 bits of range at price 0."""
    power = precision * known.power[:, None]
    largest = float(np.abs(real).max())
    step = math.sqrt(12.0 * price / float(power.mean())) if price > 0 else largest / 2**15
    step = bfloat16(max(step, largest / 2**30) or 1.0)
    integers = np.rint(real / step).astype(np.int32)
    error = real - integers * step
    return replace(
        found,
        bias=np.asarray(integers * step, np.float64).ravel(),
        bias_integers=integers.ravel(),
        bias_step=step,
        distortion=found.distortion + float(0.5 * (power * error**2).sum()),
        rate=found.rate + rate_bits(integers.reshape(1, -1)) + BITS_PER_STEP,
    )
