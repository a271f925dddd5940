"""The idx format: two zero bytes, a type, the number of dimensions, big-endian sizes, then the elements."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from laconic.errors import DataError

UNSIGNED_BYTE = 0x08


def read_idx(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """An idx file of unsigned bytes as a read-only array; ``name`` is for the message.

    Raises DataError when the header is not idx, the elements are not bytes, or the length is wrong.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "labels").tolist()
    [7, 9]
    """
    if len(data) < 4 or data[:2] != b"\0\0":
        raise DataError(
            f"{name} is not an idx file: it starts with {data[:4].hex() or 'nothing'}. Cure: an unpacked idx "
            "file (1f8b begins one that gzip packed: gunzip it)"
        )
    if data[2] != UNSIGNED_BYTE:
        raise DataError(
            f"{name} holds elements of idx type 0x{data[2]:02x}; only unsigned bytes are read. Cure: a file "
            "of type 0x08"
        )
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(
            f"{name} ends inside its header: {len(data)} bytes, {start} needed. Cure: download the file "
            "again, as a whole"
        )
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    if len(data) - start != math.prod(shape):
        raise DataError(
            f"{name} says {shape}, {math.prod(shape)} bytes, but {len(data) - start} follow its header. "
            "Cure: download the file again, as a whole"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
