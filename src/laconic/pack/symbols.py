"""The one entropy-coded stream of a file: three kinds of batches, one last-in-first-out coder.

A model (``adaptive.py``, ``order0.py``) is written once, against :class:`Coder`. Run with a
:class:`StreamWriter` it encodes, with a :class:`StreamReader` it decodes, with a :class:`Meter` it
measures. The float line: constriction turns integers into its own 24-bit integer tables with IEEE
multiplications and truncations only (``perfect=False``, float64), which FORMAT.md spells out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import constriction
import numpy as np
import numpy.typing as npt

from laconic.errors import ChecksumError, CorruptFileError
from laconic.pack.compiled import Extension, Taken
from laconic.records import IntArray

Counts = npt.NDArray[np.int64]
CHANCE_BITS = 15
ONE = 1 << CHANCE_BITS
_MODELS = constriction.stream.model
_BERNOULLI = _MODELS.Bernoulli(perfect=False)
_WORD = np.dtype("<u4")
_TOP_BIT = 1 << 31
_DRY = "the symbol stream ends before the symbols that the headers announce"


class Coder(Protocol):
    """What a model may ask for. ``known`` holds the symbols when they are known, else it is ignored."""

    def flags(self, chances: Counts, known: IntArray | None) -> IntArray:
        """One 0/1 symbol per entry; ``chances``: probability of 1 in units of 2^-15, in 1..2^15-1."""
        ...

    def draws(self, counts: Counts, n: int, known: IntArray | None) -> IntArray:
        """``n`` symbols 0..len(counts)-1, each with probability ``counts[s] / counts.sum()``."""
        ...

    def bits(self, width: int, n: int, known: IntArray | None) -> IntArray:
        """``n`` integers of ``width`` (0..31) equally likely bits."""
        ...


def _given(known: IntArray | None) -> IntArray:
    if known is None:
        raise ValueError("an encoder needs the symbols")
    return np.ascontiguousarray(known, dtype=np.int32)


def _categorical(counts: Counts) -> object:
    return _MODELS.Categorical(counts.astype(np.float64), perfect=False)


class StreamWriter:
    """Collects batches in reading order; :meth:`finish` encodes them last to first."""

    def __init__(self) -> None:
        self._batches: list[tuple[IntArray, object, npt.NDArray[np.float64] | None]] = []

    def flags(self, chances: Counts, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = _given(known)
        if symbols.size:
            self._batches.append((symbols, _BERNOULLI, chances / np.float64(ONE)))
        return symbols

    def draws(self, counts: Counts, n: int, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = _given(known)
        if n and len(counts) > 1:
            self._batches.append((symbols, _categorical(counts), None))
        return symbols

    def bits(self, width: int, n: int, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = _given(known)
        if n:
            for shift, part in _halves(width):
                piece = (symbols >> shift) & ((1 << part) - 1)
                self._batches.append((piece.astype(np.int32), _MODELS.Uniform(1 << part), None))
        return symbols

    def finish(self, checksum: int) -> bytes:
        """The stream's bytes. ``checksum`` (31 bits of the coded integers) is the coder's first word."""
        coder = constriction.stream.stack.AnsCoder(np.array([checksum | _TOP_BIT], dtype=np.uint32))
        for symbols, model, chances in reversed(self._batches):
            if chances is None:
                coder.encode_reverse(symbols, model)
            else:
                coder.encode_reverse(symbols, model, chances)
        words: npt.NDArray[np.uint32] = coder.get_compressed()
        return words.astype(_WORD).tobytes().rstrip(b"\0")


class StreamReader:
    """Decodes what :class:`StreamWriter` wrote.

    ``code`` is what models read with where it is there (see :meth:`lend`); None reads by NumPy.
    """

    def __init__(self, data: bytes, code: Extension | None = None) -> None:
        if not data or data[-1] == 0:
            raise CorruptFileError("the symbol stream is empty or ends in a zero byte")
        self.code = code
        self._words = np.frombuffer(data + b"\0" * (-len(data) % 4), dtype=_WORD).astype(np.uint32)
        self._coder = constriction.stream.stack.AnsCoder(self._words)
        self._check_left()

    def lend(self, take: Callable[..., Taken], *arguments: object) -> None:
        """Let compiled code take symbols off the stream, told where it stands and telling where it ends."""
        left, state = take(self._words, *self._coder.pos(), *arguments)
        if left == 0 and state < _TOP_BIT:
            raise ChecksumError(_DRY)
        self._coder.seek(left, state)

    def flags(self, chances: Counts, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        if not chances.size:
            return np.zeros(0, np.int32)
        symbols: IntArray = self._coder.decode(_BERNOULLI, chances / np.float64(ONE))
        self._check_left()
        return symbols

    def draws(self, counts: Counts, n: int, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        if not n or len(counts) < 2:
            return np.zeros(n, np.int32)
        symbols: IntArray = self._coder.decode(_categorical(counts), n)
        self._check_left()
        return symbols

    def bits(self, width: int, n: int, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = np.zeros(n, np.int32)
        if n:
            for shift, part in _halves(width):
                symbols |= self._coder.decode(_MODELS.Uniform(1 << part), n) << shift
            self._check_left()
        return symbols

    def left_bits(self) -> int:
        """Bits not yet consumed, the first word's included."""
        return int(self._coder.num_valid_bits()) + 1

    def _check_left(self) -> None:
        """Encoding never shrinks the coder's state, so a state below the first word has run dry."""
        if self.left_bits() < 32:
            raise ChecksumError(_DRY)

    def finish(self, checksum: int) -> None:
        """Check that exactly the first word is left and that it is the integers' checksum."""
        words = self._coder.get_compressed()
        if len(words) != 1 or int(words[0]) != checksum | _TOP_BIT:
            raise ChecksumError("the decoded integers do not match the file's checksum of them")


class Meter:
    """Counts the bits that a :class:`StreamWriter` would write, to a thousandth, without writing."""

    def __init__(self) -> None:
        self.total = 0.0

    def flags(self, chances: Counts, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = _given(known)
        hit = np.where(symbols != 0, chances, ONE - chances)
        self.total += CHANCE_BITS * hit.size - float(np.log2(hit).sum())
        return symbols

    def draws(self, counts: Counts, n: int, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = _given(known)
        if n and len(counts) > 1:
            seen = np.bincount(symbols, minlength=len(counts))
            used = seen > 0
            cost = np.log2(counts.sum()) - np.log2(np.maximum(counts[used], counts.sum() * 2.0**-24))
            self.total += float((seen[used] * cost).sum())
        return symbols

    def bits(self, width: int, n: int, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        self.total += float(width * n)
        return _given(known)


def _halves(width: int) -> list[tuple[int, int]]:
    """A width as pieces of at most 16 bits: (shift, bits)."""
    return [(shift, min(16, width - shift)) for shift in range(0, width, 16)]
