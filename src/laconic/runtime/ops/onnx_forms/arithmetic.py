"""ONNX emitters for activations, arithmetic and reductions."""

from __future__ import annotations

from laconic.pack.graph.ops import attr, flag_of, float_of, int_of, ints_of, text_of
from laconic.records import Node
from laconic.runtime.onnx_model.builder import Builder, Emitter

UNARY = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "selu": "Selu",
    "hardswish": "HardSwish",
    "mish": "Mish",
    "softsign": "Softsign",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
    "atan": "Atan",
    "reciprocal": "Reciprocal",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "sign": "Sign",
    "logical_not": "Not",
}
BINARY = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "minimum": "Min",
    "maximum": "Max",
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
}
REDUCE = {
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "amax": "ReduceMax",
    "amin": "ReduceMin",
    "prod": "ReduceProd",
    "logsumexp": "ReduceLogSumExp",
}


def _unary(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        return (b.op(kind, x[0]),)

    return emit


def _operands(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, str]:
    """Two values, or a value and the node's float32 scalar, in the order that ``reverse`` asks for."""
    other = x[1] if len(x) > 1 else b.scalar(float_of(node, "scalar"))
    return (other, x[0]) if flag_of(node, "reverse") else (x[0], other)


def _binary(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        return (b.op(kind, *_operands(b, node, x)),)

    return emit


def _ne(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Not", b.op("Equal", *_operands(b, node, x))),)


def _where(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Where", *x),)


def _reduce(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        dims = ints_of(node, "dims")  # no dims: over everything
        axes = b.ints(dims) if dims else ""
        return (b.op(kind, x[0], axes, keepdims=int(flag_of(node, "keepdim"))),)

    return emit


def _arg(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        return (b.op(kind, x[0], axis=int_of(node, "axis"), keepdims=int(flag_of(node, "keepdim"))),)

    return emit


def _on_axis(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        return (b.op(kind, x[0], axis=int_of(node, "axis")),)

    return emit


def _silu(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Mul", x[0], b.op("Sigmoid", x[0])),)


def _hardsigmoid(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """relu6(x + 3) / 6; ONNX' own default slope is 0.2, so it is said here."""
    return (b.op("HardSigmoid", x[0], alpha=1.0 / 6.0, beta=0.5),)


def _gelu(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Gelu", x[0], approximate="tanh" if flag_of(node, "tanh") else "none"),)


def _elu(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Elu", x[0], alpha=float_of(node, "alpha")),)


def _leaky_relu(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("LeakyRelu", x[0], alpha=float_of(node, "slope")),)


def _softplus(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """log(1 + exp(beta x)) / beta."""
    beta = float_of(node, "beta")
    if beta == 1.0:
        return (b.op("Softplus", x[0]),)
    return (b.op("Div", b.op("Softplus", b.op("Mul", x[0], b.scalar(beta))), b.scalar(beta)),)


def _clamp(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    low = "" if attr(node, "low") is None else b.scalar(float_of(node, "low"))
    high = "" if attr(node, "high") is None else b.scalar(float_of(node, "high"))
    return (b.op("Clip", x[0], low, high),)


def _cumsum(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("CumSum", x[0], b.ints((int_of(node, "axis"),))),)


def _matmul(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("MatMul", x[0], x[1]),)


def _einsum(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Einsum", *x, equation=text_of(node, "equation")),)


MATH: dict[str, Emitter] = {
    **{name: _unary(kind) for name, kind in UNARY.items()},
    **{name: _binary(kind) for name, kind in BINARY.items()},
    **{name: _reduce(kind) for name, kind in REDUCE.items()},
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "softmax": _on_axis("Softmax"),
    "log_softmax": _on_axis("LogSoftmax"),
    "ne": _ne,
    "where": _where,
    "silu": _silu,
    "hardsigmoid": _hardsigmoid,
    "gelu": _gelu,
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "softplus": _softplus,
    "clamp": _clamp,
    "cumsum": _cumsum,
    "matmul": _matmul,
    "einsum": _einsum,
}
