"""Steps by channel in few bits: Rice codes of bfloat16 numbers (FORMAT.md, "Coded steps").

The upper 16 bits of a positive float32 rise with it, about evenly in its logarithm, and steps of one tensor
are mostly within a few octaves. So they are coded as integers: differences from a middle one, or from the
step before. Where a writer rounded all steps to fewer bits of mantissa, the zeros at the end are not coded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from laconic.errors import CorruptFileError, TruncatedFileError
from laconic.varint import Reader, Writer

if TYPE_CHECKING:
    import numpy.typing as npt

    Codes = npt.NDArray[np.int64]
else:
    Codes = np.ndarray

MOST_CODE = 0x7F7F
"""The upper 16 bits of the largest finite float32."""
_MOST_DROPPED, _MOST_LOW = 7, 15
_CHAINED = 128


class CodedSteps(NamedTuple):
    """Steps as a file may hold them.

    ``form``: bits 0-3 the low bits of a Rice code, 4-6 the bits that are not coded, 7 whether each step
    follows from the one before. ``first``: what the first step's code is compared with.
    """

    form: int
    first: int
    bits: bytes

    @property
    def size(self) -> int:
        """Bytes in the file, but for the grid's axis."""
        out = Writer()
        self.put(out)
        return len(out.data)

    def put(self, out: Writer) -> None:
        """The form, the first code, the Rice codes."""
        out.byte(self.form)
        out.varint(self.first)
        out.block(self.bits)


def coded_steps(steps: tuple[float, ...]) -> CodedSteps | None:
    """The form of fewest bytes; None where a step is no bfloat16.

    >>> found = coded_steps((0.5, 0.75, 0.5, 1.0))
    >>> found.size, read_steps(found, 4)
    (5, (0.5, 0.75, 0.5, 1.0))
    """
    words = np.array(steps, np.float32).view(np.uint32).astype(np.int64)
    if not words.size or (words & 0xFFFF).any():
        return None
    words >>= 16
    common = int(np.bitwise_or.reduce(words)) | 1 << _MOST_DROPPED
    dropped = (common & -common).bit_length() - 1
    codes = words >> dropped
    middle = int(np.sort(codes)[len(codes) // 2])
    tried = [
        _rice(codes - middle, middle, dropped << 4),
        _rice(np.diff(codes, prepend=codes[0]), int(codes[0]), dropped << 4 | _CHAINED),
    ]
    return min(tried, key=lambda coded: len(coded.bits))


def _rice(differences: Codes, first: int, form: int) -> CodedSteps:
    """Rice codes of differences with the number of low bits that makes them shortest."""
    folded = np.where(differences < 0, -2 * differences - 1, 2 * differences)
    low = min(range(_MOST_LOW + 1), key=lambda k: int((folded >> k).sum()) + k * len(folded))
    ones, ends = folded >> low, np.cumsum((folded >> low) + 1 + low) - low - 1
    flags = np.ones(int((ones + 1 + low).sum()), np.uint8)
    flags[ends] = 0
    for k in range(low):
        flags[ends + 1 + k] = folded >> (low - 1 - k) & 1
    return CodedSteps(form | low, first, np.packbits(flags).tobytes())


def get_steps(source: Reader, channels: int) -> tuple[float, ...]:
    """The inverse of :meth:`CodedSteps.put` for so many steps."""
    coded = CodedSteps(source.byte(), source.varint(), source.block("bytes of steps"))
    if channels > 8 * len(coded.bits):
        raise TruncatedFileError(f"a grid of {channels} channels is claimed in {len(coded.bits)} bytes")
    if len(coded.bits) > 2 * channels:  # a bound on what reading takes
        raise CorruptFileError(f"{channels} steps of two bytes take {len(coded.bits)} bytes when coded")
    return read_steps(coded, channels)


def read_steps(coded: CodedSteps, channels: int) -> tuple[float, ...]:
    """The steps of a form. Raises ``CorruptFileError`` for what :func:`coded_steps` never gives."""
    dropped = coded.form >> 4 & 7
    if coded.first > MOST_CODE:
        raise CorruptFileError(f"the steps of a grid start at code {coded.first}")
    folded = _folded(coded, channels)
    differences = np.where(folded & 1, -(folded + 1) >> 1, folded >> 1)
    codes = coded.first + (np.cumsum(differences) if coded.form & _CHAINED else differences)
    wrong = np.flatnonzero((codes < 1) | (codes > MOST_CODE >> dropped))
    if wrong.size:
        raise CorruptFileError(f"step {wrong[0]} of a grid has code {int(codes[wrong[0]]) << dropped}")
    steps: list[float] = (codes << dropped + 16).astype(np.uint32).view(np.float32).tolist()
    return tuple(steps)


def _folded(coded: CodedSteps, channels: int) -> Codes:
    """The Rice codes' numbers: each is some bits 1, a bit 0, and the low bits."""
    low = coded.form & _MOST_LOW
    bits = np.unpackbits(np.frombuffer(coded.bits, np.uint8))
    text, at = bits.tobytes(), 0
    starts, stops = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
    for channel in range(channels):
        end = text.find(0, at)
        if not 0 <= end < len(text) - low:
            raise TruncatedFileError(f"the steps of a grid end before channel {channel} of {channels}")
        starts[channel], stops[channel] = at, end
        at = end + 1 + low
    if len(text) - at > 7 or bits[at:].any():
        raise CorruptFileError("bits follow the last step of a grid")
    folded = stops - starts
    for k in range(low):
        folded = 2 * folded + bits[stops + 1 + k]
    return folded
