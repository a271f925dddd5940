"""Operations of arithmetic: entry by entry, products, reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from laconic.pack.graph.ops import attr, flag_of, float_of, int_of, ints_of, text_of
from laconic.records import Node
from laconic.runtime.ops.row import (
    Emitter,
    Op,
    Takes,
    booleans,
    listed_axes,
    places,
    plain,
    rank_of_first,
    type_of_first,
    type_of_second,
    wrong_type,
)
from laconic.runtime.ops.shape_rules import (
    Given,
    Shape,
    axes_at,
    axis_at,
    broadcast,
    filled,
    present,
    require,
)

if TYPE_CHECKING:
    from laconic.runtime.onnx_model.builder import Builder


def _unary_form(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        return (b.op(kind, x[0]),)

    return emit


def _operands(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, str]:
    """Two values, or a value and the node's float32 scalar, in the order that ``reverse`` asks for."""
    other = x[1] if len(x) > 1 else b.scalar(float_of(node, "scalar"))
    return (other, x[0]) if flag_of(node, "reverse") else (x[0], other)


def _binary_form(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        return (b.op(kind, *_operands(b, node, x)),)

    return emit


def _ne_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Not", b.op("Equal", *_operands(b, node, x))),)


def _where_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Where", *x),)


def _reduce_form(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        dims = ints_of(node, "dims")  # no dims: over everything
        axes = b.ints(dims) if dims else ""
        return (b.op(kind, x[0], axes, keepdims=int(flag_of(node, "keepdim"))),)

    return emit


def _arg_form(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        return (b.op(kind, x[0], axis=int_of(node, "axis"), keepdims=int(flag_of(node, "keepdim"))),)

    return emit


def _on_axis_form(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        return (b.op(kind, x[0], axis=int_of(node, "axis")),)

    return emit


def _silu_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Mul", x[0], b.op("Sigmoid", x[0])),)


def _hardsigmoid_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """relu6(x + 3) / 6; ONNX' default slope is 0.2, so 1 / 6 is given."""
    return (b.op("HardSigmoid", x[0], alpha=1.0 / 6.0, beta=0.5),)


def _gelu_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Gelu", x[0], approximate="tanh" if flag_of(node, "tanh") else "none"),)


def _elu_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Elu", x[0], alpha=float_of(node, "alpha")),)


def _leaky_relu_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("LeakyRelu", x[0], alpha=float_of(node, "slope")),)


def _softplus_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """log(1 + exp(beta x)) / beta."""
    beta = float_of(node, "beta")
    if beta == 1.0:
        return (b.op("Softplus", x[0]),)
    return (b.op("Div", b.op("Softplus", b.op("Mul", x[0], b.scalar(beta))), b.scalar(beta)),)


def _clamp_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    low = "" if attr(node, "low") is None else b.scalar(float_of(node, "low"))
    high = "" if attr(node, "high") is None else b.scalar(float_of(node, "high"))
    return (b.op("Clip", x[0], low, high),)


def _cumsum_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("CumSum", x[0], b.ints((int_of(node, "axis"),))),)


def _matmul_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("MatMul", x[0], x[1]),)


def _einsum_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Einsum", *x, equation=text_of(node, "equation")),)


def same(node: Node, given: Given) -> tuple[Shape, ...]:
    """One value in, the same shape out."""
    return (present(given, 0),)


def _binary_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x = present(given, 0)
    if len(given) == 1:
        require(attr(node, "scalar") is not None, "it has neither a second value nor a scalar")
        return (x,)
    return (broadcast(x, present(given, 1)),)


def _where_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    return (broadcast(*(present(given, k) for k in range(3))),)


def _on_axis_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x = present(given, 0)
    axis_at(int_of(node, "axis"), len(x))
    return (x,)


def _without(x: Shape, axes: Sequence[int], keep: bool) -> Shape:
    if keep:
        return tuple(1 if k in axes else size for k, size in enumerate(x))
    return tuple(size for k, size in enumerate(x) if k not in axes)


def _reduce_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x = filled(present(given, 0))
    dims = ints_of(node, "dims")
    axes = axes_at(dims, len(x)) if dims else tuple(range(len(x)))
    return (_without(x, axes, flag_of(node, "keepdim")),)


def _arg_shape(node: Node, given: Given) -> tuple[Shape, ...]:
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


def _matmul_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    return (product(filled(present(given, 0)), filled(present(given, 1))),)


class Contraction(NamedTuple):
    """An einsum: the output's shape, the largest intermediate value, and its multiply-accumulates."""

    output: Shape
    largest: int
    work: int


def contraction(node: Node, given: Given) -> Contraction:
    """Contracts operands from the left; a letter stays while the output or a later operand has it."""
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


def _einsum_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    return (contraction(node, given).output,)


REALS, NUMBERS = Takes("reals"), Takes("numbers")


def _quotient(node: Node, inputs: Sequence[str]) -> tuple[str, ...]:
    """Of floats alone: PyTorch's is float32 of integers, and the runtime's ends the process at -2^63 / -1."""
    if any(kind in ("int64", "int32", "uint8", "int8") for kind in inputs):
        raise wrong_type(node, "on {kinds} needs a cast to float32 before it", inputs)
    return type_of_first(node, inputs)


def _rank_of_sum(node: Node, given: Sequence[int | None]) -> int | None:
    ranks = [rank for rank in given if rank is not None]
    return max(ranks) if ranks and len(ranks) == len(given) else None


def _rank_reduced(node: Node, given: Sequence[int | None]) -> int | None:
    first = rank_of_first(node, given)
    if first is None or flag_of(node, "keepdim"):
        return first
    return first - (listed_axes(node, "dims") or first)


def pointwise(form: Emitter, takes: Takes = REALS) -> Op:
    """Entry i of the result needs entry i of the input only."""
    return plain(form, same, takes, "pointwise")


def _pair(form: Emitter, takes: Takes) -> Op:
    return plain(form, _binary_shape, takes._replace(alike=None, scalar=True), "pointwise")


def _compared(form: Emitter, takes: Takes) -> Op:
    return _pair(form, takes)._replace(result=booleans)


def _reduced(form: Emitter, takes: Takes) -> Op:
    return plain(form, _reduce_shape, takes, "reduction")


def _searched(form: Emitter) -> Op:
    return plain(form, _arg_shape, NUMBERS, "reduction")._replace(result=places)


_LOGICAL = Takes(bools=2)

ROWS: dict[str, Op] = {
    "relu": pointwise(_unary_form("Relu"), NUMBERS)._replace(
        rank=rank_of_first, int8="move", folds="activation", channels="kept"
    ),
    "sigmoid": pointwise(_unary_form("Sigmoid")),
    "tanh": pointwise(_unary_form("Tanh")),
    "silu": pointwise(_silu_form),
    "selu": pointwise(_unary_form("Selu")),
    "hardswish": pointwise(_unary_form("HardSwish")),
    "hardsigmoid": pointwise(_hardsigmoid_form),
    "mish": pointwise(_unary_form("Mish")),
    "softsign": pointwise(_unary_form("Softsign")),
    "exp": pointwise(_unary_form("Exp")),
    "log": pointwise(_unary_form("Log")),
    "sqrt": pointwise(_unary_form("Sqrt")),
    "abs": pointwise(_unary_form("Abs"), NUMBERS),
    "neg": pointwise(_unary_form("Neg"), NUMBERS),
    "erf": pointwise(_unary_form("Erf")),
    "sin": pointwise(_unary_form("Sin")),
    "cos": pointwise(_unary_form("Cos")),
    "atan": pointwise(_unary_form("Atan")),
    "reciprocal": pointwise(_unary_form("Reciprocal")),
    "floor": pointwise(_unary_form("Floor")),
    "ceil": pointwise(_unary_form("Ceil")),
    "round": pointwise(_unary_form("Round")),
    "sign": pointwise(_unary_form("Sign"), NUMBERS),
    "logical_not": pointwise(_unary_form("Not"), _LOGICAL)._replace(result=booleans),
    "gelu": pointwise(_gelu_form),
    "elu": pointwise(_elu_form),
    "leaky_relu": pointwise(_leaky_relu_form),
    "softplus": pointwise(_softplus_form),
    "clamp": pointwise(_clamp_form, Takes())._replace(rank=rank_of_first, folds="activation"),
    "softmax": plain(_on_axis_form("Softmax"), _on_axis_shape, REALS, "softmax"),
    "log_softmax": plain(_on_axis_form("LogSoftmax"), _on_axis_shape, REALS, "softmax"),
    "cumsum": plain(_cumsum_form, _on_axis_shape, NUMBERS, "reduction"),
    "add": _pair(_binary_form("Add"), NUMBERS)._replace(rank=_rank_of_sum, int8="join", channels="added"),
    "sub": _pair(_binary_form("Sub"), NUMBERS),
    "mul": _pair(_binary_form("Mul"), NUMBERS),
    "div": _pair(_binary_form("Div"), NUMBERS)._replace(result=_quotient),
    "pow": plain(_binary_form("Pow"), _binary_shape, Takes(), "pointwise"),
    "minimum": _pair(_binary_form("Min"), NUMBERS),
    "maximum": _pair(_binary_form("Max"), NUMBERS),
    "eq": _compared(_binary_form("Equal"), Takes()),
    "ne": _compared(_ne_form, Takes()),
    "lt": _compared(_binary_form("Less"), NUMBERS),
    "le": _compared(_binary_form("LessOrEqual"), NUMBERS),
    "gt": _compared(_binary_form("Greater"), NUMBERS),
    "ge": _compared(_binary_form("GreaterOrEqual"), NUMBERS),
    "logical_and": _compared(_binary_form("And"), _LOGICAL),
    "logical_or": _compared(_binary_form("Or"), _LOGICAL),
    "mean": _reduced(_reduce_form("ReduceMean"), NUMBERS)._replace(
        rank=_rank_reduced, int8="average", channels="averaged"
    ),
    "sum": _reduced(_reduce_form("ReduceSum"), NUMBERS),
    "amax": _reduced(_reduce_form("ReduceMax"), Takes())._replace(rank=_rank_reduced, int8="move"),
    "amin": _reduced(_reduce_form("ReduceMin"), Takes()),
    "prod": _reduced(_reduce_form("ReduceProd"), NUMBERS),
    "logsumexp": _reduced(_reduce_form("ReduceLogSumExp"), Takes())._replace(cost="log_sum"),
    "argmax": _searched(_arg_form("ArgMax")),
    "argmin": _searched(_arg_form("ArgMin")),
    "where": plain(_where_form, _where_shape, Takes(bools=1, alike=(1, 2)), "pointwise")._replace(
        result=type_of_second
    ),
    "matmul": plain(_matmul_form, _matmul_shape, Takes("numbers", alike=(0, 1)), "matmul"),
    "einsum": plain(_einsum_form, _einsum_shape, Takes("numbers", alike=None), "einsum"),
}
