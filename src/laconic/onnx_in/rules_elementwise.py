"""Rules for ONNX' operators on single entries, comparisons and reductions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from laconic.errors import CaptureError
from laconic.onnx_in.arrays import KINDS
from laconic.onnx_in.conversion import Conversion, Known, Rule, Sizes, Value
from laconic.onnx_in.messages import Call
from laconic.onnx_in.rules_layers import real, text, whole
from laconic.pack.graph.ops import DTYPES

_UNARY = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Selu": "selu", "HardSwish": "hardswish",
    "Mish": "mish", "Softsign": "softsign", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Abs": "abs",
    "Neg": "neg", "Erf": "erf", "Sin": "sin", "Cos": "cos", "Reciprocal": "reciprocal", "Floor": "floor",
    "Ceil": "ceil", "Round": "round", "Sign": "sign", "Not": "logical_not", "Atan": "atan",
    "Softplus": "softplus", "Identity": "identity",
}  # fmt: skip

_BINARY = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Equal": "eq", "Less": "lt",
    "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge", "And": "logical_and", "Or": "logical_or",
    "Min": "minimum", "Max": "maximum",
}  # fmt: skip

_COUNTED = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "floor_divide", "Mod": "remainder"}
_INT: Mapping[str, Callable[[int, int], int | None]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a // b if b > 0 else None,
    "Mod": lambda a, b: a % b if b > 0 else None,
}

_REDUCED = {
    "ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "amax", "ReduceMin": "amin", "ReduceProd": "prod",
    "ReduceLogSumExp": "logsumexp",
}  # fmt: skip


def _unary(made: Conversion, call: Call) -> Sequence[Known]:
    found = made.given(call, 0)
    if call.kind == "Identity" and found is not None:
        return (found,)
    if call.kind == "Selu" and (real(call, "alpha", 1.67326) < 1.67 or real(call, "gamma", 1.0507) < 1.05):
        raise CaptureError("another alpha or gamma than Selu's own has no rule")
    return (made.emit(_UNARY[call.kind], made.value(call, 0)),)


def _sized(made: Conversion, call: Call) -> Sizes | None:
    """Arithmetic on sizes; None where an operand is none."""
    try:
        left, right = made.sizes(call, 0), made.sizes(call, 1)
    except CaptureError:
        return None
    count = max(len(left.items), len(right.items))
    wide = [part.items * count if len(part.items) == 1 else part.items for part in (left, right)]
    items: list[int | Value] = []
    for a, b in zip(*wide, strict=True):
        if isinstance(a, int) and isinstance(b, int):
            number = _INT[call.kind](a, b)
            if number is None:
                raise CaptureError("a division by a number below 1 has no rule")
            items.append(number)
        else:
            items.append(made.emit(_COUNTED[call.kind], made.number(a), made.number(b)))
    return Sizes(tuple(items), left.scalar and right.scalar)


def _alike(made: Conversion, call: Call) -> Known | None:
    """Which sizes are equal to given numbers; None for other operands. No free size is below 0."""
    given = [made.given(call, k) for k in (0, 1)]
    if not any(isinstance(part, Sizes) for part in given):
        return None
    left, right = made.sizes(call, 0), made.sizes(call, 1)
    found = []
    for a, b in zip(left.items, right.items, strict=True):
        numbers = [n for n in (a, b) if isinstance(n, int)]
        if len(numbers) < 2 and min(numbers, default=0) >= 0:
            raise CaptureError("a comparison of free sizes has no rule")
        found.append(a == b if len(numbers) == 2 else False)
    return np.array(found)


def _binary(made: Conversion, call: Call) -> Sequence[Known]:
    if call.kind in _COUNTED:
        sizes = _sized(made, call)
        if sizes is not None:
            return (sizes,)
    if call.kind == "Equal":
        alike = _alike(made, call)
        if alike is not None:
            return (alike,)
    if call.kind == "Mod":
        raise CaptureError("a remainder of other numbers than sizes has no rule")
    if len(call.inputs) != 2:
        if call.kind in ("Min", "Max") and len(call.inputs) == 1:
            return (made.value(call, 0),)
        raise CaptureError(f"{len(call.inputs)} operands have no rule")
    op = _BINARY[call.kind]
    given = [made.given(call, k) for k in (0, 1)]
    for k, other in ((1, given[0]), (0, given[1])):
        scalar = given[k]
        if _is_scalar(scalar) and isinstance(other, Value) and other.dtype == "float32":
            return (made.emit(op, other, scalar=float(np.asarray(scalar).reshape(())), reverse=k == 0),)
    left, right = made.value(call, 0), made.value(call, 1)
    if op == "div" and left.dtype != "float32":
        raise CaptureError(f"a division of {left.dtype} has no rule")
    if left.ref < 0 and right.ref >= 0 and op in ("add", "mul"):
        left, right = right, left
    return (made.emit(op, left, right),)


def _is_scalar(found: Known | None) -> bool:
    return isinstance(found, np.ndarray) and found.dtype == np.float32 and found.ndim == 0


def _cast(made: Conversion, call: Call) -> Sequence[Known]:
    to, found = KINDS.get(whole(call, "to", 0), ""), made.given(call, 0)
    if isinstance(found, Sizes) and to == "int64":
        return (found,)
    if isinstance(found, np.ndarray):
        made.folding(8 * found.size)
        return (found.astype(to or found.dtype),)
    if to not in DTYPES:
        raise CaptureError(f"a cast to {to or call.attrs.get('to')} has no rule")
    x = made.value(call, 0)
    return (x if x.dtype == to else made.emit("cast", x, to=to),)


def _clip(made: Conversion, call: Call) -> Sequence[Known]:
    bounds: list[float | None] = []
    for index, name in ((1, "min"), (2, "max")):
        found = made.constant(call, index)
        value = call.attrs.get(name) if found is None else found.reshape(())
        bounds.append(None if value is None else float(np.float32(value)))  # type: ignore[arg-type]
    return (made.emit("clamp", made.value(call, 0), low=bounds[0], high=bounds[1]),)


def _leaky(made: Conversion, call: Call) -> Sequence[Known]:
    return (made.emit("leaky_relu", made.value(call, 0), slope=real(call, "alpha", 0.01)),)


def _elu(made: Conversion, call: Call) -> Sequence[Known]:
    return (made.emit("elu", made.value(call, 0), alpha=real(call, "alpha", 1.0)),)


def _gelu(made: Conversion, call: Call) -> Sequence[Known]:
    return (made.emit("gelu", made.value(call, 0), tanh=text(call, "approximate", "none") == "tanh"),)


def _hard_sigmoid(made: Conversion, call: Call) -> Sequence[Known]:
    """max(0, min(1, alpha x + beta)); our own has alpha 1/6."""
    alpha, beta, x = real(call, "alpha", 0.2), real(call, "beta", 0.5), made.value(call, 0)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return (made.emit("hardsigmoid", x),)
    line = made.emit("add", made.emit("mul", x, scalar=alpha), scalar=beta)
    return (made.emit("clamp", line, low=0.0, high=1.0),)


def _softmax(made: Conversion, call: Call) -> Sequence[Known]:
    x = made.value(call, 0)
    axis = whole(call, "axis", 1 if made.opset < 13 else -1)
    if made.opset < 13 and axis % x.rank != x.rank - 1:
        raise CaptureError("a softmax over several axes has no rule")
    return (made.emit("softmax" if call.kind == "Softmax" else "log_softmax", x, axis=axis),)


def _where(made: Conversion, call: Call) -> Sequence[Known]:
    condition, found = made.given(call, 0), [made.given(call, k) for k in (1, 2)]
    if isinstance(condition, np.ndarray) and condition.size == 1 and None not in found:
        return (found[0] if condition.reshape(()) else found[1],)  # type: ignore[return-value]
    if isinstance(condition, np.ndarray) and any(isinstance(part, Sizes) for part in found):
        left, right = made.sizes(call, 1), made.sizes(call, 2)
        rows = zip(condition.reshape(-1), left.items, right.items, strict=True)
        return (Sizes(tuple(a if yes else b for yes, a, b in rows)),)
    return (made.emit("where", *(made.value(call, k) for k in range(3))),)


def _reduce(made: Conversion, call: Call) -> Sequence[Known]:
    x, dims = made.value(call, 0), made.ints(call, 1, "axes")
    if not dims and whole(call, "noop_with_empty_axes", 0):
        return (x,)
    keep = bool(whole(call, "keepdims", 1))
    return (made.emit(_REDUCED[call.kind], x, dims=dims or (), keepdim=keep),)


def _arg(made: Conversion, call: Call) -> Sequence[Known]:
    if whole(call, "select_last_index", 0):
        raise CaptureError("the last of equal entries has no rule")
    op = "argmax" if call.kind == "ArgMax" else "argmin"
    keep = bool(whole(call, "keepdims", 1))
    return (made.emit(op, made.value(call, 0), axis=whole(call, "axis", 0), keepdim=keep),)


def _dropout(made: Conversion, call: Call) -> Sequence[Known]:
    """Nothing, at inference."""
    if len([name for name in call.outputs if name]) > 1:
        raise CaptureError("the mask of a dropout has no rule")
    training = made.constant(call, 2) if len(call.inputs) > 2 else None
    if training is not None and bool(training.reshape(())):
        raise CaptureError("a dropout in training mode has no rule")
    return (made.value(call, 0),)


RULES: dict[str, Rule] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys((*_BINARY, "Mod"), _binary),
    **dict.fromkeys(_REDUCED, _reduce),
    "Cast": _cast,
    "Clip": _clip,
    "LeakyRelu": _leaky,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Where": _where,
    "ArgMax": _arg,
    "ArgMin": _arg,
    "Dropout": _dropout,
}
