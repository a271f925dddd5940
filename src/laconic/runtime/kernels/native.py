"""The compiled kernel: whether it is here, and which of its code paths this processor runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from laconic.errors import InputError
from laconic.records import AnyArray, FloatArray
from laconic.runtime.kernels.compact import FORMS, Block

Quick = Callable[[AnyArray, FloatArray | None, bool], FloatArray | None]
"""``quick(x, bias, relu)`` is y, or None when x or the bias must be copied, split or refused first."""


class Extension(Protocol):
    """What ``sparse.c`` offers."""

    def variants(self) -> list[str]:
        """Names of the code paths that this processor runs, the best last."""

    def pack(self, *arguments: Any) -> object:
        """A checked copy of a block."""

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
    """A block in the compiled kernel's own memory."""

    def __init__(self, block: Block, code: Extension, variant: int) -> None:
        self._code, self._variant = code, variant
        form = FORMS.index(block.form) if block.form in FORMS else -1
        try:
            self._matrix = code.pack(
                block.rows, block.cols, block.first, form, block.bits, *(a.tobytes() for a in block.arrays)
            )
        except ValueError as error:
            raise InputError(f"a compact matrix contradicts itself: {error}") from error
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
