"""Lowering rules for compositions of graph operations: trigonometry, logarithms, predicates, norms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from laconic.errors import CaptureError
from laconic.export.lowering import Call, Lowering, Ref, Rule, Value, float32, is_free
from laconic.export.rules_layers import LAYER_RULES
from laconic.export.rules_math import MATH_RULES, binary, cast
from laconic.export.rules_shapes import SHAPE_RULES
from laconic.export.rules_sizes import SIZE_RULES

aten = torch.ops.aten
_FLOAT = torch.float32


class Formula:
    """A value with overloaded operators: each operator adds a node."""

    def __init__(self, low: Lowering, value: Value) -> None:
        self.low, self.value = low, value

    def _with(self, op: str, other: Formula | float) -> Formula:
        right = other.value if isinstance(other, Formula) else other
        return Formula(self.low, binary(self.low, op, self.value, right, _FLOAT))

    def _after(self, op: str, other: float) -> Formula:
        return Formula(self.low, binary(self.low, op, other, self.value, _FLOAT))

    def __add__(self, other: Formula | float) -> Formula:
        return self._with("add", other)

    def __sub__(self, other: Formula | float) -> Formula:
        return self._with("sub", other)

    def __mul__(self, other: Formula | float) -> Formula:
        return self._with("mul", other)

    def __truediv__(self, other: Formula | float) -> Formula:
        return self._with("div", other)

    def __rtruediv__(self, other: float) -> Formula:
        return self._after("div", other)

    def __radd__(self, other: float) -> Formula:
        return self._after("add", other)

    def __rsub__(self, other: float) -> Formula:
        return self._after("sub", other)

    def __rpow__(self, other: float) -> Formula:
        return self._after("pow", other)

    def of(self, op: str) -> Formula:
        """A unary operation of the table."""
        return Formula(self.low, self.low.emit(op, self.value))

    def test(self, op: str, other: Formula | float) -> Ref:
        """A comparison."""
        found = self._with(op, other).value
        return Ref(self.low.ref(found).id, self.value.shape, torch.bool)

    def where(self, condition: Ref, other: Formula | float) -> Formula:
        """The value where the condition holds, the other elsewhere."""
        right = other.value if isinstance(other, Formula) else torch.tensor(float(other))
        return Formula(self.low, self.low.emit("where", condition, self.value, right))


def _log1p(x: Formula) -> Formula:
    """log(u) x / (u - 1), u = 1 + x: its rounding cancels (Goldberg 1991, theorem 4); x where u is 1."""
    u = x + 1.0
    return x.where(u.test("eq", 1.0), u.of("log") * (x / (u - 1.0)))


def _expm1(x: Formula) -> Formula:
    """(u - 1) x / log(u) with u = exp(x) (Kahan); x where u is 1, -1 where u is 0."""
    u = x.of("exp")
    ratio = (u - 1.0) * (x / u.of("log"))
    far = (u - 1.0).where(x.of("abs").test("gt", 10.0), ratio)
    return x.where(u.test("eq", 1.0), far)


def _sinh(x: Formula) -> Formula:
    e = _expm1(x.of("abs"))
    return (e + e / (e + 1.0)) * 0.5 * x.of("sign")


def _asinh(x: Formula) -> Formula:
    a = x.of("abs")
    square = a * a
    return _log1p(a + square / (1.0 + (square + 1.0).of("sqrt"))) * x.of("sign")


def _atanh(x: Formula) -> Formula:
    return _log1p(x * 2.0 / (1.0 - x)) * 0.5


def _asin(x: Formula) -> Formula:
    return (x / ((1.0 - x) * (x + 1.0)).of("sqrt")).of("atan")


def _trunc(x: Formula) -> Formula:
    return x.of("abs").of("floor") * x.of("sign")


def _is_infinite(x: Formula) -> Formula:
    return Formula(x.low, x.of("abs").test("eq", math.inf))


_FORMULAS = {
    "tan": lambda x: x.of("sin") / x.of("cos"),
    "sinh": _sinh,
    "cosh": lambda x: (x.of("exp") + x.of("neg").of("exp")) * 0.5,
    "asinh": _asinh,
    "acosh": lambda x: _log1p((x - 1.0) + ((x - 1.0) * (x + 1.0)).of("sqrt")),
    "atanh": _atanh,
    "asin": _asin,
    "acos": lambda x: math.pi / 2 - _asin(x),
    "atan": lambda x: x.of("atan"),
    "log1p": _log1p,
    "expm1": _expm1,
    "log2": lambda x: x.of("log") * (1 / math.log(2)),
    "log10": lambda x: x.of("log") * (1 / math.log(10)),
    "exp2": lambda x: 2.0**x,
    "special_exp2": lambda x: 2.0**x,
    "erfc": lambda x: 1.0 - x.of("erf"),
    "trunc": _trunc,
    "fix": _trunc,
    "frac": lambda x: x - _trunc(x),
    "signbit": lambda x: Formula(x.low, x.test("lt", 0.0)),
    "isnan": lambda x: Formula(x.low, x.test("ne", x)),
    "isinf": _is_infinite,
}


def _formula(name: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Value:
        found: Value = _FORMULAS[name](Formula(low, cast(low, call.value("self"), _FLOAT))).value
        return found

    return rule


def _pair(low: Lowering, call: Call) -> tuple[Formula, Formula]:
    values = [call.get("self"), call.get("other")]
    made = [v if isinstance(v, (Ref, torch.Tensor)) else torch.tensor(float(v)) for v in values]
    left, right = (Formula(low, cast(low, v, _FLOAT)) for v in made)
    return left, right


def _fmod(low: Lowering, call: Call) -> Value:
    """X - y trunc(x / y): the sign of x."""
    x, y = _pair(low, call)
    _only_floats(call)
    return (x - y * _trunc(x / y)).value


def _remainder(low: Lowering, call: Call) -> Value:
    """X - y floor(x / y): the sign of y."""
    if call.dtype != _FLOAT:
        found: Value = SIZE_RULES[aten.remainder](low, call)
        return found
    x, y = _pair(low, call)
    return (x - y * (x / y).of("floor")).value


def _only_floats(call: Call) -> None:
    if call.dtype != _FLOAT:
        raise CaptureError(f"it has no rule for {call.dtype}. Cure: compute in float32")


def _sided(x: Formula) -> Formula:
    """1 or -1 by the sign bit, which zeros have as well: 1 / -0 is minus infinity."""
    return (1.0 / x).of("sign").where(x.test("eq", 0.0), x.of("sign"))


def _atan2(low: Lowering, call: Call) -> Value:
    """The angle of (abs(x), abs(y)), mirrored to the quadrant of (x, y); zeros have signs."""
    y, x = _pair(low, call)
    high, wide = y.of("abs"), x.of("abs")
    alike = Formula(low, torch.tensor(0.0)).where(high.test("eq", 0.0), math.pi / 4)  # 0 / 0, and inf / inf
    angle = alike.where(high.test("eq", wide), (high / wide).of("atan"))
    return (_sided(y) * (math.pi - angle).where(_sided(x).test("lt", 0.0), angle)).value


def _hypot(low: Lowering, call: Call) -> Value:
    x, y = _pair(low, call)
    return (x * x + y * y).of("sqrt").value


def _copysign(low: Lowering, call: Call) -> Value:
    x, y = _pair(low, call)
    return (x.of("abs") * _sided(y)).value


def _division(low: Lowering, call: Call) -> Value:
    """Division rounded towards zero, by composition; other cases as in ``rules_math``."""
    if call.get("rounding_mode") != "trunc" or call.dtype != _FLOAT:
        found: Value = MATH_RULES[aten.div](low, call)
        return found
    x, y = _pair(low, call)
    return _trunc(x / y).value


def _xor(low: Lowering, call: Call) -> Ref:
    if call.dtype != torch.bool:
        raise CaptureError("bitwise arithmetic on integers has no rule")
    return binary(low, "ne", call.get("self"), call.get("other"), torch.bool)


def _any_or_all(op: str) -> Rule:
    """Any and all, over the given axes, or over all: the largest (smallest) of zeros and ones."""

    def rule(low: Lowering, call: Call) -> Value:
        x = cast(low, cast(low, call.value("self"), torch.bool), _FLOAT)
        rank = max(1, len(x.shape))
        dims = tuple(d % rank for d in call.integers("dim"))
        y = low.emit(op, x, dims=dims, keepdim=bool(call.get("keepdim", False)))
        return cast(low, Ref(y.id, (), _FLOAT), torch.bool)

    return rule


def _nan_to_num(low: Lowering, call: Call) -> Value:
    largest = float(torch.finfo(_FLOAT).max)
    given = [call.get(k) for k in ("nan", "posinf", "neginf")]
    nan, high, lowest = (
        g if g is not None else d for g, d in zip(given, (0.0, largest, -largest), strict=True)
    )
    x = Formula(low, call.value("self"))
    y = Formula(low, torch.tensor(float(nan))).where(x.test("ne", x), x)
    y = Formula(low, torch.tensor(float(high))).where(x.test("eq", math.inf), y)
    return Formula(low, torch.tensor(float(lowest))).where(x.test("eq", -math.inf), y).value


def _clamp_integers(low: Lowering, call: Call) -> Value:
    """Integers are clamped by minimum and maximum; other types as in ``rules_math``."""
    bounds = [call.get(k) for k in ("min", "max")]
    if call.dtype not in (torch.int64, torch.int32) or any(
        isinstance(b, (Ref, torch.Tensor)) for b in bounds
    ):
        found: Value = MATH_RULES[getattr(aten, call.name)](low, call)
        return found
    x: Value = call.value("self")
    for op, bound in zip(("maximum", "minimum"), bounds, strict=True):
        x = x if bound is None else binary(low, op, x, bound, call.dtype)
    return x


def _norm(low: Lowering, call: Call) -> Value:
    """Orders 1 and 2 as in ``rules_math``; infinite orders are extrema, others a power, a sum and a root."""
    order = call.get("ord", call.get("p", 2))
    order = 2 if order is None or order == "fro" else float(order)
    if order in (1, 2):
        found: Value = MATH_RULES[aten.linalg_vector_norm](low, call)
        return found
    rank = max(1, len(call.value("self").shape))
    dims, keep = tuple(sorted(d % rank for d in call.integers("dim"))), bool(call.get("keepdim", False))
    size = Formula(low, low.emit("abs", call.value("self")))
    if math.isinf(order):
        return low.emit("amax" if order > 0 else "amin", size.value, dims=dims, keepdim=keep)
    if order == 0:
        ones = cast(low, size.test("ne", 0.0), _FLOAT)
        return low.emit("sum", ones, dims=dims, keepdim=keep)
    powers = low.emit("pow", size.value, scalar=float32(order))
    total = low.emit("sum", powers, dims=dims, keepdim=keep)
    return low.emit("pow", total, scalar=float32(1 / order))


def _distances(low: Lowering, call: Call) -> Value:
    """cdist: norms of all differences between rows of one and rows of the other."""
    a, b, order = call.value("x1"), call.value("x2"), float(call.get("p"))
    call.ignore("compute_mode")
    rank = len(call.shape)
    apart = low.emit(
        "sub", low.emit("unsqueeze", a, dims=(rank - 1,)), low.emit("unsqueeze", b, dims=(rank - 2,))
    )
    size = Formula(low, apart)
    if order == 2:
        return low.emit("sqrt", low.emit("sum", (size * size).value))
    size = size.of("abs")
    if order == 1:
        return low.emit("sum", size.value)
    if math.isinf(order):
        return low.emit("amax", size.value)
    powers = low.emit("pow", size.value, scalar=float32(order))
    return low.emit("pow", low.emit("sum", powers), scalar=float32(1 / order))


def _moments(low: Lowering, call: Call) -> list[Value]:
    """var_mean: the variance and the mean beside it."""
    variance, mean = call.result
    args = dict(call.args)
    first: Value = MATH_RULES[aten.var](low, Call("var", args, variance))
    second: Value = MATH_RULES[aten.mean](low, Call("mean", {**args, "dtype": None}, mean))
    call.ignore(*args)
    return [first, second]


def _bilinear(low: Lowering, call: Call) -> Value:
    """sum_ij x_i W_oij y_j + b_o."""
    x, y, weight = call.value("input1"), call.value("input2"), call.value("weight")
    product = low.emit("einsum", x, weight, y, equation="...i,oij,...j->...o")
    bias = call.maybe("bias")
    return product if bias is None else low.emit("add", product, bias)


def _sum_of_products(low: Lowering, call: Call) -> Value:
    """addbmm: beta * self + alpha * the sum over the batch of a @ b."""
    products = low.emit("matmul", call.value("batch1"), call.value("batch2"))
    total = Formula(low, low.emit("sum", products, dims=(0,))) * float(call.get("alpha", 1))
    return (total + Formula(low, call.value("self")) * float(call.get("beta", 1))).value


def _pad(low: Lowering, call: Call) -> Value:
    """Negative pads remove entries by slices; the others as in ``rules_shapes``."""
    pads = call.integers("pad")
    if min(pads, default=0) >= 0:
        found: Value = SHAPE_RULES[getattr(aten, call.name)](low, call)
        return found
    x = call.value("self")
    rank, shape = len(x.shape), list(x.shape)
    for k in range(0, len(pads), 2):
        axis, start, end = rank - 1 - k // 2, max(0, -pads[k]), min(0, pads[k + 1])
        if start or end:
            x = low.emit("slice", x, axis=axis, start=start, end=end or None)
            shape[axis] = shape[axis] - start + end
    args = {**call.args, "self": Ref(low.ref(x).id, tuple(shape), x.dtype), "pad": [max(0, p) for p in pads]}
    call.ignore(*call.args)
    padded: Value = SHAPE_RULES[getattr(aten, call.name)](low, Call(call.name, args, call.result))
    return padded


def _attention(low: Lowering, call: Call) -> Value:
    """Grouped-query attention: several heads of the query use one head of key and value."""
    rule = LAYER_RULES[aten.scaled_dot_product_attention]
    if not call.get("enable_gqa"):
        plain: Value = rule(low, call)
        return plain
    heads = call.value("query").shape[-3]
    args: dict[str, Any] = {**call.args, "enable_gqa": False}
    args |= {name: _repeated_heads(low, call.value(name), heads) for name in ("key", "value")}
    inner = Call(call.name, args, call.result)
    found: Value = rule(low, inner)
    call.ignore(*(name for name in call.args if name not in inner.unread()))
    return found


def _repeated_heads(low: Lowering, x: Value, heads: Any) -> Value:
    axis = len(x.shape) - 3
    if is_free(heads) or is_free(x.shape[axis]):
        raise CaptureError("grouped-query attention needs fixed numbers of heads")
    times = int(heads) // int(x.shape[axis])
    places = torch.arange(int(x.shape[axis])).repeat_interleave(times)
    y = low.emit("take", x, places, axis=axis)
    return Ref(y.id, (*x.shape[:axis], heads, *x.shape[axis + 1 :]), x.dtype)


ELEMENTWISE_RULES: Mapping[object, Rule] = {
    **{getattr(aten, name): _formula(name) for name in _FORMULAS},
    **{getattr(aten, name): _any_or_all(op) for name, op in (("any", "amax"), ("all", "amin"))},
    aten.fmod: _fmod,
    aten.remainder: _remainder,
    aten.atan2: _atan2,
    aten.hypot: _hypot,
    aten.copysign: _copysign,
    aten.div: _division,
    aten.divide: _division,
    aten.logical_xor: _xor,
    aten.bitwise_xor: _xor,
    aten.nan_to_num: _nan_to_num,
    aten.clamp: _clamp_integers,
    aten.clamp_min: _clamp_integers,
    aten.clamp_max: _clamp_integers,
    aten.linalg_vector_norm: _norm,
    aten.norm: _norm,
    aten.cdist: _distances,
    aten._cdist_forward: _distances,
    aten.var_mean: _moments,
    aten.bilinear: _bilinear,
    aten.addbmm: _sum_of_products,
    aten.pad: _pad,
    aten.constant_pad_nd: _pad,
    aten.scaled_dot_product_attention: _attention,
}
