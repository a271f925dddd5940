"""The closed table of graph operations: codes, attributes, defaults, and default inputs.

This table is part of the file format (FORMAT.md, "Graph section"): a code is never reused and a
default never changes, new operations are appended. What an operation *computes* is PyTorch's
function of the same name in float32; the runtime has one emitter function per row.

Default inputs are written as one letter per input: ``x`` the previous value, ``t`` the next
tensor of the file, ``-`` an absent optional input.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from laconic.errors import InputError
from laconic.records import Attr, Node

Kind = Literal["int", "flag", "float", "ints", "choice", "text"]

SLICE_END = 2**63 - 1
"""``slice``'s default end: the end of the axis."""


class AttrSpec(NamedTuple):
    """One attribute: its kind decides its bytes; ``default`` None means "absent unless given"."""

    name: str
    kind: Kind
    default: Attr | None = None
    choices: tuple[str, ...] = ()
    least: int = -(2**63)
    most: int = 2**63 - 1


class OpSpec(NamedTuple):
    """One row of the table. ``least``/``most`` bound the number of inputs (``most`` None: no bound)."""

    code: int
    name: str
    pattern: str
    least: int
    most: int | None
    attrs: tuple[AttrSpec, ...] = ()
    n_outputs: int = 1

    def default_of(self, attr: str) -> Attr | None:
        """The default value of an attribute."""
        for spec in self.attrs:
            if spec.name == attr:
                return spec.default
        raise InputError(f"operation {self.name!r} has no attribute {attr!r}. Cure: leave it out")


def _int(name: str, default: int, least: int = -(2**63), most: int = 2**63 - 1) -> AttrSpec:
    return AttrSpec(name, "int", default, (), least, most)


def _ints(name: str, *default: int) -> AttrSpec:
    return AttrSpec(name, "ints", default)


def _flag(name: str) -> AttrSpec:
    return AttrSpec(name, "flag", False)


def _float(name: str, default: float | None = None) -> AttrSpec:
    return AttrSpec(name, "float", default)


def _choice(name: str, *choices: str) -> AttrSpec:
    return AttrSpec(name, "choice", choices[0], choices)


def _op(
    code: int, name: str, pattern: str, least: int, most: int | None, *attrs: AttrSpec, n_outputs: int = 1
) -> OpSpec:
    return OpSpec(code, name, pattern, least, most, attrs, n_outputs)


EPS = 9.999999747378752e-06  # float32(1e-5), PyTorch's default in every normalisation
SLOPE = 0.009999999776482582  # float32(0.01), leaky_relu's default
MAX_RANK = 16
MAX_INTS = 2 * MAX_RANK
_GROUPS = _int("groups", 1, 1, 2**20)
_CONV = (_ints("stride", 1), _ints("padding", 0), _ints("dilation", 1), _GROUPS)
_POOL = (
    _ints("kernel", 2),
    _ints("stride"),
    _ints("padding", 0),
    _flag("ceil"),
    _int("rank", 2, 1, MAX_RANK),
)
_RNN = (_int("layers", 1, 1, 4096), _flag("bidirectional"), _flag("time_major"), _flag("no_bias"))
_SCALAR = (_float("scalar"), _flag("reverse"))
PAD_MODES = ("constant", "reflect", "edge", "wrap")
RESIZE_MODES = ("nearest", "linear", "cubic")
GRID_MODES = ("linear", "nearest", "cubic")
GRID_PADS = ("zeros", "border", "reflection")
SCATTER_KINDS = ("none", "add", "mul", "max", "min")
DTYPES = ("float32", "int64", "bool", "int32", "uint8", "float16")


_LAYERS = (
    _op(1, "linear", "xtt", 2, 3),
    _op(2, "conv", "xtt", 2, 3, *_CONV),
    _op(3, "conv_transpose", "xtt", 2, 3, *_CONV, _ints("output_padding", 0)),
    _op(4, "batch_norm", "xtttt", 5, 5, _float("eps", EPS)),
    _op(5, "layer_norm", "xtt", 1, 3, _int("dims", 1, 1, MAX_RANK), _float("eps", EPS)),
    _op(6, "group_norm", "xtt", 1, 3, _GROUPS, _float("eps", EPS), _int("rank", 4, 2, MAX_RANK)),
    _op(7, "max_pool", "x", 1, 1, *_POOL, _ints("dilation", 1)),
    _op(8, "avg_pool", "x", 1, 1, *_POOL, _flag("exclude_pad")),
    _op(9, "global_avg_pool", "x", 1, 1),
    _op(10, "global_max_pool", "x", 1, 1),
    _op(11, "embedding", "xt", 2, 2),
    _op(12, "lstm", "x--tttt", 5, None, *_RNN, _flag("projected"), n_outputs=3),
    _op(13, "gru", "x-tttt", 4, None, *_RNN, n_outputs=2),
    _op(14, "rnn", "x-tttt", 4, None, *_RNN, _flag("relu"), n_outputs=2),
    _op(15, "sdpa", "xxx", 3, 4, _flag("causal"), _float("scale"), _int("rank", 4, 2, MAX_RANK)),
    _op(16, "prelu", "xt", 2, 2, _int("rank", 4, 0, MAX_RANK)),
)

_SHAPES = (
    _op(17, "flatten", "x", 1, 1, _int("axis", 1)),
    _op(18, "reshape", "x", 1, 1 + MAX_RANK, _ints("shape", -1)),
    _op(19, "permute", "x", 1, 1, _ints("perm", 0, 2, 1)),
    _op(20, "unsqueeze", "x", 1, 1, _ints("dims", 1)),
    _op(21, "squeeze", "x", 1, 1, _ints("dims", -1)),
    _op(22, "slice", "x", 1, 3, _int("axis", 1), _int("start", 0), _int("end", SLICE_END), _int("step", 1)),
    _op(23, "select", "x", 1, 1, _int("axis", 1), _int("index", 0)),
    _op(24, "concat", "xx", 1, None, _int("axis", 1)),
    _op(25, "stack", "xx", 1, None, _int("axis", 1)),
    _op(26, "expand", "x", 1, 1 + MAX_RANK, _ints("shape", -1)),
    _op(27, "tile", "x", 1, 1, _ints("repeats", 1)),
    _op(28, "pad", "x", 1, 1, _ints("pads", 1, 1, 1, 1), _choice("mode", *PAD_MODES), _float("value", 0.0)),
    _op(29, "cast", "x", 1, 1, _choice("to", *DTYPES)),
    _op(30, "take", "xt", 2, 2, _int("axis", 0)),
    _op(31, "gather", "xt", 2, 2, _int("axis", 1)),
    _op(32, "resize", "x", 1, 1 + MAX_RANK, _ints("size", 1), _choice("mode", *RESIZE_MODES), _flag("align")),
    _op(33, "pixel_shuffle", "x", 1, 1, _int("factor", 2)),
    _op(34, "matmul", "xx", 2, 2),
    _op(35, "einsum", "xx", 1, None, AttrSpec("equation", "text", "")),
    _op(36, "where", "xxx", 3, 3),
    _op(37, "identity", "x", 1, 1),
    _op(38, "cumsum", "x", 1, 1, _int("axis", -1)),
)

SIZED = ("reshape", "expand", "slice", "resize")
"""Operations whose inputs after the first are sizes: int64 scalars that are known at run time."""

GIVEN = -2
"""An entry of a shape that is replaced by the next size among the inputs."""

_SIZES = (
    _op(39, "size", "x", 1, 1, _int("axis", 1)),
    _op(40, "arange", "x", 1, 1),
    _op(41, "floor_divide", "xt", 2, 2),
    _op(42, "remainder", "xt", 2, 2),
)
_GRID_MODE, _GRID_PADDING = _choice("mode", *GRID_MODES), _choice("padding", *GRID_PADS)
_SEARCHES = (
    _op(49, "topk", "x", 1, 1, _int("k", 1, 1), _int("axis", -1), _flag("smallest"), n_outputs=2),
    _op(50, "grid_sample", "xx", 2, 2, _GRID_MODE, _GRID_PADDING, _flag("align")),
    _op(51, "scatter", "xxx", 3, 3, _int("axis", 1), _choice("reduce", *SCATTER_KINDS)),
    _op(
        52, "fold", "x", 1, 1, _ints("size", 1, 1), _ints("kernel", 1, 1), _ints("dilation", 1, 1),
        _ints("padding", 0, 0), _ints("stride", 1, 1),
    ),
    _op(53, "atan", "x", 1, 1),
)  # fmt: skip

# fmt: off
_PLAIN = (  # codes 64-86
    "relu", "sigmoid", "tanh", "silu", "selu", "hardswish", "hardsigmoid", "mish", "softsign",
    "exp", "log", "sqrt", "abs", "neg", "erf", "sin", "cos",
    "reciprocal", "floor", "ceil", "round", "sign", "logical_not",
)
_BINARY = (  # codes 96-110
    "add", "sub", "mul", "div", "pow", "minimum", "maximum",
    "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or",
)
# fmt: on
_REDUCTIONS = ("mean", "sum", "amax", "amin", "prod", "logsumexp")  # codes 112-117

_ACTIVATIONS = (
    _op(87, "gelu", "x", 1, 1, _flag("tanh")),
    _op(88, "elu", "x", 1, 1, _float("alpha", 1.0)),
    _op(89, "leaky_relu", "x", 1, 1, _float("slope", SLOPE)),
    _op(90, "softplus", "x", 1, 1, _float("beta", 1.0)),
    _op(91, "softmax", "x", 1, 1, _int("axis", -1)),
    _op(92, "log_softmax", "x", 1, 1, _int("axis", -1)),
    _op(93, "clamp", "x", 1, 1, _float("low"), _float("high")),
)

OPS: tuple[OpSpec, ...] = (
    *_LAYERS,
    *_SHAPES,
    *_SIZES,
    *_SEARCHES,
    *(_op(64 + k, name, "x", 1, 1) for k, name in enumerate(_PLAIN)),
    *_ACTIVATIONS,
    *(_op(96 + k, name, "xt", 1, 2, *_SCALAR) for k, name in enumerate(_BINARY)),
    *(
        _op(112 + k, name, "x", 1, 1, _ints("dims", -1), _flag("keepdim"))
        for k, name in enumerate(_REDUCTIONS)
    ),
    _op(118, "argmax", "x", 1, 1, _int("axis", -1), _flag("keepdim")),
    _op(119, "argmin", "x", 1, 1, _int("axis", -1), _flag("keepdim")),
)
BY_NAME: dict[str, OpSpec] = {spec.name: spec for spec in OPS}
BY_CODE: dict[int, OpSpec] = {spec.code: spec for spec in OPS}


def spec_of(op: str) -> OpSpec:
    """The table's row for an operation's name.

    >>> spec_of("conv").code
    2
    """
    try:
        return BY_NAME[op]
    except KeyError:
        raise InputError(
            f"no operation is called {op!r}. Cure: a name of the closed table laconic.pack.graph.ops.OPS"
        ) from None


def make_node(op: str, inputs: tuple[int | None, ...], **attrs: Attr | None) -> Node:
    """A node in normal form: attributes that equal their default are left out.

    >>> make_node("conv", (0, -1, -2), stride=(1,), groups=4).attrs
    {'groups': 4}
    """
    spec = spec_of(op)
    kept = {k: v for k, v in attrs.items() if v is not None and v != spec.default_of(k)}
    return Node(op, inputs, kept, spec.n_outputs)


def attr(node: Node, name: str) -> Attr | None:
    """A node's attribute, or the table's default when the node does not carry it.

    >>> attr(make_node("conv", (0, -1, -2)), "groups")
    1
    """
    value = node.attrs.get(name)
    return spec_of(node.op).default_of(name) if value is None else value


def int_of(node: Node, name: str) -> int:
    """An integer attribute."""
    value = attr(node, name)
    if isinstance(value, int):
        return value
    raise _wrong(node, name, "an integer", value)


def ints_of(node: Node, name: str) -> tuple[int, ...]:
    """An attribute that is a tuple of integers."""
    value = attr(node, name)
    if isinstance(value, tuple):
        return value
    raise _wrong(node, name, "a tuple of integers", value)


def float_of(node: Node, name: str) -> float:
    """A float attribute that must have a value, given or default."""
    value = attr(node, name)
    if isinstance(value, (int, float)):
        return float(value)
    raise _wrong(node, name, "a number", value)


def text_of(node: Node, name: str) -> str:
    """A text or choice attribute."""
    value = attr(node, name)
    if isinstance(value, str):
        return value
    raise _wrong(node, name, "a text", value)


def flag_of(node: Node, name: str) -> bool:
    """A yes-or-no attribute."""
    return bool(attr(node, name))


def _wrong(node: Node, name: str, expected: str, value: object) -> InputError:
    return InputError(
        f"operation {node.op!r}: attribute {name!r} is {value!r}. Cure: {name}= with {expected}"
    )
