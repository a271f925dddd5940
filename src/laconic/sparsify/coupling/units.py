"""Units that live and die together: a disjoint-set forest over numbered units.

A unit is one position along one dimension of some tensor: an output channel, a hidden state, a head. What a
network does with its tensors joins units; a unit that must stay (an output, an axis that an operation mixes)
is joined with unit 0, which stands for everything fixed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
FIXED = 0


class Units:
    """Disjoint sets of units; number 0 is the set of what must stay.

    >>> units = Units()
    >>> a, b = units.fresh(3), units.fresh(3)
    >>> units.join(a, b)
    >>> units.pin(b[:1])
    >>> units.find(a).tolist() == units.find(b).tolist(), units.find(a)[0]
    (True, np.int64(0))
    """

    def __init__(self) -> None:
        self._parent: list[int] = [FIXED]

    def fresh(self, count: int) -> Labels:
        """``count`` new units, each a set of its own."""
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def join(self, a: Labels, b: Labels) -> None:
        """Unit by unit, make one set of two; the arrays are broadcast against each other."""
        if a is b:
            return
        for x, y in zip(*(side.ravel().tolist() for side in np.broadcast_arrays(a, b)), strict=True):
            x, y = self._root(x), self._root(y)
            if x != y:  # the smaller number stays the root, so that 0 always does
                self._parent[max(x, y)] = min(x, y)

    def pin(self, a: Labels) -> None:
        """These units, and all that are joined with them, must stay."""
        self.join(a, np.zeros(1, dtype=np.int64))

    def find(self, a: Labels) -> Labels:
        """The number that stands for each unit's set; 0 for what must stay."""
        return np.array([self._root(x) for x in a.ravel().tolist()], dtype=np.int64).reshape(a.shape)

    def is_fixed(self, a: Labels) -> bool:
        """Whether all of these must stay."""
        return not self.find(a).any()

    def _root(self, x: int) -> int:
        parent = self._parent
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x


def fixed(count: int) -> Labels:
    """Labels of an axis whose every position must stay."""
    return np.zeros(count, dtype=np.int64)
