"""Activation ranges in the graph section: how values become int8 (FORMAT.md, "Activation ranges").

They are the optional end of the section: a graph without ranges stores no byte for them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from laconic.errors import CorruptFileError, InputError, uncured
from laconic.varint import Field, Reader

if TYPE_CHECKING:
    from laconic.records import ActivationRange

_ENTRY_BYTES = 6  # at least one of the distance, four of the scale, one of the zero point


def range_fields(ranges: Sequence[ActivationRange], n_values: int) -> list[Field]:
    """The ranges' number, then distance to the value before, scale and zero point of each.

    Raises ``InputError`` for a range of a value that the graph does not have, or out of order.
    """
    if not ranges:
        return []
    fields: list[Field] = [len(ranges)]
    last = -1
    for entry in ranges:
        if not last < entry.value < n_values:
            raise InputError(
                f"the activation range of value {entry.value} follows that of {last} in a graph of "
                f"{n_values} values. Cure: calibrate the network that is saved"
            )
        fields += [entry.value - last - 1, struct.pack("<fb", entry.scale, entry.zero_point)]
        last = entry.value
    return fields


def get_ranges(source: Reader, n_values: int) -> tuple[ActivationRange, ...]:
    """The inverse of :func:`range_fields`, to the end of the section.

    Raises ``CorruptFileError`` for a value that does not exist, a scale that is not in 2^-64 .. 2^64 (NaN
    and negative ones included), and bytes that follow.
    """
    if not source.left:
        return ()
    count = source.varint()
    if count == 0 or count * _ENTRY_BYTES > source.left:
        raise CorruptFileError(
            f"graph section: {source.left} bytes follow its end, which are no {count} activation ranges"
        )
    from laconic.records import ActivationRange

    ranges, last = [], -1
    for _ in range(count):
        last += 1 + source.varint()
        if last >= n_values:
            raise CorruptFileError(f"graph section: an activation range is of value {last} of {n_values}")
        scale, zero_point = struct.unpack("<fb", source.raw(5))
        try:
            ranges.append(ActivationRange(last, scale, zero_point))
        except InputError as error:
            raise CorruptFileError(f"graph section: {uncured(error)}") from error
    if source.left:
        raise CorruptFileError(f"graph section: {source.left} bytes follow its end")
    return tuple(ranges)
