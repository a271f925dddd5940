r"""Second moments of the inputs of every weight, in one network and between two.

A layer :math:`y = W x` that is moved by :math:`\Delta` has a mean squared error of
:math:`\operatorname{tr}(\Delta\, A\, \Delta^\top)` with :math:`A = \mathbb{E}[x x^\top]`: this matrix decides
what Optimal Brain Surgeon removes, how GPTQ rounds, and is one Kronecker factor of the curvature. Where the
layers before have been changed too, the layer reads :math:`\tilde x`, and the best weights are
:math:`W\, \mathbb{E}[x \tilde x^\top]\, \mathbb{E}[\tilde x \tilde x^\top]^{-1}`.

Sources: Hassibi & Stork, NIPS 1992; Frantar et al., ICLR 2023 (GPTQ); Martens & Grosse, ICML 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.networks.evaluation import Forward, at_rest, batches, first_input
from laconic.networks.reads import Matrices, Read, check_finite, watch_reads


@dataclass(frozen=True, eq=False)
class SecondMoments:
    """Sums of x x^T over the inputs x that a weight multiplies, float64; those of one weight can be added.

    Attributes:
        axis: The axis of the weight that multiplies the input's channels.
        products: The sums, (blocks, K, K); a weight has several blocks where parts of its rows read
            different inputs.
        count: How many x each block has, (blocks,).

    >>> moments = SecondMoments(1, torch.eye(2).double()[None], torch.ones(1).double())
    >>> (moments + moments).mean.tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """

    axis: int
    products: Tensor
    count: Tensor

    @classmethod
    def of(cls, axis: int, inputs: Matrices, others: Matrices | None = None) -> SecondMoments:
        """Sums over one batch, from the blocks' inputs; of x y^T with ``others`` as the y.

        Products are in the network's own precision, sums over batches in float64.
        """
        counts = torch.tensor([float(len(x)) for x in inputs], dtype=torch.float64)
        pairs = zip(inputs, inputs if others is None else others, strict=True)
        return cls(axis, torch.stack([(x.T @ y).double() for x, y in pairs]).cpu(), counts)

    def __add__(self, other: SecondMoments) -> SecondMoments:
        return SecondMoments(self.axis, self.products + other.products, self.count + other.count)

    @property
    def mean(self) -> Tensor:
        """The mean of x x^T by block."""
        return self.products / self.count[:, None, None].clamp(min=1)


@dataclass(frozen=True, eq=False)
class CrossMoments:
    """Sums over what a weight reads in a network, x, and in a changed copy of it, x~, row by row.

    Attributes:
        cross: Sums of x x~^T: ``products[b]`` is (K, K), rows for the network, columns for the copy.
        changed: Sums of x~ x~^T.

    >>> one = SecondMoments(1, torch.eye(2).double()[None], torch.ones(1).double())
    >>> (CrossMoments(one, one) + CrossMoments(one, one)).cross.products.tolist()
    [[[2.0, 0.0], [0.0, 2.0]]]
    """

    cross: SecondMoments
    changed: SecondMoments

    def __add__(self, other: CrossMoments) -> CrossMoments:
        return CrossMoments(self.cross + other.cross, self.changed + other.changed)


def gather_second_moments(
    module: nn.Module,
    loader: Iterable[Any],
    *,
    names: Collection[str] | None = None,
    forward: Forward = first_input,
    bias: bool = False,
    start: Mapping[str, SecondMoments] | None = None,
) -> dict[str, SecondMoments]:
    """X^T X of the inputs of every weight (convolutions by im2col), over all batches, in evaluation mode.

    Args:
        module: The network; its modes are afterwards as before.
        loader: Batches as ``forward`` takes them.
        names: Only of these weights, since each takes K^2 numbers; None for all.
        forward: Runs the network on one batch; by default on the batch, or on its first item.
        bias: Append a 1 to every input, so that the bias can be taken as one more column of the weight: the
            last row and column of the result, (K + 1, K + 1), are sums of x.
        start: Sums to which these are added.

    Returns:
        Second moments by the name of the weight; a weight that was not used has none.

    Raises:
        DataError: The loader is empty.
        ModelError: The network computes a weight from other parameters.
        NonFiniteError: An input is NaN or infinite; names the weight.

    >>> gather_second_moments(nn.Linear(2, 1), [torch.tensor([[1.0, 2.0]])])["weight"].products.tolist()
    [[[1.0, 2.0], [2.0, 4.0]]]
    """
    found = dict(start or {})

    def add(read: Read) -> None:
        if names is None or read.name in names:
            new = SecondMoments.of(read.axis, _inputs(read, bias))
            check_finite(read.name, new.products)
            found[read.name] = found[read.name] + new if read.name in found else new

    with at_rest(module):
        for batch in batches(loader, "second moments"):
            watch_reads(module, lambda batch=batch: forward(module, batch), add)  # type: ignore[misc]
    return found


def gather_cross_moments(
    module: nn.Module,
    changed: nn.Module,
    loader: Iterable[Any],
    *,
    names: Collection[str] | None = None,
    forward: Forward = first_input,
    bias: bool = False,
) -> dict[str, CrossMoments]:
    r"""X^T X~ and X~^T X~ of the inputs of every weight in a network, X, and in a changed copy, X~.

    .. math:: W^\ast = \arg\min_V \sum_n \lVert V \tilde x_n - W x_n \rVert^2
              = W\, \big(\textstyle\sum_n x_n \tilde x_n^\top\big)\,
                \big(\textstyle\sum_n \tilde x_n \tilde x_n^\top\big)^{-1}

    Both networks run the same batches in evaluation mode, one after the other, so rows correspond. For the
    time of a batch the named weights' inputs in the first are kept, so name few weights at a time.

    Args:
        module: The network.
        changed: A copy of the same shapes with other values, such as one whose first layers are quantised.
        loader: Batches as ``forward`` takes them.
        names: Only of these weights; None for all.
        forward: Runs a network on one batch; by default on the batch, or on its first item.
        bias: Append a 1 to every input, as in :func:`gather_second_moments`.

    Returns:
        Sums by the name of the weight; a weight that was not used has none.

    Raises:
        DataError: The loader is empty.
        InputError: The networks do not read the weight equally often, or not inputs of the same shape.
        ModelError: The network computes a weight from other parameters.
        NonFiniteError: An input is NaN or infinite; names the weight.

    >>> layers = nn.Sequential(nn.Identity(), nn.Linear(2, 1)), nn.Sequential(nn.ReLU(), nn.Linear(2, 1))
    >>> moments = gather_cross_moments(*layers, [torch.tensor([[1.0, -2.0]])])["1.weight"]
    >>> moments.cross.products.tolist(), moments.changed.products.tolist()
    ([[[1.0, 0.0], [-2.0, -0.0]]], [[[1.0, 0.0], [0.0, 0.0]]])
    """
    found: dict[str, CrossMoments] = {}
    with at_rest(module), at_rest(changed):
        for batch in batches(loader, "cross moments"):
            kept: dict[str, list[Matrices]] = {}
            watch_reads(module, lambda batch=batch: forward(module, batch), _keeping(kept, names, bias))  # type: ignore[misc]
            adding = _adding(kept, found, names, bias)
            watch_reads(changed, lambda batch=batch: forward(changed, batch), adding)  # type: ignore[misc]
            unread = [name for name, uses in kept.items() if uses]
            if unread:
                raise _unlike(unread[0], "read more often in the network than in its copy")
    return found


def _keeping(
    kept: dict[str, list[Matrices]], names: Collection[str] | None, bias: bool
) -> Callable[[Read], None]:
    def keep(read: Read) -> None:
        if names is None or read.name in names:  # cloned, since a later call may write into its input
            kept.setdefault(read.name, []).append(tuple(x.clone() for x in _inputs(read, bias)))

    return keep


def _adding(
    kept: dict[str, list[Matrices]], found: dict[str, CrossMoments], names: Collection[str] | None, bias: bool
) -> Callable[[Read], None]:
    """Pairs the k-th use of a weight in the copy with its k-th use in the network."""

    def add(read: Read) -> None:
        if names is not None and read.name not in names:
            return
        if not kept.get(read.name):
            raise _unlike(read.name, "read more often in the copy than in the network")
        mine, others = kept[read.name].pop(0), _inputs(read, bias)
        if [x.shape for x in mine] != [x.shape for x in others]:
            shapes = f"{tuple(mine[0].shape)} and {tuple(others[0].shape)}"
            raise _unlike(read.name, f"multiplied by inputs of the shapes {shapes}")
        changed = SecondMoments.of(read.axis, others)
        check_finite(read.name, changed.products)
        new = CrossMoments(SecondMoments.of(read.axis, mine, others), changed)
        found[read.name] = found[read.name] + new if read.name in found else new

    return add


def _inputs(read: Read, bias: bool) -> Matrices:
    return tuple(F.pad(x, (0, 1), value=1.0) for x in read.patches()) if bias else read.patches()


def _unlike(name: str, how: str) -> InputError:
    return InputError(
        f"cross moments: {name!r} is {how}. Cure: two networks that differ in their values alone, run on the "
        "same batches"
    )


def as_matrices(weight: Tensor, axis: int, blocks: int) -> Tensor:
    """A weight as (blocks, rows, K), so that each block's output is its patches times its rows.

    Args:
        weight: A weight, or anything of its shape.
        axis: The axis that multiplies the input's channels, as in :class:`SecondMoments`.
        blocks: How many blocks of rows read inputs of their own.

    Returns:
        The matrices; a view of the weight where it can be one.

    >>> as_matrices(torch.arange(4.0).reshape(2, 2), 0, 1).tolist()
    [[[0.0, 2.0], [1.0, 3.0]]]
    """
    if axis == 1:
        return weight.reshape(blocks, len(weight) // blocks, -1)
    split = weight.reshape(blocks, len(weight) // blocks, *weight.shape[1:]).transpose(1, 2)
    return split.flip(tuple(range(3, split.ndim))).flatten(2)


def from_matrices(matrices: Tensor, like: Tensor, axis: int) -> Tensor:
    """The inverse of :func:`as_matrices`.

    Args:
        matrices: (blocks, rows, K).
        like: A tensor of the weight's shape.
        axis: The axis that multiplies the input's channels.

    Returns:
        A tensor of the weight's shape.

    >>> weight = torch.arange(4.0).reshape(2, 2)
    >>> bool((from_matrices(as_matrices(weight, 0, 1), weight, 0) == weight).all())
    True
    """
    if axis == 1:
        return matrices.reshape(like.shape)
    blocks = len(matrices)
    split = matrices.reshape(blocks, like.shape[1], len(like) // blocks, *like.shape[2:])
    return split.flip(tuple(range(3, split.ndim))).transpose(1, 2).reshape(like.shape)
