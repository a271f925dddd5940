"""Which tensors share weights among their entries, and how many (the hashing trick, Chen et al. 2015)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from laconic.errors import InputError
from laconic.patterns import matching


def check_tied(tied: tuple[str, ...]) -> None:
    """Refuse an entry that is no name with a factor.

    Raises:
        InputError: The entry, and how one is written.
    """
    for entry in tied:
        _parsed(entry)


def buckets_of(
    sizes: Mapping[str, int], tied: tuple[str, ...], index_bits: int, bits_per_weight: float
) -> dict[str, int]:
    """How many weights the entries of each tied tensor share.

    Args:
        sizes: Entries of each tensor by name.
        tied: ``name=factor``: so many entries share one weight; names as :func:`laconic.patterns.matching`
            takes them. Where there is none, every tensor has at most as many weights as leave
            ``bits_per_weight`` for each weight of all tensors.
        index_bits: Bits of all indices.
        bits_per_weight: At least so many bits for each weight; 0: nothing is tied.

    Returns:
        The number of weights by name, of tied tensors alone.

    >>> buckets_of({"a": 100, "b": 10}, ("a=4",), 1000, 0.5)
    {'a': 25}
    >>> buckets_of({"a": 100, "b": 10}, (), 20, 0.5)
    {'a': 30}
    """
    if tied:
        found: dict[str, int] = {}
        for entry in tied:
            pattern, factor = _parsed(entry)
            try:
                names = matching([pattern], sizes, "tensor")
            except InputError as error:
                raise InputError(str(error).replace("keep:", "tied:", 1)) from error
            found |= {name: max(1, math.ceil(sizes[name] / factor)) for name in names}
    else:
        most = largest(sizes.values(), int(index_bits / bits_per_weight)) if bits_per_weight else None
        found = {} if most is None else {name: min(size, most) for name, size in sizes.items()}
    return {name: count for name, count in found.items() if count < sizes[name]}


def largest(sizes: Iterable[int], total: int) -> int | None:
    """To what all sizes are cut so that their sum is at most ``total``; None where it is already.

    >>> largest([100, 10, 50], 70)
    30
    """
    left, rising = total, sorted(sizes)
    for number, size in enumerate(rising):
        share = max(1, left // (len(rising) - number))
        if size > share:
            return share
        left -= size
    return None


def _parsed(entry: str) -> tuple[str, float]:
    name, equals, factor = entry.rpartition("=")
    try:
        number = float(factor)
    except ValueError:
        number = math.nan
    if not equals or not name or not 1 <= number < math.inf:
        raise InputError(
            f"tied: {entry!r} is no tensor with the number of entries that share a weight. "
            "Cure: fc1.weight=64"
        )
    return name, number
