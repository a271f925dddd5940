"""The diagonal of the input second moment of every weight, and which weights read nothing but a constant.

Linear maps, convolutions, recurrent layers and attention are seen through :mod:`laconic.networks.reads`. An
embedding multiplies a one-hot vector: its second moment is diagonal, the share of each token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.networks.reads import Read, check_finite, watch_reads
from laconic.networks.watching import Call, Watching


@dataclass(frozen=True, eq=False)
class InputSquares:
    """Sums of x^2 over what a weight multiplies, float64, and the range of each x; those of one weight add.

    Attributes:
        axis: The axis of the weight that multiplies the input's channels.
        sums: (blocks, K).
        count: How many x each block has, (blocks, 1).
        low: The smallest value of each x, (blocks, K).
        high: The largest.
        tokens: Whether the x are one-hot vectors of an embedding.
    """

    axis: int
    sums: Tensor
    count: Tensor
    low: Tensor
    high: Tensor
    tokens: bool = False

    def __add__(self, other: InputSquares) -> InputSquares:
        low, high = torch.minimum(self.low, other.low), torch.maximum(self.high, other.high)
        return InputSquares(
            self.axis, self.sums + other.sums, self.count + other.count, low, high, self.tokens
        )

    def fits(self, other: InputSquares) -> bool:
        """Whether the two can be added."""
        return self.axis == other.axis and self.sums.shape == other.sums.shape

    @property
    def mean(self) -> Tensor:
        """The mean of x^2: the diagonal of the Kronecker factor A."""
        return self.sums / self.count.clamp(min=1)

    @property
    def constant(self) -> bool:
        """Whether several x were seen, all of them equal."""
        return not self.tokens and bool((self.count > 1).all()) and bool((self.low == self.high).all())


def add_inputs(
    module: nn.Module, run: Callable[[], Any], found: dict[str, InputSquares], positions: int = 0
) -> None:
    """Run something, and add the squares of the inputs of every weight of the module to ``found``.

    They are from so many ``positions`` of each call at most, drawn at random (0: all). A weight that is used
    as an embedding and as a matrix (tied weights) is taken as the matrix. Raises NonFiniteError naming the
    first weight that reads a NaN or an infinity.
    """
    names = {id(p): name for name, p in reversed(list(module.named_parameters()))}
    kept = {
        name for name, p in module.named_parameters() if p.is_complex()
    }  # complex weights stay as they are

    def add(name: str, new: InputSquares) -> None:
        old = found.get(name)
        if old is None or (old.tokens and not new.tokens):
            found[name] = new
        elif old.fits(new):
            found[name] = old + new

    def read(one: Read) -> None:
        if one.name in kept:
            return
        new = _squares(one, positions)
        check_finite(one.name, new.sums)
        add(one.name, new)

    def embedded(call: Call) -> None:
        if call.function is F.embedding:
            ids, weight = call.argument(0, "input"), call.argument(1, "weight")
            if id(weight) in names:
                add(names[id(weight)], _tokens(ids, len(weight)))

    with Watching(before=embedded):
        watch_reads(module, run, read)


def _squares(read: Read, positions: int) -> InputSquares:
    chosen = None
    if read.alike and 0 < positions < read.positions:
        drawn = torch.randperm(read.positions, generator=torch.Generator().manual_seed(0))
        chosen = drawn[:positions].sort().values
    stacked = [read.stacked(chosen)] if read.alike else [x[None] for x in read.patches(chosen)]
    counts = torch.tensor([[float(x.shape[1])] for x in stacked for _ in x], dtype=torch.float64)
    sums = torch.cat([x.square().sum(1, dtype=torch.float64) for x in stacked]).cpu()
    if any(not x.shape[1] for x in stacked):
        return InputSquares(read.axis, sums, counts, torch.full_like(sums, torch.inf), -torch.inf + 0 * sums)
    low, high = (torch.cat([f(x, 1) for x in stacked]).double().cpu() for f in (torch.amin, torch.amax))
    return InputSquares(read.axis, sums, counts, low, high)


def _tokens(ids: Tensor, size: int) -> InputSquares:
    sums = torch.bincount(ids.detach().reshape(-1), minlength=size).double().cpu()[None]
    count = torch.tensor([[float(ids.numel())]], dtype=torch.float64)
    return InputSquares(0, sums, count, torch.zeros_like(sums), torch.ones_like(sums), tokens=True)
