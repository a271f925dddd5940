r"""VNQ's multi-spike-and-slab prior (Achterhold et al. 2018, eq. 11-12) for any codebook.

:math:`p(w) = \int N(w|m, z)\,p(z)\,p(m)\,dz\,dm` with :math:`p(z) \propto 1/|z|` and
:math:`p(m) = \frac1K\sum_k \delta(m - c_k)`, which is :math:`p(w) \propto \sum_k 1/|w - c_k|`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from laconic.bayes.priors.checks import check_flags, check_kind, check_tuples
from laconic.errors import InputError

# The paper's window: tau = 0.075 for the codebook {-0.2, 0, 0.2}.
WINDOW_PER_GAP = 0.375
# Two windows of levels that are d apart stay clear of each other for tau <= d / 3.
WINDOWS_APART = 3.0


@dataclass(frozen=True, eq=False)
class Spikes:
    r"""A log-uniform spike at each of ``levels * scale``; improper, like each of its spikes.

    .. math:: p(w) \propto \frac1K\sum_k \frac1{|w - s c_k|}

    (Achterhold et al. 2018, eq. 11-12). The KL of eq. 16, a sum of windows around the levels, approximates it
    and holds with or without a zero among the levels.

    Args:
        levels: :math:`c_k`: at least two rising numbers, or a tensor of shape (levels,) that may be learned.
        scale: :math:`s`: None for 1, or a scalar tensor that may be learned. The prior of w under scale s is
            that of w / s under scale 1 (section 3.2).
        windows: Width :math:`\tau_k` of each level's window, in units of ``levels``. Default: 0.375 of the
            gap to the nearest level (the paper's ratio), and a third of the gap between two levels that are
            not zero where that is less.
        exact: Integrate the density numerically in place of eq. 16, which is up to 1.07 nats away from it.
            The KL then takes about a thousand times as long: it is meant for checks and small networks.

    Raises:
        InputError: Fewer than two levels, levels that do not rise, a scale that is not scalar, widths that
            are not positive or not one a level, or widths together with ``exact``.

    >>> [round(w, 3) for w in Spikes((-0.2, 0.0, 0.2)).window_widths()]
    [0.075, 0.075, 0.075]
    """

    improper: ClassVar[bool] = True
    levels: tuple[float, ...] | Tensor
    scale: Tensor | None = None
    windows: tuple[float, ...] | None = None
    exact: bool = False
    _numbers: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_kind(self, "levels", (tuple, list, Tensor), "a tuple of numbers or a tensor", "(-1, 0, 1)")
        check_tuples(self, levels="(-1, 0, 1)", windows="None")
        check_kind(self, "scale", (Tensor, type(None)), "a scalar tensor or None", "torch.tensor(0.2)")
        check_flags(self, "exact")
        levels = self.levels
        numbers = tuple(
            float(v) for v in (levels.detach().tolist() if isinstance(levels, Tensor) else levels)
        )
        rising = all(a < b for a, b in zip(numbers, numbers[1:], strict=False))
        if len(numbers) < 2 or not rising or not all(math.isfinite(v) for v in numbers):
            raise InputError(
                f"levels must be at least two rising finite numbers, got {numbers}. Cure: levels=(-1, 0, 1)"
            )
        if self.scale is not None and self.scale.ndim != 0:
            raise InputError(
                f"the codebook's scale must be a scalar tensor, got shape {tuple(self.scale.shape)}. Cure: "
                "scale=torch.tensor(0.1)"
            )
        if self.windows is not None and (len(self.windows) != len(numbers) or min(self.windows) <= 0):
            raise InputError(
                f"windows must be {len(numbers)} positive widths, got {self.windows}"
                ". Cure: one positive width for each level"
            )
        if self.windows is not None and self.exact:
            raise InputError("the exact KL has no windows. Cure: leave out windows, or exact=True")
        object.__setattr__(self, "_numbers", numbers)

    @property
    def base(self) -> int | None:
        """Index of the level zero, which takes what the other windows leave; None without a zero."""
        return self._numbers.index(0.0) if 0.0 in self._numbers else None

    def level_numbers(self) -> tuple[float, ...]:
        """The levels before scaling, as plain numbers."""
        return self._numbers

    def window_widths(self) -> tuple[float, ...]:
        r"""Width :math:`\tau_k` of each level's window, before scaling."""
        if self.windows is not None:
            return self.windows
        return tuple(self._default_width(k) for k in range(len(self._numbers)))

    def values(self) -> Tensor:
        """The codebook after scaling, as a tensor."""
        levels = self.levels if isinstance(self.levels, Tensor) else torch.tensor(self._numbers)
        return levels if self.scale is None else levels.to(self.scale) * self.scale

    def log_density(self, weights: Tensor) -> Tensor:
        r""":math:`\log\frac1K\sum_k 1/|w - s c_k|` by weight, nats, up to a constant; infinite at a level.

        Args:
            weights: Any shape.

        Returns:
            Of that shape.
        """
        offsets = weights.unsqueeze(-1) - self.values().to(weights)
        return torch.logsumexp(-offsets.abs().log(), -1) - math.log(len(self._numbers))

    def _default_width(self, k: int) -> float:
        here = self._numbers[k]
        gaps = {j: abs(v - here) for j, v in enumerate(self._numbers) if j != k}
        width = WINDOW_PER_GAP * min(gaps.values())
        others = [gap for j, gap in gaps.items() if j != self.base]
        if k == self.base or not others:
            return width
        return min(width, min(others) / WINDOWS_APART)
