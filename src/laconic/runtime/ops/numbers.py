"""Whole numbers computed from sizes: what ``size`` reads, arithmetic on it, and shapes given by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import GIVEN, SIZED, flag_of, int_of, ints_of
from laconic.records import Node
from laconic.runtime.ops.shape_rules import Given, axis_at, present, require

NO_NUMBERS: Mapping[int, int] = MappingProxyType({})

COUNT = "count"
"""The attribute that an ``arange`` has once its number is known."""

_MOST = 2**62

ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floor_divide": lambda a, b: a // max(b, 1),
    "remainder": lambda a, b: a % max(b, 1),
    "maximum": max,
    "minimum": min,
}


def number_of(node: Node, given: Given, known: Mapping[int, int]) -> int | None:
    """The node's value where it is one whole number made of sizes.

    Raises ``CorruptFileError`` for a number that overflows 64 bits.

    >>> number_of(Node("mul", (0, -1)), ((), ()), {0: 3, -1: 5})
    15
    """
    if node.op == "size":
        x = present(given, 0)
        return x[axis_at(int_of(node, "axis"), len(x))]
    if node.op != "identity" and (node.op not in ARITHMETIC or len(node.inputs) != 2):
        return None
    parts = [known.get(ref) for ref in node.inputs if ref is not None]
    if node.op == "identity":
        return parts[0]
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        return None
    left, right = parts[::-1] if node.op in ("add", "sub", "mul") and flag_of(node, "reverse") else parts
    found = ARITHMETIC[node.op](left or 0, right or 0)
    require(-_MOST < found < _MOST, f"the number {found} cannot be counted in 64 bits")
    return found


def with_sizes(node: Node, known: Mapping[int, int]) -> Node:
    """The node with the sizes among its inputs as attributes.

    Raises ``CorruptFileError`` for a size that is not computed from sizes.

    >>> with_sizes(Node("reshape", (0, 1), {"shape": (-2, 4)}), {1: 3}).attrs["shape"]
    (3, 4)
    """
    if node.op == "arange":
        return replace(node, attrs={**node.attrs, COUNT: _number(node.inputs[0], known)})
    if node.op not in SIZED or len(node.inputs) == 1:
        return node
    given = [None if ref is None else _number(ref, known) for ref in node.inputs[1:]]
    if node.op == "slice":
        ends = zip(("start", "end"), given, strict=False)
        sizes = {key: number for key, number in ends if number is not None}
        return replace(node, attrs={**node.attrs, **sizes})
    name = "size" if node.op == "resize" else "shape"
    shape, numbers = ints_of(node, name), [number for number in given if number is not None]
    fits = len(numbers) == len(given) == shape.count(GIVEN)
    require(fits, f"the {name} {shape} is given {len(numbers)} sizes")
    # a computed number may be -1 or GIVEN; it must not be taken for these special values of a shape
    require(min(numbers, default=0) >= 0, f"a size of {min(numbers, default=0)} was computed")
    rest = iter(numbers)
    return replace(node, attrs={**node.attrs, name: tuple(next(rest) if n == GIVEN else n for n in shape)})


def _number(ref: int | None, known: Mapping[int, int]) -> int:
    number = None if ref is None else known.get(ref)
    if number is None:
        raise CorruptFileError("a size is not computed from the inputs' sizes")
    return number
