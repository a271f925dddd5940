"""Values along axes: one for all, or one for each; padding at both ends."""

from __future__ import annotations

from collections.abc import Sequence

from laconic.errors import CorruptFileError


def spread(values: Sequence[int], n: int) -> list[int]:
    """One value for all axes, or one per axis: always ``n`` of them.

    >>> spread((2,), 3), spread((1, 2), 2)
    ([2, 2, 2], [1, 2])
    """
    if len(values) == 1:
        return list(values) * n
    if len(values) != n:
        raise CorruptFileError(f"{len(values)} values were given for {n} axes")
    return list(values)


def both_ends(padding: Sequence[int], n: int) -> list[int]:
    """ONNX pads (all begins, then all ends) from one value, one per axis, or begins and ends.

    >>> both_ends((1,), 2), both_ends((1, 2), 2), both_ends((0, 0, 1, 1), 2)
    ([1, 1, 1, 1], [1, 2, 1, 2], [0, 0, 1, 1])
    """
    if len(padding) == 2 * n:
        return list(padding)
    return spread(padding, n) * 2
