"""Whether inputs have element types that their operation takes (column ``takes`` of the table)."""

from __future__ import annotations

from collections.abc import Sequence

from laconic.errors import CorruptFileError
from laconic.records import Node
from laconic.runtime.ops.row import Takes

_INDICES = ("int64", "int32")
_REAL = ("float32", "float16")


def check_element_types(node: Node, takes: Takes, kinds: Sequence[str | None]) -> None:
    """Refuse inputs of element types that the operation does not take (``takes``); None for an absent one.

    Raises ``CorruptFileError`` naming the input, its type and what it must be.

    >>> check_element_types(Node("take", (0, 1)), Takes(places=1), ["float32", "float32"])
    Traceback (most recent call last):
    laconic.errors.CorruptFileError: input 1 holds float32, it must hold int64 or int32
    """
    if takes.places is not None:
        _require(kinds, takes.places, _INDICES)
    for k in range(takes.bools):
        _require(kinds, k, ("bool",))
    if takes.first == "reals":
        _require(kinds, 0, _REAL)
    elif takes.first == "numbers" and kinds[0] == "bool":
        raise CorruptFileError("input 0 holds bool, it must hold numbers")
    _alike(kinds, range(len(kinds)) if takes.alike is None else takes.alike)
    if takes.scalar and len(kinds) == 1 and node.attrs.get("scalar") is not None:
        _require(kinds, 0, ("float32",))


def _require(kinds: Sequence[str | None], at: int, allowed: Sequence[str]) -> None:
    kind = kinds[at] if at < len(kinds) else None
    if kind is not None and kind not in allowed:
        raise CorruptFileError(f"input {at} holds {kind}, it must hold {' or '.join(allowed)}")


def _alike(kinds: Sequence[str | None], places: Sequence[int]) -> None:
    """All that are there have the type of the first that is."""
    there = [(k, kinds[k]) for k in places if k < len(kinds) and kinds[k] is not None]
    for k, kind in there[1:]:
        if kind != there[0][1]:
            raise CorruptFileError(
                f"input {k} holds {kind}, it must hold {there[0][1]} as input {there[0][0]} does"
            )
