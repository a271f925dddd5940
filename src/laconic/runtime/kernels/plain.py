"""The same products without the compiled kernel: by SciPy where it is installed, else by NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from laconic.records import AnyArray, FloatArray
from laconic.runtime.kernels.compact import Block

PRODUCTS_AT_ONCE = 2**20
"""Entries times batch that NumPy multiplies in one go: 8 MiB of float64."""


def scipy_sparse() -> Any | None:
    """``scipy.sparse``, or None where SciPy is not installed."""
    try:
        import scipy.sparse
    except ImportError:
        return None
    return scipy.sparse


class PlainBlock:
    """A block as a SciPy CSR matrix, or as arrays that NumPy sums row by row."""

    def __init__(self, block: Block, scipy: Any | None) -> None:
        self._first, self._cols = block.first, block.cols
        rows = block.entry_rows()
        order = np.argsort(rows, kind="stable")
        self._values, self._columns = block.values()[order], block.places()[order]
        self._ends = np.cumsum(np.bincount(rows, minlength=block.rows))
        self._csr = None
        self.nbytes = self._columns.nbytes + self._ends.nbytes + self._values.nbytes
        if scipy is not None:
            pointer = np.concatenate([[0], self._ends]).astype(np.int32)
            parts = (self._values, self._columns.astype(np.int32), pointer)
            self._csr = scipy.csr_matrix(parts, shape=(block.rows, block.cols))
            self.nbytes = sum(int(part.nbytes) for part in parts)

    def multiply(
        self, x: FloatArray, y: FloatArray, bias: AnyArray | None, relu: bool, add: bool, rows: range
    ) -> None:
        """Rows ``rows`` of ``y = W x`` (batch, all rows), with what is to follow done at once."""
        seen = x[:, self._first : self._first + self._cols]
        part = y[:, rows.start : rows.stop]
        if self._csr is not None:
            product = np.asarray(self._csr[rows.start : rows.stop] @ seen.T).T
        else:
            product = self._sums(seen, rows)
        total = part + product if add else product
        if bias is not None:
            total = total + bias[rows.start : rows.stop]
        part[...] = np.maximum(total, 0) if relu else total

    def _sums(self, x: FloatArray, rows: range) -> FloatArray:
        """NumPy alone: differences of running sums in float64, a limited number of products at once."""
        out = np.zeros((len(x), len(rows)), np.float32)
        row = rows.start
        while row < rows.stop:
            begin = int(self._ends[row - 1]) if row else 0
            room = begin + max(1, PRODUCTS_AT_ONCE // max(1, len(x)))
            stop = min(rows.stop, max(row + 1, int(np.searchsorted(self._ends, room, side="right"))))
            end = int(self._ends[stop - 1])
            products = x[:, self._columns[begin:end]].astype(np.float64) * self._values[begin:end]
            lengths = np.diff(self._ends[row:stop], prepend=begin)
            full = np.flatnonzero(lengths)
            if len(full):
                starts = (self._ends[row:stop] - lengths - begin)[full]
                out[:, row - rows.start + full] = np.add.reduceat(products, starts, axis=1)
            row = stop
        return out
