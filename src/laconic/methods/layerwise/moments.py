r"""Second moments of a weight's inputs in two networks that ran the same batches.

With inputs x in the original network and :math:`\tilde x` in the one that is quantised so far, the error of a
row w that becomes q is

.. math:: E\,(w \cdot x - q \cdot \tilde x)^2
          = w^\top E[x x^\top] w - 2 w^\top E[x \tilde x^\top] q + q^\top E[\tilde x \tilde x^\top] q

so that two matrices hold all that the decision needs. A bias is the weight of one more input, which is 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from laconic.errors import NonFiniteError
from laconic.networks.reads import Read


@dataclass(frozen=True, eq=False)
class Moments:
    """Means of products of inputs, float64; the last input is the constant 1 of the bias.

    Args:
        own: Mean of x~ x~^T, (blocks, K + 1, K + 1).
        cross: Mean of x x~^T, (blocks, K + 1, K + 1).
        energy: Mean of |x|^2, (blocks,), the constant left out.
        count: How many inputs each mean is over.

    >>> x = torch.tensor([[1.0], [3.0]])
    >>> moments_of("w", [((x,), (x,))]).own.tolist()
    [[[5.0, 2.0], [2.0, 1.0]]]
    """

    own: Tensor
    cross: Tensor
    energy: Tensor
    count: int

    @property
    def blocks(self) -> int:
        """Equal blocks of the weight's rows, each of which reads other inputs."""
        return len(self.own)


Matrices = tuple[Tensor, ...]
LEAST_ROWS, ROWS_FOR_EACH = 4096, 8
"""Positions of a batch that are always used, and the same for each input of a weight: those of a feature map
are many and much alike.
"""


def read_moments(name: str, reads: Iterable[tuple[Read, Read]]) -> Moments:
    """The moments of all reads of one weight, in pairs: in the original network, and in the changed one."""
    return moments_of(name, (_thinned(*pair) for pair in reads))


def _thinned(original: Read, changed: Read) -> tuple[Matrices, Matrices]:
    """The same positions of both, drawn at random where they are many more than a moment needs."""
    k = original.inputs
    most = max(LEAST_ROWS, ROWS_FOR_EACH * k)
    if original.positions <= most:
        return original.patches(), changed.patches()
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(original.positions, generator=generator)[:most].sort().values
    return original.patches(chosen), changed.patches(chosen)


def moments_of(name: str, pairs: Iterable[tuple[Matrices, Matrices]]) -> Moments:
    """Means over pairs of inputs, each (samples, K) for every block; rows correspond.

    Args:
        name: The weight, for messages.
        pairs: Inputs in the original network, and in the changed one.

    Returns:
        The moments.

    Raises:
        NonFiniteError: An input is NaN or infinite.
    """
    total: _Sums | None = None
    for original, changed in pairs:
        new = _sums(original, changed)
        total = new if total is None else _Sums(*(a + b for a, b in zip(total, new, strict=True)))
    if total is None or not all(bool(torch.isfinite(part).all()) for part in total):
        raise NonFiniteError(
            f"the inputs of {name!r} hold NaN or infinity on the calibration batches. "
            "Cure: look for them in the batches, or for values that were not scaled as in training"
        )
    count = max(1, int(total.rows))
    return Moments(total.own / count, total.cross / count, total.energy / count, count)


class _Sums(NamedTuple):
    own: Tensor
    cross: Tensor
    energy: Tensor
    rows: Tensor


def _sums(original: Matrices, changed: Matrices) -> _Sums:
    """Sums by block: products in the network's own precision, sums over batches in float64."""
    rows = torch.tensor(float(len(original[0])))
    alike = all(x is y or torch.equal(x, y) for x, y in zip(original, changed, strict=True))
    lengths: Tensor = torch.linalg.vector_norm(_stacked(original), dim=2)
    energy = lengths.double().square().sum(1).cpu()
    second = F.pad(_stacked(changed), (0, 1), value=1.0)
    own = _product(second, second)
    if alike:
        return _Sums(own, own.clone(), energy, rows)
    return _Sums(own, _product(F.pad(_stacked(original), (0, 1), value=1.0), second), energy, rows)


def _stacked(blocks: Matrices) -> Tensor:
    return torch.stack(blocks) if len(blocks) > 1 else blocks[0][None]


def _product(a: Tensor, b: Tensor) -> Tensor:
    return (a.transpose(1, 2) @ b).double().cpu()
