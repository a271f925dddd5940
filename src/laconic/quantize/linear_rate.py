r"""What real multiples of a step cost: the price of integers, linear between neighbours, with a slope.

.. math:: R(u) = (1 - f)\,R(\lfloor u \rfloor) + f\,R(\lfloor u \rfloor + 1), \qquad f = u - \lfloor u \rfloor

R(u) is the expected code length where u is rounded up with probability f. Its slope is the price of the next
level: training pays it for every step away from zero, and zeros appear without a threshold.

Sources: Wiedemann et al., DeepCABAC, IEEE JSTSP 2020 (a rate in the loss); Nagel et al., AdaRound, ICML 2020
(rounding up or down as a real number in between); the prices are those of
:mod:`laconic.quantize.rate_model`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from laconic.quantize.rate_model import count_rate
from laconic.records import IntArray

MARGIN = 2
"""Levels beyond the largest one in use that have a price."""


@dataclass(frozen=True, eq=False)
class LinearRate:
    """The price of a tensor's numbers.

    Attributes:
        zero: Nats of a zero, of the tensor's shape.
        nonzero: Nats of not being zero, of the tensor's shape.
        levels: Nats of each level that is not zero; index ``level + half``; 0 for level 0. With ``seen``:
            of these levels, and then of any other.
        half: The largest level that has a price.
        seen: The levels in use, in rising order, where they are far apart.
    """

    zero: Tensor
    nonzero: Tensor
    levels: Tensor
    half: int
    seen: Tensor | None = None

    def nats(self, multiples: Tensor) -> Tensor:
        """Nats of a tensor in all; beyond the largest level the price stays as it is there.

        Args:
            multiples: u, real multiples of the step, of the tensor's shape.

        Returns:
            A scalar whose derivative by a number is the price of the level above it less that of the one
            below.
        """
        u = multiples.clamp(-self.half, self.half)
        below = u.detach().floor().clamp(-self.half, self.half - 1)
        low, high = self._price(below), self._price(below + 1)
        return (low + (high - low) * (u - below)).sum()

    def _price(self, levels: Tensor) -> Tensor:
        found = self.nonzero + self.levels[self._index(levels.long())]
        return torch.where(levels == 0, self.zero, found)

    def _index(self, levels: Tensor) -> Tensor:
        if self.seen is None:
            return levels + self.half
        at = torch.searchsorted(self.seen, levels)
        known = self.seen[at.clamp(max=len(self.seen) - 1)] == levels
        return torch.where(known, at, len(self.seen))


def linear_rate(integers: IntArray, device: torch.device | None = None) -> LinearRate:
    """The prices that a tensor's present integers give.

    Args:
        integers: int32, not all zero; rows are the first dimension, columns all others.
        device: Where the prices are needed.

    Returns:
        Prices for numbers of the same shape.

    >>> rate = linear_rate(np.int32([[1, 0], [0, 0]]))
    >>> low, half, high = (float(rate.nats(torch.tensor([[u, 0.0], [0.0, 0.0]]))) for u in (0.0, 0.5, 1.0))
    >>> abs(half - (low + high) / 2) < 1e-6
    True
    """
    matrix = integers.reshape(integers.shape[0] if integers.ndim > 1 else 1, -1)
    model = count_rate(matrix, margin=MARGIN)
    odds = model.odds.reshape(integers.shape)
    prices, seen = model.levels, model.levels.seen
    levels = prices.nats.copy()
    if seen is None:
        levels[prices.half] = 0.0

    def on_device(array: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
        return torch.from_numpy(array).to(device=device, dtype=torch.float32)

    places = None if seen is None else torch.from_numpy(seen).to(device)
    zero, nonzero = on_device(-np.log1p(-odds)), on_device(-np.log(odds))
    return LinearRate(zero, nonzero, on_device(levels), prices.half, places)
