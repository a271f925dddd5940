"""The same products without the compiled kernel: by SciPy where it is installed, else by NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from laconic.records import AnyArray, FloatArray
from laconic.runtime.kernels.compact_forms import Block
from laconic.runtime.kernels.two_bit_forms import TwoBits, rounded

PRODUCTS_AT_ONCE = 2**20
"""Entries times batch that NumPy multiplies in one go: 8 MiB of float64."""


EXACT = 2**24
"""Integers up to here are float32 numbers, and so are their sums in any order."""

ROWS_AT_ONCE = 256
"""Rows of integers that are turned into float32 in one go."""


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


class PlainTwoBits:
    """A two-bit matrix as bytes; products of integers in float32, so few at a time that they are exact."""

    def __init__(self, form: TwoBits) -> None:
        self._integers, self._step = form.integers.astype(np.int8), np.float32(form.step)
        self.nbytes = self._integers.nbytes

    def multiply(
        self, x: FloatArray, y: FloatArray, bias: AnyArray | None, relu: bool, add: bool, rows: range
    ) -> None:
        """Rows ``rows`` of ``y = W x`` (batch, all rows), with what is to follow done at once."""
        whole, steps = rounded(x)
        factors = (self._step * steps)[:, None]
        for start in range(rows.start, rows.stop, ROWS_AT_ONCE):
            stop = min(rows.stop, start + ROWS_AT_ONCE)
            part = y[:, start:stop]
            total = self._sums(whole, start, stop).astype(np.float32) * factors
            total = part + total if add else total
            total = total if bias is None else total + bias[start:stop]
            part[...] = np.maximum(total, 0) if relu else total

    def _sums(self, whole: FloatArray, start: int, stop: int) -> AnyArray:
        sums = np.zeros((len(whole), stop - start), np.int32)
        width = EXACT // (3 * 127)
        for first in range(0, whole.shape[1], width):
            integers = self._integers[start:stop, first : first + width].astype(np.float32)
            sums += (whole[:, first : first + width] @ integers.T).astype(np.int32)
        return sums
