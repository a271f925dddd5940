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

import torch
from torch import Tensor

from laconic.errors import NonFiniteError
from laconic.networks.reads import Read


@dataclass(frozen=True, eq=False)
class Moments:
    """Means of products of inputs, float64; the last input is the constant 1 of the bias.

    Args:
        own: Mean of x~ x~^T, (blocks, K + 1, K + 1).
        cross: Mean of x x~^T, (blocks, K + 1, K + 1).
        original: Mean of x x^T, (blocks, K + 1, K + 1).
        count: How many inputs each mean is over.

    >>> x = torch.tensor([[1.0], [3.0]])
    >>> moments_of("w", [((x,), (x,))]).own.tolist()
    [[[5.0, 2.0], [2.0, 1.0]]]
    """

    own: Tensor
    cross: Tensor
    original: Tensor
    count: int

    @property
    def blocks(self) -> int:
        """Equal blocks of the weight's rows, each of which reads other inputs."""
        return len(self.own)


Matrices = tuple[Tensor, ...]


def read_moments(name: str, reads: Iterable[tuple[Read, Read]]) -> Moments:
    """The moments of all reads of one weight, in pairs: in the original network, and in the changed one."""
    return moments_of(name, ((a.patches(), b.patches()) for a, b in reads))


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
    sums: Tensor | None = None
    count = 0
    for original, changed in pairs:
        new = torch.stack([_products(x, y) for x, y in zip(original, changed, strict=True)])
        sums = new if sums is None else sums + new
        count += len(original[0])
    if sums is None or not bool(torch.isfinite(sums).all()):
        raise NonFiniteError(
            f"the inputs of {name!r} hold NaN or infinity on the calibration batches. "
            "Cure: look for them in the batches, or for values that were not scaled as in training"
        )
    mean = sums / max(1, count)
    return Moments(mean[:, 0], mean[:, 1], mean[:, 2], count)


def _products(x: Tensor, y: Tensor) -> Tensor:
    """Sums of y y^T, x y^T and x x^T with the constant 1 as a last column, (3, K + 1, K + 1).

    Products in the network's own precision, sums over batches in float64.
    """
    same = x is y or torch.equal(x, y)
    k = x.shape[1]
    found = torch.zeros(3, k + 1, k + 1, dtype=torch.float64)
    for place, (a, b) in enumerate(((y, y), (x, y), (x, x))):
        if same and place:
            found[place] = found[0]
            continue
        found[place, :k, :k] = (a.T @ b).double().cpu()
        found[place, :k, k] = a.sum(0, dtype=torch.float64).cpu()
        found[place, k, :k] = b.sum(0, dtype=torch.float64).cpu()
        found[place, k, k] = len(a)
    return found
