"""The one entropy-coded stream of a file: three kinds of batches, one last-in-first-out coder.

A model (``adaptive.py``, ``order0.py``) is written once, against :class:`Coder`. Run with a
:class:`StreamWriter` it encodes, with a :class:`StreamReader` it decodes, with a :class:`Meter` it
measures. The arithmetic is in ``coder.c`` and, where that was not compiled, in ``ans.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from laconic.errors import ChecksumError, CorruptFileError
from laconic.pack.codecs.compiled import Ans, Extension, Taken, plain_coder
from laconic.records import IntArray

if TYPE_CHECKING:
    import numpy.typing as npt

    Counts = npt.NDArray[np.int64]
else:
    Counts = np.ndarray
PROBABILITY_BITS = 15
ONE = 1 << PROBABILITY_BITS
_WORD = np.dtype("<u4")
_TOP_BIT = 1 << 31
_EXHAUSTED = "the symbol stream ends before the symbols that the headers announce"


class Coder(Protocol):
    """What a model calls. ``known``: the symbols for a writer or a meter; a reader ignores it."""

    def flags(self, probabilities: Counts, known: IntArray | None) -> IntArray:
        """One 0/1 symbol per entry; ``probabilities``: probability of 1 in units of 2^-15, in 1..2^15-1."""
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


class _Batch(NamedTuple):
    """Symbols of one kind and their model: probabilities (flags), counts (draws) or a width (bits)."""

    kind: str
    model: Counts | int
    symbols: IntArray


class StreamWriter:
    """Collects batches in reading order; :meth:`finish` encodes them last to first.

    ``ans``: the coder; None: the one in Python and NumPy.
    """

    def __init__(self, ans: Ans | None = None) -> None:
        self._ans = plain_coder() if ans is None else ans
        self._batches: list[_Batch] = []

    def flags(self, probabilities: Counts, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = _given(known)
        if symbols.size:
            self._batches.append(_Batch("flags", np.array(probabilities, dtype=np.int64), symbols))
        return symbols

    def draws(self, counts: Counts, n: int, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = _given(known)
        if n and len(counts) > 1:
            self._batches.append(_Batch("draws", np.array(counts, dtype=np.int64), symbols))
        return symbols

    def bits(self, width: int, n: int, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = _given(known)
        if n and width:
            self._batches.append(_Batch("bits", width, symbols))
        return symbols

    def finish(self, checksum: int) -> bytes:
        """The stream's bytes. ``checksum`` (31 bits of the coded integers) is the coder's first word."""
        puts = {"flags": self._ans.put_flags, "draws": self._ans.put_draws, "bits": self._ans.put_bits}
        state, parts = checksum | _TOP_BIT, []
        for kind, model, symbols in self._backwards():
            # One word per coded symbol is always enough; pages that are not written take no memory.
            room = np.empty(symbols.size * (2 if kind == "bits" else 1), np.uint32)
            used, state = puts[kind](room, state, model, symbols)
            parts.append(room[:used].astype(_WORD).tobytes())
        return b"".join(parts) + state.to_bytes(8, "little").rstrip(b"\0")

    def _backwards(self) -> Iterator[_Batch]:
        """The batches from the last to the first; flags that follow each other, which are many, as one."""
        for kind, run in groupby(reversed(self._batches), key=lambda batch: batch.kind):
            if kind != "flags":
                yield from run
                continue
            _, models, symbols = zip(*reversed(list(run)), strict=True)
            yield _Batch(kind, np.concatenate(models), np.concatenate(symbols))


class StreamReader:
    """Decodes what :class:`StreamWriter` wrote.

    ``code``: the compiled decoder of the adaptive models (see :meth:`lend`). ``ans``: the coder of all other
    symbols. None: Python and NumPy.
    """

    def __init__(self, data: bytes, code: Extension | None = None, ans: Ans | None = None) -> None:
        if not data or data[-1] == 0:
            raise CorruptFileError("the symbol stream is empty or ends in a zero byte")
        self.code = code
        self._ans = plain_coder() if ans is None else ans
        self._words = np.frombuffer(data + b"\0" * (-len(data) % 4), dtype=_WORD).astype(np.uint32)
        self._left, self._state = len(self._words), 0
        while self._state < 1 << 32 and self._left:
            self._left -= 1
            self._state = self._state << 32 | int(self._words[self._left])
        self._check_left()

    def lend(self, take: Callable[..., Taken], *arguments: object) -> None:
        """Call ``take`` with the stream's position; it reads symbols and returns the new position."""
        self._left, self._state = take(self._words, self._left, self._state, *arguments)
        self._check_left()

    def flags(self, probabilities: Counts, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = np.zeros(probabilities.size, np.int32)
        if probabilities.size:
            self.lend(self._ans.flags, np.ascontiguousarray(probabilities, dtype=np.int64), symbols)
        return symbols

    def draws(self, counts: Counts, n: int, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        if not n or len(counts) < 2:
            return np.zeros(n, np.int32)
        symbols = np.empty(n, np.int32)
        self.lend(self._ans.draws, np.ascontiguousarray(counts, dtype=np.int64), symbols)
        return symbols

    def bits(self, width: int, n: int, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = np.zeros(n, np.int32)
        if n and width:
            self.lend(self._ans.bits, width, symbols)
        return symbols

    def left_bits(self) -> int:
        """Bits not yet consumed, the first word's included."""
        return 32 * self._left + self._state.bit_length()

    def _check_left(self) -> None:
        """Encoding never shrinks the state: a state below the first word means an exhausted stream."""
        if self.left_bits() < 32:
            raise ChecksumError(_EXHAUSTED)

    def finish(self, checksum: int) -> None:
        """Check that exactly the first word is left and that it is the integers' checksum."""
        if self._left or self._state != checksum | _TOP_BIT:
            raise ChecksumError("the decoded integers do not match the file's checksum of them")


class Meter:
    """Counts the bits that a :class:`StreamWriter` would write, to a thousandth, without writing."""

    def __init__(self) -> None:
        self.total = 0.0

    def flags(self, probabilities: Counts, known: IntArray | None) -> IntArray:
        """See :class:`Coder`."""
        symbols = _given(known)
        hit = np.where(symbols != 0, probabilities, ONE - probabilities)
        self.total += PROBABILITY_BITS * hit.size - float(np.log2(hit).sum())
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
