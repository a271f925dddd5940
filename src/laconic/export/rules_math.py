"""Lowering rules for activations, arithmetic and reductions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from laconic.errors import CaptureError
from laconic.export.lowering import (
    Call,
    Lowering,
    Ref,
    Rule,
    Value,
    any_free,
    dtype_name,
    finite_or_none,
    float32,
    is_free,
    same_shape,
)

aten = torch.ops.aten


def cast(low: Lowering, value: Value, dtype: torch.dtype) -> Value:
    """The value in another type, or itself when it has that type already."""
    if value.dtype == dtype:
        return value
    if isinstance(value, torch.Tensor):
        return value.to(dtype)
    converted = low.emit("cast", value, to=dtype_name(dtype))
    return Ref(converted.id, value.shape, dtype)


def _unary(op: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Ref:
        x = call.value("self")
        keeps_type = op in ("abs", "neg", "sign", "logical_not")
        return low.emit(op, x if keeps_type else cast(low, x, torch.float32))

    return rule


def _logical_not(low: Lowering, call: Call) -> Ref:
    return low.emit("logical_not", cast(low, call.value("self"), torch.bool))


def binary(low: Lowering, op: str, left: Any, right: Any, dtype: torch.dtype) -> Ref:
    """``op(left, right)`` computed in ``dtype``; a float32 number beside a value becomes an attribute."""
    left, right = (low.number(v) if is_free(v) else v for v in (left, right))
    plain = [not isinstance(v, (Ref, torch.Tensor)) for v in (left, right)]
    tiny = [isinstance(v, torch.Tensor) and v.ndim == 0 for v in (left, right)]
    numbers = [p or (t and dtype == torch.float32) for p, t in zip(plain, tiny, strict=True)]
    if dtype == torch.float32 and any(numbers):
        value, number = (right, left) if numbers[0] else (left, right)
        scalar = float32(float(number))
        if not math.isnan(scalar):
            return low.emit(op, cast(low, value, dtype), scalar=scalar, reverse=numbers[0])
    both = [torch.tensor(float(v)).to(dtype) if p else v for v, p in zip((left, right), plain, strict=True)]
    return low.emit(op, *(cast(low, v, dtype) for v in both))


def _common_type(left: Any, right: Any) -> torch.dtype:
    """The type that PyTorch promotes two operands to."""

    def example(v: Any) -> Any:
        if is_free(v):
            return 0 if isinstance(v, torch.SymInt) else 0.0
        return v if not isinstance(v, Ref) else torch.empty((1,) * len(v.shape), dtype=v.dtype)

    return torch.result_type(example(left), example(right))


def _arithmetic(op: str) -> Rule:
    """add, sub (with their factor ``alpha``) and mul."""

    def rule(low: Lowering, call: Call) -> Ref:
        left, right, alpha = call.get("self"), call.get("other"), call.get("alpha", 1)
        if alpha != 1:
            numeric = not isinstance(right, (Ref, torch.Tensor)) and not any_free((right, alpha))
            right = right * alpha if numeric else binary(low, "mul", right, alpha, call.dtype)
        pairs = ((left, right), (right, left)) if op == "add" else ((left, right),) if op == "sub" else ()
        for value, other in pairs:  # a removed branch adds zeros
            if isinstance(value, Ref) and _is_zero(other) and _stays(call, value):
                return value
        if op == "mul" and call.dtype == torch.bool:
            return binary(low, "logical_and", left, right, torch.bool)
        return binary(low, op, left, right, call.dtype)

    return rule


def _is_zero(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.numel() > 0 and not bool((value != 0).any())


def _stays(call: Call, value: Ref) -> bool:
    """Whether a value has the result's shape and type already."""
    return value.dtype == call.dtype and same_shape(value.shape, call.shape)


def _relu(low: Lowering, call: Call) -> Ref:
    x = call.value("self")
    if isinstance(x, Ref):
        producer = low.producer(x)
        if producer is not None and producer.op == "relu":
            return x
    return low.emit("relu", x)


def _rsub(low: Lowering, call: Call) -> Ref:
    right, alpha = call.get("self"), call.get("alpha", 1)
    right = right if alpha == 1 else binary(low, "mul", right, alpha, call.dtype)
    return binary(low, "sub", call.get("other"), right, call.dtype)


def _div(low: Lowering, call: Call) -> Ref:
    mode = call.get("rounding_mode")
    if mode == "floor" and call.dtype == torch.int64 and is_count(call.get("other")):
        return binary(low, "floor_divide", call.get("self"), call.get("other"), torch.int64)
    if mode == "trunc" or (mode == "floor" and call.dtype != torch.float32):
        raise CaptureError(f"division rounded by {mode!r} has no rule for {call.dtype}")
    quotient = binary(low, "div", call.get("self"), call.get("other"), torch.float32)
    return low.emit("floor", quotient) if mode == "floor" else quotient


def is_count(value: Any) -> bool:
    """A positive whole number, or one made of sizes: what integer arithmetic divides by."""
    return isinstance(value, torch.SymInt) or (isinstance(value, int) and value > 0)


def _pow(low: Lowering, call: Call) -> Ref:
    base, exponent = call.get("self"), call.get("exponent")
    number = exponent if isinstance(exponent, (int, float)) and isinstance(base, Ref) else None
    if number == 2:
        return low.emit("mul", base, base)
    if number == 0.5:
        return low.emit("sqrt", cast(low, base, call.dtype))
    return binary(low, "pow", base, exponent, call.dtype)


def _compare(op: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Ref:
        left, right = call.get("self"), call.get("other")
        return binary(low, op, left, right, _common_type(left, right))

    return rule


def _logical(op: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Ref:
        if call.dtype != torch.bool:
            raise CaptureError("bitwise arithmetic on integers has no rule")
        return binary(low, op, call.get("self"), call.get("other"), torch.bool)

    return rule


def _extremum(op: str, reduce: str, arg: str) -> Rule:
    """Max and min: of two values, over an axis (with indices), or over everything."""

    def rule(low: Lowering, call: Call) -> Any:
        x = call.value("self")
        if "other" in call:
            return binary(low, op, x, call.get("other"), call.dtype)
        if "dim" not in call:
            return low.emit(reduce, x, dims=())
        dim, keep = call.integer("dim"), bool(call.get("keepdim"))
        indices = low.emit(arg, x, axis=dim, keepdim=keep)
        return [low.emit(reduce, x, dims=(dim,), keepdim=keep), indices]

    return rule


def _reduce(op: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Ref:
        x = call.value("self")
        dtype = call.dtype if op in ("sum", "mean", "prod", "logsumexp") else x.dtype
        return low.emit(op, cast(low, x, dtype), dims=_dims(call), keepdim=bool(call.get("keepdim", False)))

    return rule


def _dims(call: Call) -> tuple[int, ...]:
    """Reduced axes counted from the back where that makes the last one -1; empty for all."""
    rank = len(call.value("self").shape)
    dims = sorted({d % max(rank, 1) for d in call.integers("dim")})
    if len(dims) == rank:
        return ()
    return (-1,) if dims == [rank - 1] else tuple(dims)


def _arg(op: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Ref:
        if call.get("dim") is None:
            flat = low.emit("reshape", call.value("self"), shape=(-1,))
            return low.emit(op, flat, axis=0)
        return low.emit(op, call.value("self"), axis=call.integer("dim"), keepdim=bool(call.get("keepdim")))

    return rule


def _moment(root: bool) -> Rule:
    """Var and std: mean squared distance to the mean, with Bessel's correction."""

    def rule(low: Lowering, call: Call) -> Ref:
        x, dims, keep = call.value("self"), _dims(call), bool(call.get("keepdim", False))
        sizes = [x.shape[d] for d in dims] if dims else list(x.shape)
        correction = call.get("correction", int(call.get("unbiased", True)))
        correction = 1 if correction is None else correction
        count = math.prod(sizes)
        centred = low.emit("sub", x, low.emit("mean", x, dims=dims, keepdim=True))
        y = low.emit("mean", low.emit("mul", centred, centred), dims=dims, keepdim=keep)
        if correction and is_free(count):
            y = low.emit("mul", y, low.number(count / (count - correction)))
        elif correction:
            y = low.emit("mul", y, scalar=float32(count / (count - correction)))
        return low.emit("sqrt", y) if root else y

    return rule


def _vector_norm(low: Lowering, call: Call) -> Ref:
    order = call.get("ord", call.get("p", 2))
    x, dims, keep = call.value("self"), _dims(call), bool(call.get("keepdim", False))
    if order == 2 or order is None:
        return low.emit("sqrt", low.emit("sum", low.emit("mul", x, x), dims=dims, keepdim=keep))
    if order == 1:
        return low.emit("sum", low.emit("abs", x), dims=dims, keepdim=keep)
    raise CaptureError(f"a norm of order {order} has no rule")


def _softmax(op: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Ref:
        dim, rank = call.axis("dim"), len(call.value("self").shape)
        call.ignore("half_to_float")
        return low.emit(op, cast(low, call.value("self"), call.dtype), axis=-1 if dim == rank - 1 else dim)

    return rule


def _gelu(low: Lowering, call: Call) -> Ref:
    return low.emit("gelu", call.value("self"), tanh=call.get("approximate") == "tanh")


def _elu(low: Lowering, call: Call) -> Ref:
    if call.get("input_scale") != 1 or call.get("scale") != 1:
        raise CaptureError("elu with scales has no rule")
    return low.emit("elu", call.value("self"), alpha=float32(call.get("alpha")))


def _celu(low: Lowering, call: Call) -> Ref:
    """Alpha * elu(x / alpha): max(0, x) + min(0, alpha (exp(x / alpha) - 1))."""
    alpha = float32(call.get("alpha"))
    scaled = low.emit("mul", call.value("self"), scalar=float32(1.0 / alpha))
    return low.emit("mul", low.emit("elu", scaled), scalar=alpha)


def _leaky_relu(low: Lowering, call: Call) -> Ref:
    return low.emit("leaky_relu", call.value("self"), slope=float32(call.get("negative_slope")))


def _softplus(low: Lowering, call: Call) -> Ref:
    """Above the threshold PyTorch returns x; from beta x = 20 on softplus equals x in float32."""
    x, beta, threshold = call.value("self"), float32(call.get("beta")), float32(call.get("threshold"))
    soft = low.emit("softplus", x, beta=beta)
    if threshold >= 20:
        return soft
    return low.emit("where", low.emit("gt", low.emit("mul", x, scalar=beta), scalar=threshold), x, soft)


def _log_sigmoid(low: Lowering, call: Call) -> Ref:
    return low.emit("neg", low.emit("softplus", low.emit("neg", call.value("self"))))


def _clamp(low: Lowering, call: Call) -> Ref:
    """clamp, hardtanh, relu6, clamp_min and clamp_max, by number or by tensor."""
    x = call.value("self")
    low_bound = call.get("min", call.get("min_val"))
    high_bound = call.get("max", call.get("max_val"))
    if isinstance(low_bound, (Ref, torch.Tensor)) or isinstance(high_bound, (Ref, torch.Tensor)):
        x = x if low_bound is None else binary(low, "maximum", x, low_bound, call.dtype)
        return x if high_bound is None else binary(low, "minimum", x, high_bound, call.dtype)  # type: ignore[return-value]
    if call.dtype != torch.float32:
        raise CaptureError(f"clamp of {call.dtype} has no rule")
    if call.name == "relu6":
        low_bound, high_bound = 0.0, 6.0
    return low.emit("clamp", x, low=finite_or_none(low_bound), high=finite_or_none(high_bound))


def _glu(low: Lowering, call: Call) -> Ref:
    """First half times the sigmoid of the second."""
    x, axis = call.value("self"), call.axis("dim")
    half = int(x.shape[axis]) // 2
    first = low.emit("slice", x, axis=axis, end=half)
    return low.emit("mul", first, low.emit("sigmoid", low.emit("slice", x, axis=axis, start=half)))


def _threshold(low: Lowering, call: Call) -> Ref:
    x = call.value("self")
    above = low.emit("gt", x, scalar=float32(call.get("threshold")))
    return low.emit("where", above, x, torch.tensor(float(call.get("value"))))


def _shrink(low: Lowering, call: Call) -> Ref:
    """softshrink: x moved towards zero by lambda, at most to zero."""
    x, bound = call.value("self"), float32(call.get("lambd"))
    return low.emit("sub", x, low.emit("clamp", x, low=-bound, high=bound))


def _composed(*ops: str) -> Rule:
    """Unary operations one after the other: rsqrt is sqrt, then reciprocal."""

    def rule(low: Lowering, call: Call) -> Ref:
        x = cast(low, call.value("self"), torch.float32)
        for op in ops:
            x = low.emit(op, x)
        return low.ref(x)

    return rule


def _where(low: Lowering, call: Call) -> Ref:
    sides = [
        v if isinstance(v, (Ref, torch.Tensor)) else torch.tensor(v)
        for v in (call.get("self"), call.get("other"))
    ]
    return low.emit("where", call.value("condition"), *(cast(low, v, call.dtype) for v in sides))


def _masked_fill(low: Lowering, call: Call) -> Ref:
    value = call.get("value")
    fill = value if isinstance(value, (Ref, torch.Tensor)) else torch.tensor(value)
    return low.emit("where", call.value("mask"), cast(low, fill, call.dtype), call.value("self"))


# fmt: off
_PLAIN = (
    "sigmoid", "tanh", "silu", "selu", "hardswish", "hardsigmoid", "mish", "exp", "log", "sqrt",
    "abs", "neg", "erf", "sin", "cos", "reciprocal", "floor", "ceil", "round", "sign",
)
# fmt: on

MATH_RULES: Mapping[object, Rule] = {
    **{getattr(aten, name): _unary(name) for name in _PLAIN},
    **{getattr(aten, name): _compare(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{getattr(aten, name): _reduce(name) for name in ("mean", "sum", "amax", "amin", "prod", "logsumexp")},
    aten.special_logsumexp: _reduce("logsumexp"),
    aten.rsqrt: _composed("sqrt", "reciprocal"),
    aten.logical_not: _logical_not,
    aten.bitwise_not: _logical_not,
    aten.add: _arithmetic("add"),
    aten.sub: _arithmetic("sub"),
    aten.mul: _arithmetic("mul"),
    aten.multiply: _arithmetic("mul"),
    aten.rsub: _rsub,
    aten.div: _div,
    aten.divide: _div,
    aten.true_divide: _div,
    aten.pow: _pow,
    aten.maximum: _arithmetic("maximum"),
    aten.minimum: _arithmetic("minimum"),
    aten.max: _extremum("maximum", "amax", "argmax"),
    aten.min: _extremum("minimum", "amin", "argmin"),
    aten.logical_and: _logical("logical_and"),
    aten.logical_or: _logical("logical_or"),
    aten.bitwise_and: _logical("logical_and"),
    aten.bitwise_or: _logical("logical_or"),
    aten.argmax: _arg("argmax"),
    aten.argmin: _arg("argmin"),
    aten.var: _moment(root=False),
    aten.std: _moment(root=True),
    aten.linalg_vector_norm: _vector_norm,
    aten.norm: _vector_norm,
    aten.softmax: _softmax("softmax"),
    aten._softmax: _softmax("softmax"),
    aten.log_softmax: _softmax("log_softmax"),
    aten._log_softmax: _softmax("log_softmax"),
    aten.gelu: _gelu,
    aten.elu: _elu,
    aten.celu: _celu,
    aten.relu: _relu,
    aten.leaky_relu: _leaky_relu,
    aten.softplus: _softplus,
    aten.log_sigmoid: _log_sigmoid,
    aten.hardtanh: _clamp,
    aten.relu6: _clamp,
    aten.clamp: _clamp,
    aten.clamp_min: _clamp,
    aten.clamp_max: _clamp,
    aten.glu: _glu,
    aten.threshold: _threshold,
    aten.softshrink: _shrink,
    aten.where: _where,
    aten.masked_fill: _masked_fill,
}
