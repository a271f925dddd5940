"""Which grids are tried, and how much worse than the pruned network the quantised one may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from laconic.errors import InputError


@dataclass(frozen=True)
class GridChoice:
    """Which grids are tried, and how much worse than the pruned network the quantised one may be.

    Of the candidates within the allowances the one with the fewest bytes is taken (:func:`cheapest`).

    ``max_kl`` measures the damage by how far the predictions move from the pruned network's. Where it is set
    it takes the place of the two other allowances. An error changes with the few examples whose answer flips,
    this with all, so it has less noise (see the notes in studies/results/mnist_lenets).

    The other two are compared with means over the validation split, without their standard errors: on n
    examples an error moves by 100 / n percentage points with each of them. One standard error of the paired
    difference as a further allowance was measured, and is too much: on LeNet-5's 5 000 images it is 0.05 to
    0.12 points, and the likelihood alone would decide (2 687 bytes of weights at a test error of 1.15 %, not
    4 695 at 0.80 %).

    What became of an allowance that differs from its default is told: ``facts["grid_outcome"]`` says whether
    the finished network meets it, and ``facts["notes"]`` where it does not, or where it was not looked at.

    Args:
        steps: Grid steps in posterior standard deviations.
        prices: Nats of distortion accepted for one nat of rate (see :class:`RateDistortion`).
        bias_bits: Widths in bits tried for biases, narrowest first.
        max_drop: What the task's metric may lose on the validation split against the pruned network before
            quantising, in the metric's unit (None: what the metric tolerates; a target, if given, takes its
            place).
        max_nll_ratio: The same for the negative log-likelihood, as a factor >= 1.
        max_kl: How far the quantised network's predictions may be from the pruned network's on the validation
            split, in nats per likelihood term (None: this is not measured). A target for the metric or the
            file takes its place.

    Raises:
        InputError: Nothing to try, or a value outside its bounds.

    >>> GridChoice(steps=(0.5, 1.0), max_drop=0.05).max_nll_ratio
    1.15
    """

    steps: tuple[float, ...] = (0.5, 0.7, 1.0, 1.4)
    prices: tuple[float, ...] = (0.0, 0.02, 0.04, 0.06, 0.09)
    bias_bits: tuple[int, ...] = (4, 5, 6, 7, 8, 10)
    max_drop: float | None = None
    max_nll_ratio: float = 1.15
    max_kl: float | None = None

    def __post_init__(self) -> None:
        if not self.steps or not self.prices or not self.bias_bits:
            raise InputError(
                "grid: steps, prices and bias_bits need at least one value each. "
                "Cure: steps=(0.5, 1.0), prices=(0.0,), bias_bits=(8,)"
            )
        if not all(0 < s < math.inf for s in self.steps) or not all(0 <= p < math.inf for p in self.prices):
            raise InputError(
                f"grid: steps must be > 0 and prices >= 0, got {self.steps} and {self.prices}. "
                "Cure: steps=(0.5, 1.0), prices=(0.0, 0.04)"
            )
        if (self.max_drop is not None and not self.max_drop >= 0) or not self.max_nll_ratio >= 1:
            raise InputError(
                f"grid: max_drop must be >= 0 and max_nll_ratio >= 1, got {self.max_drop} and "
                f"{self.max_nll_ratio}. Cure: max_drop=0.1, max_nll_ratio=1.15"
            )
        if self.max_kl is not None and not self.max_kl >= 0:
            raise InputError(f"max_kl is in nats per term and must be >= 0, got {self.max_kl}. Cure: 0.001")
        check_bits(self.bias_bits)


def check_bits(widths: tuple[int, ...]) -> None:
    """Raises InputError unless all widths of a signed grid lie in 2..24: float32 holds no wider integer."""
    if not widths or not all(2 <= w <= 24 for w in widths):
        raise InputError(f"bias_bits must be widths from 2 to 24 bits, got {widths}. Cure: (4, 6, 8)")
