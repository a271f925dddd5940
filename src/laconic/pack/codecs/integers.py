"""The symbols of one integer tensor, and the checksum of its integers (FORMAT.md, "Symbol stream")."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from laconic.errors import CorruptFileError
from laconic.pack.codecs import order0
from laconic.pack.codecs.adaptive import Entries, code_matrix
from laconic.pack.codecs.layouts import Trail, geometries, matrix_shape
from laconic.pack.codecs.settings import Mix, Settings
from laconic.pack.codecs.symbols import Coder, Counts, StreamReader
from laconic.records import AnyArray, IntArray

if TYPE_CHECKING:
    from laconic.pack.file.choose import Plan
    from laconic.pack.wire.headers import Header

CHECKSUM_MASK = 2**31 - 1


def checksum(integers: IntArray, lowest: int, highest: int, before: int) -> int:
    """CRC-32 of the integers as the narrowest of int8, int16 and int32, continuing ``before``."""
    width = 1 if lowest >= -(2**7) and highest < 2**7 else 2 if lowest >= -(2**15) and highest < 2**15 else 4
    narrow: AnyArray = np.ascontiguousarray(integers.reshape(-1), dtype=f"<i{width}")
    return zlib.crc32(narrow.data, before)


def encode_integers(coder: Coder, plan: Plan, trail: Trail) -> None:
    """Encode a tensor's integers under the header of its plan."""
    header = plan.header
    if isinstance(header.model, Settings | Mix):
        levels = plan.integers.reshape(matrix_shape(header.shape)).astype(np.int64) - header.model.background
        _code(coder, header.model, header, trail, levels)
    elif plan.symbols is not None:
        order0.write(coder, header.model, plan.integers, plan.symbols)


def _code(coder: Coder, model: Settings | Mix, header: Header, trail: Trail, known: Counts | None) -> Entries:
    """Code or decode a matrix under the header's geometry."""
    shape = matrix_shape(header.shape)
    geometry, hint = geometries(header.shape, trail.rows)[header.geometry], trail.hint(shape[1])
    if isinstance(model, Mix):
        from laconic.pack.codecs.mixed import code_mixed  # not every file holds one

        return code_mixed(coder, shape, model, geometry, hint, known)
    return code_matrix(coder, shape, model, geometry, hint, known)


def decode_integers(stream: StreamReader, header: Header, trail: Trail) -> IntArray:
    """The integers that :func:`encode_integers` wrote under this header.

    Raises ``CorruptFileError`` for integers that leave 32 bits or the dictionary, ``LimitError`` for more
    entries than the stream can hold.
    """
    if isinstance(header.model, Settings | Mix):
        shape, background = matrix_shape(header.shape), header.model.background
        found = _code(stream, header.model, header, trail, None)
        values = found.values + background
        if values.size and not -(2**31) <= int(values.min()) <= int(values.max()) < 2**31:
            raise CorruptFileError("a coded integer does not fit 32 bits")
        integers = np.full(shape, background, np.int32) if background else np.zeros(shape, np.int32)
        integers[found.rows, found.columns] = values
    else:
        integers = order0.read(stream, header.model, math.prod(header.shape), stream.left_bits())
    if header.dictionary:
        words = np.array(header.dictionary, np.int64)
        if integers.size and not 0 <= int(integers.min()) <= int(integers.max()) < len(words):
            raise CorruptFileError(f"an index leaves a dictionary of {len(words)} values")
        integers = words[integers].astype(np.int32)
    return integers.reshape(header.shape)
