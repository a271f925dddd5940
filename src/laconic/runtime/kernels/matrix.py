"""y = relu(W x + b) for a matrix that is mostly zero or has two bits a weight, by the fastest code here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from laconic.errors import InputError
from laconic.records import AnyArray, FloatArray
from laconic.runtime.kernels import native, plain
from laconic.runtime.kernels.compact_forms import PANEL, Compact
from laconic.runtime.kernels.two_bit_forms import GROUP, TwoBits

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from laconic.runtime.engines.workers import Workers

WORTH_A_THREAD = 250_000
"""Entries times batch below which handing work to a second thread costs more than it saves."""

WEIGHTS_AN_ENTRY = 16
"""Two-bit weights that take about as long as one entry of a sparse matrix."""

MISSING = "the compiled kernel is missing (laconic was installed without a C compiler)"


class KernelMatrix:
    """What all matrices of our kernels share: checks, threads and the blocks one after the other.

    ``code`` says what computes it: a code path of the compiled kernel, ``scipy`` or ``numpy``; ``note``
    says why when that is not the compiled kernel. ``nbytes`` is the memory of the weights.

    Args:
        shape: (rows, columns) of W.
        blocks: Blocks of columns, from left to right, whose products are added.
        code: What computes them.
        entries: Work of one row of x, in entries of a sparse matrix.
        unit: Rows of W that are not divided among threads.
        threads: Threads that one product may use.
        pool: What runs them; None: the calling thread alone.

    Example:
        >>> from laconic.records import IntTensor, UniformGrid
        >>> from laconic.runtime.kernels.compact_forms import compact
        >>> matrix = SparseMatrix(compact(IntTensor("w", np.eye(2, dtype=np.int32), UniformGrid(0.5))))
        >>> isinstance(matrix, KernelMatrix), matrix(np.float32([4, 6])).tolist()
        (True, [2.0, 3.0])
    """

    def __init__(
        self,
        shape: tuple[int, int],
        blocks: Sequence[native.NativeBlock | plain.PlainBlock | plain.PlainTwoBits],
        code: str,
        *,
        entries: int,
        unit: int,
        threads: int,
        pool: Executor | Workers | None,
    ) -> None:
        self.shape, self.code, self._blocks = shape, code, blocks
        self._work, self._unit = entries, unit
        self._threads, self._pool = threads if pool is not None else 1, pool
        self.note = "" if all(isinstance(block, native.NativeBlock) for block in blocks) else MISSING
        self.nbytes = sum(block.nbytes for block in blocks)
        self._quick: native.Quick = _never
        if len(blocks) == 1 and isinstance(blocks[0], native.NativeBlock):
            alone = 2**31 - 1 if pool is None else (WORTH_A_THREAD - 1) // max(1, entries)
            self._quick = blocks[0].quick(alone)

    def __call__(self, x: AnyArray, bias: FloatArray | None = None, relu: bool = False) -> FloatArray:
        """W x + bias, clipped at zero if ``relu``; x is float32 of shape (..., columns).

        Raises ``InputError`` when shapes or types do not fit.
        """
        y = self._quick(x, bias, relu)
        return self._long_way(x, bias, relu) if y is None else y

    def _long_way(self, x: AnyArray, bias: FloatArray | None, relu: bool) -> FloatArray:
        """What needs a copy, several blocks or threads; and what does not fit."""
        rows, cols = self.shape
        if x.ndim < 1 or x.shape[-1] != cols or x.dtype != np.float32:
            raise InputError(
                f"a matrix of {rows}x{cols} takes float32 (..., {cols}), got {x.dtype} {x.shape}. Cure: "
                f"x.astype(np.float32), with {cols} columns"
            )
        if bias is not None:
            if bias.shape != (rows,) or bias.dtype != np.float32:
                raise InputError(
                    f"the bias must be float32 ({rows},), got {bias.dtype} {bias.shape}. Cure: "
                    f"bias.astype(np.float32), with {rows} numbers"
                )
            bias = _plain_memory(bias)
        flat = _plain_memory(x.reshape(math.prod(x.shape[:-1]), cols))
        y = np.empty((len(flat), rows), np.float32)
        if self._pool is None or self._work * len(flat) < WORTH_A_THREAD:
            self._fill(flat, y, bias, relu, range(len(flat)), range(rows))
        else:
            parts = list(self._parts(len(flat)))
            waiting = [self._pool.submit(self._fill, flat, y, bias, relu, *part) for part in parts[1:]]
            self._fill(flat, y, bias, relu, *parts[0])
            for future in waiting:
                future.result()
        return y.reshape(*x.shape[:-1], rows)

    def _parts(self, batch: int) -> Iterator[tuple[range, range]]:
        """Ranges of x's rows and of W's rows, one pair a thread: samples if there are many, else outputs."""
        rows = self.shape[0]
        threads = min(self._threads, 1 + self._work * batch // WORTH_A_THREAD)
        by_batch = batch >= 16 * threads
        size, unit = (batch, 16) if by_batch else (rows, self._unit)
        step = -(-size // (threads * unit)) * unit
        for start in range(0, size, max(step, unit)) or (0,):
            stop = min(size, start + max(step, unit))
            part = range(start, stop)
            yield (part, range(rows)) if by_batch else (range(batch), part)

    def _fill(
        self, x: FloatArray, y: FloatArray, bias: FloatArray | None, relu: bool, batch: range, rows: range
    ) -> None:
        if len(batch) < len(x):
            x, y = x[batch.start : batch.stop], y[batch.start : batch.stop]
        last = len(self._blocks) - 1
        for k, block in enumerate(self._blocks):
            block.multiply(x, y, bias if k == last else None, relu and k == last, k > 0, rows)


class SparseMatrix(KernelMatrix):
    """A matrix that is mostly zero, ready to be multiplied; ``matrix(x)`` for x of shape (..., columns).

    Args:
        form: The matrix, as :func:`compact` makes it.
        threads: Threads that one product may use.
        pool: What runs them; None: the calling thread alone.
        variant: A code path of the compiled kernel by name, such as "avx2"; None for the fastest here.

    >>> from laconic.records import IntTensor, UniformGrid
    >>> from laconic.runtime.kernels.compact_forms import compact
    >>> weight = IntTensor("w", np.array([[0, 2], [0, 0], [1, 0]], np.int32), UniformGrid(0.5))
    >>> SparseMatrix(compact(weight))(np.array([[3, 4]], np.float32)).tolist()
    [[4.0, 0.0, 1.5]]
    """

    def __init__(
        self,
        form: Compact,
        *,
        threads: int = 1,
        pool: Executor | Workers | None = None,
        variant: str | None = None,
    ) -> None:
        for block in form.blocks:
            block.check()
        self.entries = form.entries
        compiled = native.extension()
        blocks: Sequence[native.NativeBlock | plain.PlainBlock]
        if compiled is not None:
            number = native.pick_variant(compiled.variants(), variant)
            code = compiled.variants()[number]
            blocks = [native.sparse_block(block, compiled, number) for block in form.blocks]
        else:
            scipy = plain.scipy_sparse()
            code = "numpy" if scipy is None else "scipy"
            blocks = [plain.PlainBlock(block, scipy) for block in form.blocks]
        super().__init__(
            form.shape, blocks, code, entries=form.entries, unit=PANEL, threads=threads, pool=pool
        )


class TwoBitMatrix(KernelMatrix):
    """A dense matrix of two bits a weight, ready to be multiplied; activations are rounded to 8 bits.

    Args:
        form: The matrix, as :func:`two_bits` makes it.
        threads: Threads that one product may use.
        pool: What runs them; None: the calling thread alone.
        variant: A code path of the compiled kernel by name, such as "avx2"; None for the fastest here.

    >>> from laconic.runtime.kernels.two_bit_forms import two_bits
    >>> weight = two_bits(np.array([[1, -1], [0, 1]], np.int32), 0.5)
    >>> TwoBitMatrix(weight)(np.array([[127, 4]], np.float32)).tolist()
    [[61.5, 2.0]]
    """

    def __init__(
        self,
        form: TwoBits,
        *,
        threads: int = 1,
        pool: Executor | Workers | None = None,
        variant: str | None = None,
    ) -> None:
        compiled = native.two_bit_extension()
        block: native.NativeBlock | plain.PlainTwoBits
        if compiled is not None:
            number = native.pick_variant(compiled.variants(), variant)
            code = compiled.variants()[number]
            block = native.two_bit_block(form, compiled, number)
        else:
            code, block = "numpy", plain.PlainTwoBits(form)
        work = form.shape[0] * form.shape[1] // WEIGHTS_AN_ENTRY
        super().__init__(form.shape, [block], code, entries=work, unit=GROUP, threads=threads, pool=pool)


def _never(x: AnyArray, bias: FloatArray | None, relu: bool) -> FloatArray | None:
    """There is no quick way."""
    return None


def _plain_memory(array: FloatArray) -> FloatArray:
    """The array itself, or a copy where it is strided or not aligned."""
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else np.require(array, requirements=["C", "A"])
