"""Units that must be removed together: a disjoint-set forest over numbered units.

A unit is one position along one dimension of some tensor: an output channel, a hidden state, a head. The
network's operations join units. A unit that must stay (an output, an axis that an operation mixes) is fixed,
with all that is joined with it, for a reason that is stored. Its number is then 0, the number of the set of
all fixed units.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
FIXED = 0


class Units:
    """Disjoint sets of units; number 0 is the set of what must stay.

    ``reason`` is what the next fixed units are fixed for.

    >>> units = Units()
    >>> a, b = units.fresh(3), units.fresh(3)
    >>> units.join(a, b)
    >>> units.reason = "it is the result"
    >>> units.pin(b[:1])
    >>> units.find(a).tolist() == units.find(b).tolist(), units.find(a)[0], units.why(a)
    (True, np.int64(0), ('it is the result',))
    """

    def __init__(self) -> None:
        self._parent: list[int] = [FIXED]
        self._why: dict[int, str] = {FIXED: ""}  # by the root of a set that must stay
        self.reason = ""

    def fresh(self, count: int) -> Labels:
        """``count`` new units, each a set of its own."""
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def join(self, a: Labels, b: Labels) -> None:
        """Unit by unit, make one set of two; the arrays are broadcast against each other."""
        if a is b:
            return
        for x, y in _pairs(a, b):
            x, y = self._root(x), self._root(y)
            if x == y:
                continue
            if FIXED in (x, y):
                self._fix(max(x, y))
                continue
            x, y = min(x, y), max(x, y)
            self._parent[y] = x
            if y in self._why:
                self._why.setdefault(x, self._why.pop(y))

    def pin(self, a: Labels) -> None:
        """Fix these units, and all that are joined with them."""
        for x in np.unique(a).tolist():
            self._fix(self._root(x))

    def find(self, a: Labels) -> Labels:
        """The number that stands for each unit's set; 0 for what must stay."""
        distinct, inverse = np.unique(a, return_inverse=True)
        roots = [self._root(x) for x in distinct.tolist()]
        found = np.array([FIXED if x in self._why else x for x in roots], dtype=np.int64)
        return found[inverse].reshape(a.shape)

    def is_fixed(self, a: Labels) -> bool:
        """Whether all of these must stay."""
        return all(self._root(x) in self._why for x in np.unique(a).tolist())

    def why(self, a: Labels) -> tuple[str, ...]:
        """The reasons for which any of these must stay, each once."""
        roots = (self._root(x) for x in np.unique(a).tolist())
        return tuple(dict.fromkeys(self._why[x] for x in roots if self._why.get(x)))

    def _fix(self, root: int) -> None:
        self._why.setdefault(root, self.reason)

    def _root(self, x: int) -> int:
        parent = self._parent
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x


def _pairs(a: Labels, b: Labels) -> list[list[int]]:
    """The distinct pairs of units at the same places of two arrays, which are broadcast."""
    both = np.stack([side.ravel() for side in np.broadcast_arrays(a, b)])
    if both.shape[1] > 1:
        key = both[0] * (int(both[1].max()) + 1) + both[1]
        both = both[:, np.unique(key, return_index=True)[1]]
    pairs: list[list[int]] = both.T.tolist()
    return pairs


def fixed(count: int) -> Labels:
    """Labels of an axis whose every position must stay."""
    return np.zeros(count, dtype=np.int64)
