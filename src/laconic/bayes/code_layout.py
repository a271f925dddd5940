"""Which weights of a network a random code holds, in which block each is, and which entries share one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.records.shared_codes import MAX_VALUES, block_starts, code_order, tied_places

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CodedPart:
    """One tensor's part of a code.

    Args:
        name: The parameter's name.
        shape: Its dimensions.
        first: Its first weight in the code.
        buckets: Weights of the code that its entries share; 0: each entry has its own.
    """

    name: str
    shape: tuple[int, ...]
    first: int
    buckets: int

    @property
    def size(self) -> int:
        """Entries of the tensor."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def count(self) -> int:
        """Weights of the code."""
        return self.buckets or self.size


@dataclass(frozen=True, eq=False)
class CodeLayout:
    """The parts of a code, and its blocks: a matrix of one row for each block, whose rows may end early.

    Args:
        seed: Seed of the order, the candidates and the ties.
        parts: The tensors in order.
        blocks: Number of blocks.

    Raises:
        InputError: More weights than a code may have, or more blocks than weights.

    >>> layout = CodeLayout(7, parts_of({"w": (2, 2), "b": (1,)}, {}), 2)
    >>> layout.size, layout.width, layout.lengths.tolist()
    (5, 3, [3, 2])
    """

    seed: int
    parts: tuple[CodedPart, ...]
    blocks: int

    def __post_init__(self) -> None:
        if self.size > MAX_VALUES:
            raise InputError(
                f"a random code of {self.size} weights is too long (at most {MAX_VALUES}). Cure: tie more of "
                "them, or keep=[names] for the largest tensors"
            )
        if not 1 <= self.blocks <= self.size:
            raise InputError(
                f"a random code of {self.size} weights cannot have {self.blocks} blocks. Cure: 1 to "
                f"{self.size} blocks"
            )

    @property
    def size(self) -> int:
        """Weights of the code."""
        return sum(part.count for part in self.parts)

    @property
    def starts(self) -> IntArray:
        """Where each block begins, and the end of the last."""
        return block_starts(self.size, self.blocks)

    @property
    def lengths(self) -> IntArray:
        """Weights of each block."""
        return np.diff(self.starts)

    @property
    def width(self) -> int:
        """Weights of the longest block."""
        return int(self.lengths.max())

    def cells(self) -> IntArray:
        """Of each weight of the code, its place in the matrix of blocks, row by row."""
        starts, ranks = self.starts, np.arange(self.size)
        rows = np.searchsorted(starts, ranks, side="right") - 1
        out = np.empty(self.size, np.int64)
        out[code_order(self.seed, self.size)] = rows * self.width + ranks - starts[rows]
        return out

    def entries(self, part: CodedPart) -> tuple[IntArray, npt.NDArray[np.float32] | None]:
        """Of each entry of a tensor, its weight in the code and, where weights are tied, its sign."""
        if not part.buckets:
            return part.first + np.arange(part.size), None
        bucket, negated = tied_places(self.seed, part.first, slice(0, part.size), part.buckets)
        return part.first + bucket.astype(np.int64), np.where(negated, -1.0, 1.0).astype(np.float32)


def parts_of(shapes: Mapping[str, tuple[int, ...]], buckets: Mapping[str, int]) -> tuple[CodedPart, ...]:
    """The parts of tensors, one after the other.

    Args:
        shapes: Their shapes by name, in order.
        buckets: How many weights the entries of a tensor share; a tensor that is not named has its own.

    >>> [(p.first, p.count) for p in parts_of({"w": (4, 4), "b": (4,)}, {"w": 5})]
    [(0, 5), (5, 4)]
    """
    parts: list[CodedPart] = []
    for name, shape in shapes.items():
        first = parts[-1].first + parts[-1].count if parts else 0
        parts.append(CodedPart(name, tuple(shape), first, buckets.get(name, 0)))
    return tuple(parts)
