"""Elementwise operations, reductions, and products of two activations."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from laconic.networks.watching import Call
from laconic.structure.coupling.functions import called
from laconic.structure.coupling.labels import Field, Value, broadcast, coupled, mixed, take_axis
from laconic.structure.coupling.trace import Rule, Trace

# f(0) = 0, or a term or factor that keeps zeros.
_KEEP_ZERO = (
    "relu", "relu6", "leaky_relu", "gelu", "silu", "mish", "elu", "selu", "celu", "hardswish", "tanh",
    "hardtanh", "tanhshrink", "softsign", "softshrink", "hardshrink", "threshold", "rrelu", "abs", "neg",
    "sign", "sqrt", "square", "sin", "tan", "asin", "atan", "sinh", "erf", "expm1", "log1p", "round",
    "floor", "trunc", "ceil", "pos", "clone", "contiguous", "to", "float", "double", "half", "bfloat16",
    "type", "type_as", "detach", "cpu", "requires_grad", "identity", "nan_to_num", "dropout", "dropout1d",
    "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout",
)  # fmt: skip
_LOSE_ZERO = (
    "sigmoid", "hardsigmoid", "logsigmoid", "softplus", "exp", "exp2", "log", "log2", "log10", "cos",
    "cosh", "reciprocal", "rsqrt", "erfc", "eq", "ne", "lt", "le", "gt", "ge", "logical_not",
    "logical_and", "logical_or", "isnan", "isinf", "isfinite", "masked_fill", "clamp", "clip",
    "clamp_min", "clamp_max", "pow", "invert", "bitwise_not", "and", "or", "fmod", "remainder", "lerp",
    "addcmul", "addcdiv", "zeros_like", "ones_like",
)  # fmt: skip
_SUMS = ("add", "sub", "subtract", "rsub", "maximum", "minimum", "where")
_REDUCTIONS = (
    "mean", "sum", "amax", "amin", "max", "min", "std", "var", "std_mean", "var_mean", "norm",
    "vector_norm", "logsumexp", "prod", "all", "any", "argmax", "argmin", "count_nonzero", "median",
    "aminmax",
)  # fmt: skip
_ORDERED = {"sort": 1, "argsort": 1, "cumprod": 1, "cummax": 1, "cummin": 1, "topk": 2, "diff": 2}
_ALONG_ONE = {"softmax": False, "log_softmax": False, "softmin": False, "cumsum": True, "normalize": True}


def elementwise(zero_if: str) -> Rule:
    """A rule for an operation whose result at a position depends on its operands at that position."""

    def rule(trace: Trace, call: Call) -> None:
        values = [trace.value(t) for t in call.tensors()]
        for result in tree_leaves(call.result):
            kept = broadcast(trace.units, values, tuple(result.shape), zero_if)
            trace.set(result, _pixels_through(call, values, kept))

    return rule


def _pixels_through(call: Call, values: list[Value], kept: Value) -> Value:
    """An input that was only scaled or shifted is still the input."""
    if len(values) == 1 and values[0].pixels is not None and values[0].shape == kept.shape:
        return replace(kept, pixels=values[0].pixels)
    return kept


def sums(trace: Trace, call: Call) -> None:
    """A sum is zero where all terms are; a number that is not zero never is."""
    numbers = [a for a in call.args[:2] if isinstance(a, (int, float, complex)) and a != 0]
    elementwise("never" if numbers else "all")(trace, call)


def quotient(trace: Trace, call: Call) -> None:
    """A quotient is zero where its numerator is."""
    reflected = getattr(call.function, "__name__", "").startswith("__r") or not isinstance(
        call.args[0], Tensor
    )
    elementwise("never" if reflected else "first")(trace, call)


def prelu(trace: Trace, call: Call) -> None:
    """One slope per channel, or one for all."""
    x, slope = (trace.value(t) for t in call.tensors())
    if slope.shape != (1,):
        spread = tuple(
            replace(f, units=f.units.reshape(-1, *(1,) * (len(x.shape) - 2))) for f in slope.fields
        )
        slope = Value((slope.shape[0], *(1,) * (len(x.shape) - 2)), spread)
        broadcast(trace.units, [x, slope], x.shape, "first")
    trace.set(call.result, Value(x.shape, x.fields))


def reduction(trace: Trace, call: Call) -> None:
    """The positions of the axes summed over stay together."""
    tensors = call.tensors()
    if len(tensors) > 1:  # max(a, b)
        return sums(trace, call)
    value = trace.value(tensors[0])
    dims = len(value.shape)
    position = 2 if getattr(call.function, "__name__", "") in ("norm", "vector_norm") else 1
    given = call.argument(position, "dim", call.kwargs.get("axis"))
    if given is None or isinstance(given, bool):
        axes = list(range(dims))
    else:
        axes = sorted(
            {int(a) % max(dims, 1) for a in (given if isinstance(given, (tuple, list)) else [given])}
        )
    for axis in axes:
        value = mixed(trace.units, value, axis)
    for result in tree_leaves(call.result):
        kept = value if result.ndim == dims else _dropped(value, axes)
        trace.set(result, Value(tuple(result.shape), tuple(replace(f, zero=False) for f in kept.fields)))
    return None


def _dropped(value: Value, axes: Sequence[int]) -> Value:
    """The value without axes that no field belongs to."""
    keep = [k for k in range(len(value.shape)) if k not in axes]
    fields = tuple(replace(f, units=f.units.reshape([f.units.shape[k] for k in keep])) for f in value.fields)
    return Value(tuple(value.shape[k] for k in keep), fields)


def along_one(keeps_zero: bool) -> Rule:
    """A rule for softmax and similar operations: one axis is mixed, the shape stays."""

    def rule(trace: Trace, call: Call) -> None:
        value = trace.value(call.argument(0, "input"))
        axis = call.argument(2 if "normalize" in str(call.function) else 1, "dim", 1)
        value = mixed(trace.units, value, int(axis))
        fields = tuple(replace(f, zero=f.zero and keeps_zero) for f in value.fields)
        trace.set(call.result, Value(value.shape, fields))

    return rule


def ordered(position: int) -> Rule:
    """A rule for operations that look along one axis (the argument at ``position``, else the last)."""

    def rule(trace: Trace, call: Call) -> None:
        if len(call.tensors()) > 1:
            return trace.refuse(call, "has no rule for several tensors: what it reads is left whole")
        value = mixed(
            trace.units, trace.value(call.argument(0, "input")), int(call.argument(position, "dim", -1))
        )
        fields = tuple(replace(f, zero=False) for f in value.fields)
        for result in tree_leaves(call.result):
            trace.set(result, Value(tuple(result.shape), fields))
        return None

    return rule


# --- products ----------------------------------------------------------------------------------


def contract(
    trace: Trace, operands: Sequence[tuple[Value, str]], out: str, *, keep_width: bool = False
) -> Value:
    """The value of an Einstein sum; ``out`` are the letters of the result.

    A contracted axis may lose a unit on which one factor is zero (its term is then zero). Where it is one
    part of a split axis (heads and their width), whole heads are removed, or one position in each.
    ``keep_width``: no unit of the contracted axis may be removed.
    """
    units = trace.units
    letters = out + "".join(sorted({c for _, text in operands for c in text} - set(out)))
    sizes = {c: n for value, text in operands for c, n in zip(text, value.shape, strict=True) if n > 1}
    spread = [_by_letter(value, text, letters) for value, text in operands]
    product = broadcast(units, spread, tuple(sizes.get(c, 1) for c in letters), "any")
    for axis in range(len(out), len(letters)):
        field = product.at(axis)
        if field is None:
            continue
        kept: tuple[Field, ...] = ()
        if field.axes == (axis,):
            if keep_width or not field.zero:
                units.pin(field.units)
        elif keep_width or not field.zero or trace.outermost:
            kept = (coupled(units, field, axis),)
        else:
            take_axis(units, product, axis)
        product = Value(product.shape, (*product.without(axis), *kept))
    return _dropped(product, range(len(out), len(letters)))


def _by_letter(value: Value, text: str, letters: str) -> Value:
    """The value with one axis for each letter, in their order."""
    order = [text.index(c) for c in letters if c in text]

    def arranged(units: Any) -> Any:
        sizes = iter(units.transpose(order).shape)
        return units.transpose(order).reshape([next(sizes) if c in text else 1 for c in letters])

    fields = tuple(Field(arranged(f.units), f.zero, f.weak) for f in value.fields)
    return Value(tuple(value.shape[text.index(c)] if c in text else 1 for c in letters), fields)


def matmul(trace: Trace, call: Call) -> None:
    """A product of matrices, batched or not."""
    tensors = call.tensors()[-2:]
    a, b = (trace.value(t) for t in tensors)
    if min(len(a.shape), len(b.shape)) < 2 or len(call.tensors()) > 2:
        return trace.refuse(call, "has no rule for these shapes: what it reads is left whole")
    if getattr(call.function, "__name__", "") == "__rmatmul__":
        a, b = b, a
    batch = string.ascii_letters[: max(len(a.shape), len(b.shape)) - 2]
    left, right = batch[len(batch) + 2 - len(a.shape) :] + "yz", batch[len(batch) + 2 - len(b.shape) :] + "zx"
    trace.set(call.result, contract(trace, [(a, left), (b, right)], batch + "yx"))
    return None


def addmm(trace: Trace, call: Call) -> None:
    """``beta * c + alpha * a @ b``."""
    c, a, b = (trace.value(call.argument(k, name)) for k, name in enumerate(("input", "mat1", "mat2")))
    batch = "w" * (len(a.shape) - 2)
    product = contract(trace, [(a, batch + "yz"), (b, batch + "zx")], batch + "yx")
    trace.set(call.result, broadcast(trace.units, [c, product], product.shape, "all"))


def einsum(trace: Trace, call: Call) -> None:
    """An Einstein sum written with letters."""
    text = call.args[0]
    values = [trace.value(t) for t in call.tensors()]
    if (
        not isinstance(text, str)
        or "..." in text
        or any(len(set(t)) < len(t) for t in text.split("->")[0].split(","))
    ):
        return trace.refuse(call, "has no rule for this formula: what it reads is left whole")
    left, arrow, out = text.replace(" ", "").partition("->")
    inputs = left.split(",")
    if not arrow:
        joined = "".join(inputs)
        out = "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    trace.set(call.result, contract(trace, list(zip(values, inputs, strict=True)), out))
    return None


def attention(trace: Trace, call: Call) -> None:
    """Scaled dot products: the default scale is computed from the width, which then must stay."""
    q, k, v = (trace.value(call.argument(n, name)) for n, name in enumerate(("query", "key", "value")))
    batch = string.ascii_letters[: len(q.shape) - 2]
    if not len(q.shape) == len(k.shape) == len(v.shape) or call.kwargs.get("enable_gqa"):
        return trace.refuse(call, "has no rule for these shapes: what it reads is left whole")
    scale = call.argument(6, "scale")
    pairs = [(q, batch + "yz"), (k, batch + "xz")]
    scores = contract(trace, pairs, batch + "yx", keep_width=scale is None)
    mask = call.argument(3, "attn_mask")
    if mask is not None:
        scores = broadcast(trace.units, [scores, trace.value(mask)], scores.shape, "never")
    weights = mixed(trace.units, scores, -1)
    weights = Value(weights.shape, tuple(replace(f, zero=False) for f in weights.fields))
    out = contract(trace, [(weights, batch + "yx"), (v, batch + "xw")], batch + "yw")
    trace.set(call.result, out)
    return None


def constant(trace: Trace, call: Call) -> None:
    """A tensor made from nothing but a size: a new constant, wherever its size was read from."""
    trace.made(tree_leaves(call.result))


def looked_at(trace: Trace, call: Call) -> None:
    """A value is handed to Python, which may branch on it."""
    if any(trace.raw(t).pixels is None or t.is_floating_point() for t in call.tensors()):
        trace.branch()


MATH_RULES: dict[Any, Rule] = {
    **dict.fromkeys(called(*_KEEP_ZERO), elementwise("all")),
    **dict.fromkeys(called(*_LOSE_ZERO), elementwise("never")),
    **dict.fromkeys(called(*_SUMS), sums),
    **dict.fromkeys(called("mul", "multiply"), elementwise("any")),
    **dict.fromkeys(called("div", "divide", "true_divide", "truediv", "floordiv", "floor_divide"), quotient),
    **dict.fromkeys(called("prelu"), prelu),
    **dict.fromkeys(called(*_REDUCTIONS), reduction),
    **{f: along_one(zero) for name, zero in _ALONG_ONE.items() for f in called(name)},
    **{f: ordered(position) for name, position in _ORDERED.items() for f in called(name)},
    **dict.fromkeys(called("matmul", "bmm", "mm"), matmul),
    **dict.fromkeys(called("addmm", "baddbmm"), addmm),
    **dict.fromkeys(called("einsum"), einsum),
    **dict.fromkeys(called("scaled_dot_product_attention"), attention),
    **dict.fromkeys(called("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"), constant),
    **dict.fromkeys(called("bool", "item", "int", "float", "index", "tolist", "is_nonzero"), looked_at),
}
