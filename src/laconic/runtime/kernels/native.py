"""The compiled kernels: whether they are here, and which of their code paths this processor runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from laconic.errors import InputError
from laconic.records import AnyArray, FloatArray
from laconic.runtime.kernels.compact_forms import FORMS, Block
from laconic.runtime.kernels.two_bit_forms import TwoBits, packed

Quick = Callable[[AnyArray, FloatArray | None, bool], FloatArray | None]
"""``quick(x, bias, relu)`` is y, or None when x or the bias must be copied, split or refused first."""


class Extension(Protocol):
    """What ``sparse.c`` and ``twobit.c`` offer."""

    def variants(self) -> list[str]:
        """Names of the code paths that this processor runs, the best last."""

    def pack(self, *arguments: Any) -> object:
        """A checked copy of a matrix or a block of it."""

    def multiply(self, *arguments: Any) -> None:
        """Fill a range of rows of y."""

    def quick(self, *arguments: Any) -> Quick:
        """A function for whole calls that need no care."""

    def nbytes(self, matrix: object) -> int:
        """Memory of a packed block."""


def extension() -> Extension | None:
    """The compiled module, or None where the package was installed without a compiler."""
    try:
        from laconic.runtime.kernels import _sparse  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _sparse  # type: ignore[no-any-return]


def two_bit_extension() -> Extension | None:
    """The compiled module for two-bit matrices, or None where it is missing."""
    try:
        from laconic.runtime.kernels import _twobit  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _twobit  # type: ignore[no-any-return]


def pick_variant(names: Sequence[str], wanted: str | None) -> int:
    """The number of the code path to run: the one asked for, or the best there is.

    Raises ``InputError`` when this processor lacks the instructions of the one asked for.

    >>> pick_variant(["baseline", "avx2"], None)
    1
    """
    if wanted is None:
        return len(names) - 1
    if wanted not in names:
        raise InputError(f"this processor has no {wanted}; it runs {', '.join(names)}. Cure: one of these")
    return list(names).index(wanted)


class NativeBlock:
    """A block in a compiled kernel's own memory: what its ``pack`` made of these arguments."""

    def __init__(self, code: Extension, variant: int, *arguments: Any) -> None:
        self._code, self._variant = code, variant
        try:
            self._matrix = code.pack(*arguments)
        except ValueError as error:
            raise InputError(
                f"a compact matrix contradicts itself: {error}. Cure: the form that compact() or two_bits() "
                "makes"
            ) from error
        self.nbytes = code.nbytes(self._matrix)

    def quick(self, most: int) -> Quick:
        """The whole product in one call, for at most ``most`` rows of x; for a matrix of one block."""
        return self._code.quick(self._matrix, np.empty, np.dtype(np.float32), most, self._variant)

    def multiply(
        self, x: FloatArray, y: FloatArray, bias: AnyArray | None, relu: bool, add: bool, rows: range
    ) -> None:
        """Rows ``rows`` of ``y = W x`` (batch, all rows), with what is to follow done at once."""
        batch, width = x.shape
        self._code.multiply(
            self._matrix, x, width, batch, y, bias, relu, add, rows.start, rows.stop, self._variant
        )


def sparse_block(block: Block, code: Extension, variant: int) -> NativeBlock:
    """A block of a sparse matrix."""
    form = FORMS.index(block.form) if block.form in FORMS else -1
    arrays = (array.tobytes() for array in block.arrays)
    return NativeBlock(code, variant, block.rows, block.cols, block.first, form, block.bits, *arrays)


def two_bit_block(form: TwoBits, code: Extension, variant: int) -> NativeBlock:
    """A whole two-bit matrix."""
    return NativeBlock(code, variant, *form.shape, form.lowest, form.step, packed(form))
