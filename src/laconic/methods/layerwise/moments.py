r"""Second moments of a weight's inputs in two networks that ran the same batches.

With inputs x in the original network and :math:`\tilde x` in the one that is quantised so far, the error of a
row w that becomes q is

.. math:: E\,(w \cdot x - q \cdot \tilde x)^2
          = w^\top E[x x^\top] w - 2 w^\top E[x \tilde x^\top] q + q^\top E[\tilde x \tilde x^\top] q

so that two matrices hold all that the decision needs. A bias is the weight of one more input, which is 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
        energy: Mean of |x|^2, (blocks,), the constant left out.
        count: How many inputs each mean is over.

    >>> from laconic.networks.reads import names_of, reads_of
    >>> from laconic.networks.watching import Call
    >>> layer, x = torch.nn.Linear(1, 1), torch.tensor([[1.0], [3.0]])
    >>> call = Call(torch.nn.functional.linear, (x, layer.weight), {})
    >>> (read,) = reads_of(call, names_of(layer))
    >>> read_moments("w", [(read, read)]).own.tolist()
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


LEAST_ROWS, ROWS_FOR_EACH = 12288, 24
"""Positions of all calls that are always used, and the same for each input of a weight: those of a feature
map are many and much alike.
"""
MANY = 1 << 24
"""Numbers in the patches of all blocks, from which on only ``ROWS_FOR_EACH`` counts."""
AT_ONCE = 1 << 22
"""Numbers in the patches that are built at once."""


def rows_wanted(read: Read) -> int:
    """Positions of all calls that a moment of this weight needs: no more are used."""
    least = min(LEAST_ROWS, MANY // max(1, read.blocks * read.inputs))
    return max(least, ROWS_FOR_EACH * read.inputs)


def read_moments(name: str, reads: Iterable[tuple[Read, Read]], calls: int | None = None) -> Moments:
    """The moments of all reads of one weight, in pairs: in the original network, and in the changed one.

    Args:
        name: The weight, for messages.
        reads: The pairs. With ``calls`` one pair after the other is taken and let go.
        calls: The number of calls, each of which gives its share of the positions; None: positions are shared
            out over all pairs.

    Returns:
        The moments.

    Raises:
        NonFiniteError: An input is NaN or infinite.
    """
    generator = torch.Generator().manual_seed(0)
    if calls is not None:
        return moments_of(name, ((*p, _chosen(p[0], rows_wanted(p[0]) // calls, generator)) for p in reads))
    pairs = list(reads)
    total, wanted = sum(first.positions for first, _ in pairs), rows_wanted(pairs[0][0])
    shared, before = [], 0
    for first, second in pairs:
        after = before + first.positions
        most = wanted * after // max(1, total) - wanted * before // max(1, total)
        shared.append((first, second, _chosen(first, most, generator)))
        before = after
    return moments_of(name, shared)


def _chosen(read: Read, most: int, generator: torch.Generator) -> Tensor:
    """Positions, drawn at random where they are many more than a moment needs."""
    if read.positions <= max(1, most):
        return torch.arange(read.positions)
    return torch.randperm(read.positions, generator=generator)[: max(1, most)].sort().values


def moments_of(name: str, reads: Iterable[tuple[Read, Read, Tensor]]) -> Moments:
    """Means over some positions of pairs of reads.

    Args:
        name: The weight, for messages.
        reads: What it reads in the original network, in the changed one, and positions of both.

    Returns:
        The moments.

    Raises:
        NonFiniteError: An input is NaN or infinite.
    """
    total: _Sums | None = None
    for first, second in _filled(reads):
        new = _sums(first, second)
        total = new if total is None else _Sums(*(a + b for a, b in zip(total, new, strict=True)))
    if total is None or not all(bool(torch.isfinite(part).all()) for part in total):
        raise NonFiniteError(
            f"the inputs of {name!r} hold NaN or infinity on the calibration batches. "
            "Cure: look for them in the batches, or for values that were not scaled as in training"
        )
    count = max(1, int(total.rows))
    return Moments(total.own / count, total.cross / count, total.energy / count, count)


def _filled(reads: Iterable[tuple[Read, Read, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of both sides, (blocks, rows, K + 1) with ones at the end, in parts of about one size.

    Few rows of many calls are put together first: each product takes K^2 numbers. Rows are copied at once,
    since a later call may write into its input.
    """
    parts: list[tuple[Tensor, Tensor]] = []
    held = 0
    for original, changed, chosen in reads:
        at_once = max(1, AT_ONCE // max(1, original.blocks * original.inputs))
        for some in torch.split(chosen, at_once):
            if parts and held + len(some) > at_once:
                yield _with_ones([p[0] for p in parts]), _with_ones([p[1] for p in parts])
                parts, held = [], 0
            parts.append((original.stacked(some), changed.stacked(some)))
            held += len(some)
    if parts:
        yield _with_ones([p[0] for p in parts]), _with_ones([p[1] for p in parts])


def _with_ones(parts: Sequence[Tensor]) -> Tensor:
    """Parts one below the other, and a one at the end of each row."""
    blocks, _, k = parts[0].shape
    found = parts[0].new_empty(blocks, sum(part.shape[1] for part in parts), k + 1)
    start = 0
    for part in parts:
        found[:, start : start + part.shape[1], :k] = part
        start += part.shape[1]
    found[:, :, k] = 1.0
    return found


class _Sums(NamedTuple):
    own: Tensor
    cross: Tensor
    energy: Tensor
    rows: Tensor


def _sums(first: Tensor, second: Tensor) -> _Sums:
    """Sums by block: products in the network's own precision, sums over batches in float64."""
    rows = torch.tensor(float(first.shape[1]))
    energy = torch.linalg.vector_norm(first[:, :, :-1], dim=2).double().square().sum(1).cpu()
    own = _product(second, second)
    if torch.equal(first, second):
        return _Sums(own, own.clone(), energy, rows)
    return _Sums(own, _product(first, second), energy, rows)


def _product(a: Tensor, b: Tensor) -> Tensor:
    return (a.transpose(1, 2) @ b).double().cpu()
