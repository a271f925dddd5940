"""Shape rules of arithmetic: element by element, products, reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from laconic.pack.graph.ops import OPS, attr, flag_of, int_of, ints_of, text_of
from laconic.records import Node
from laconic.runtime.ops.shape_rules.common import (
    Given,
    Rule,
    Shape,
    axes_at,
    axis_at,
    broadcast,
    filled,
    present,
    require,
)


def same(node: Node, given: Given) -> tuple[Shape, ...]:
    """One value in, the same shape out."""
    return (present(given, 0),)


def _binary(node: Node, given: Given) -> tuple[Shape, ...]:
    x = present(given, 0)
    if len(given) == 1:
        require(attr(node, "scalar") is not None, "it has neither a second value nor a scalar")
        return (x,)
    return (broadcast(x, present(given, 1)),)


def _where(node: Node, given: Given) -> tuple[Shape, ...]:
    return (broadcast(*(present(given, k) for k in range(3))),)


def _on_axis(node: Node, given: Given) -> tuple[Shape, ...]:
    x = present(given, 0)
    axis_at(int_of(node, "axis"), len(x))
    return (x,)


def _without(x: Shape, axes: Sequence[int], keep: bool) -> Shape:
    if keep:
        return tuple(1 if k in axes else size for k, size in enumerate(x))
    return tuple(size for k, size in enumerate(x) if k not in axes)


def _reduce(node: Node, given: Given) -> tuple[Shape, ...]:
    x = filled(present(given, 0))
    dims = ints_of(node, "dims")
    axes = axes_at(dims, len(x)) if dims else tuple(range(len(x)))
    return (_without(x, axes, flag_of(node, "keepdim")),)


def _arg(node: Node, given: Given) -> tuple[Shape, ...]:
    x = filled(present(given, 0))
    return (_without(x, (axis_at(int_of(node, "axis"), len(x)),), flag_of(node, "keepdim")),)


def product(a: Shape, b: Shape) -> Shape:
    """The shape of a matrix product, NumPy's rule.

    >>> product((5, 1, 2, 3), (4, 3, 6)), product((3,), (3, 2))
    ((5, 4, 2, 6), (2,))
    """
    require(len(a) > 0 and len(b) > 0, "a product needs at least one dimension")
    inner = b[-2] if len(b) > 1 else b[0]
    require(a[-1] == inner, f"shapes {a} and {b} do not multiply")
    rows = a[-2:-1]
    columns = b[-1:] if len(b) > 1 else ()
    return (*broadcast(a[:-2], b[:-2]), *rows, *columns)


def _matmul(node: Node, given: Given) -> tuple[Shape, ...]:
    return (product(filled(present(given, 0)), filled(present(given, 1))),)


class Contraction(NamedTuple):
    """An einsum: the output's shape, the largest value on the way, and its multiply-accumulates."""

    output: Shape
    largest: int
    work: int


def contraction(node: Node, given: Given) -> Contraction:
    """Operands join from the left; a letter stays until neither the output nor a later operand has it."""
    shapes = [filled(present(given, k)) for k in range(len(given))]
    left, arrow, right = text_of(node, "equation").replace(" ", "").partition("->")
    terms = left.split(",")
    require(len(terms) == len(shapes), f"{len(terms)} terms name {len(shapes)} operands")
    sizes: dict[str, int] = {}
    dots = 0
    named = []
    for term, shape in zip(terms, shapes, strict=True):
        letters, rest = _letters(term, len(shape))
        dots = max(dots, rest)
        named.append(letters)
        for letter, size in zip(letters, shape, strict=True):
            known = sizes.get(letter, 1)
            require(1 in (known, size) or known == size, f"letter {letter!r} stands for {known} and {size}")
            sizes[letter] = max(known, size)
    ellipsis = [f".{k}" for k in reversed(range(dots))]
    if arrow:
        head, found, tail = right.partition("...")
        out = [*head, *(ellipsis if found else ()), *tail]
    else:
        every = [letter for letters in named for letter in letters]
        out = [*ellipsis, *sorted({x for x in every if every.count(x) == 1 and x[0] != "."})]
    require(set(out) <= set(sizes) and len(set(out)) == len(out), f"the output {right!r} does not follow")
    largest = work = 0
    last = {letter: k for k, letters in enumerate(named) for letter in letters}
    last.update(dict.fromkeys(out, len(named)))
    held: set[str] = set()
    for k, letters in enumerate(named):
        joined = held | set(letters)
        work += _extent(joined, sizes)
        held = {letter for letter in joined if last[letter] > k}
        largest = max(largest, _extent(held, sizes))
    return Contraction(tuple(sizes[letter] for letter in out), largest, work)


def _extent(letters: set[str], sizes: dict[str, int]) -> int:
    found = 1
    for letter in letters:
        found *= sizes[letter]
    return found


def _letters(term: str, rank: int) -> tuple[list[str], int]:
    """A term's letters, an ellipsis being .0, .1, ... from the right; and how many of those there are."""
    head, found, tail = term.partition("...")
    rest = rank - len(head) - len(tail)
    require(rest == 0 or (found != "" and rest > 0), f"term {term!r} does not name {rank} dimensions")
    return [*head, *(f".{k}" for k in reversed(range(rest))), *tail], rest


def _einsum(node: Node, given: Given) -> tuple[Shape, ...]:
    return (contraction(node, given).output,)


_REDUCTIONS = ("mean", "sum", "amax", "amin", "prod", "logsumexp")
_BY_AXIS = ("softmax", "log_softmax", "cumsum")

ARITHMETIC_RULES: dict[str, Rule] = {
    **{spec.name: same for spec in OPS if 64 <= spec.code < 96},
    "atan": same,
    **{spec.name: _binary for spec in OPS if 96 <= spec.code < 111},
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_BY_AXIS, _on_axis),
    "argmax": _arg,
    "argmin": _arg,
    "where": _where,
    "matmul": _matmul,
    "einsum": _einsum,
}
