"""Sizes that only a call tells, as values of the graph: what torch.export writes as expressions of symbols.

Most are the size of some value's axis, which the graph can ask for (``size``). What is left is arithmetic on
those: a product of two, a half, one more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from laconic.errors import CaptureError

if TYPE_CHECKING:
    from laconic.export.lowering import Lowering, Ref

INTEGER, REAL = torch.int64, torch.float32


def size_value(low: Lowering, expr: Any) -> Ref:
    """An integer expression of sizes as an int64 value without dimensions, computed once for each expression.

    Raises ``CaptureError`` for an expression that the graph's integer arithmetic does not have.
    """
    if expr not in low.sizes:
        place = low.places.get(expr)
        if place is not None:
            value, axis = place
            low.sizes[expr] = _scalar(low.emit("size", value, axis=axis), INTEGER)
        else:
            low.sizes[expr] = _computed(low, expr)
    return low.sizes[expr]


def real_value(low: Lowering, expr: Any) -> Ref:
    """A real expression of sizes (a mean's divisor, a scale) as a float32 value without dimensions."""
    from sympy import Add, Mul, Pow

    kind = type(expr).__name__
    if kind == "ToFloat" or expr.is_integer:
        whole = expr.args[0] if kind == "ToFloat" else expr
        if whole.is_number:
            return low.ref(torch.tensor(float(whole)))
        return _scalar(low.emit("cast", size_value(low, whole), to="float32"), REAL)
    if expr.is_number:
        return low.ref(torch.tensor(float(expr)))
    if kind.endswith("_sqrt"):
        return _scalar(low.emit("sqrt", real_value(low, expr.args[0])), REAL)
    joined: dict[Any, str] = {Add: "add", Mul: "mul", Pow: "pow"}
    op = joined.get(expr.func) or {"IntTrueDiv": "div", "FloatTrueDiv": "div", "FloatPow": "pow"}.get(kind)
    if op is None:
        raise CaptureError(f"the number {expr} is computed from free sizes in a way that has no rule")
    return _folded(low, op, [real_value(low, part) for part in expr.args], REAL)


def _computed(low: Lowering, expr: Any) -> Ref:
    """Integer arithmetic, for an expression that is no value's size."""
    from sympy import Add, Integer, Mul, Pow

    kind = type(expr).__name__
    if isinstance(expr, Integer):
        return low.ref(torch.tensor(int(expr)))
    if kind in _ROUNDED:
        return _ROUNDED[kind](low, expr)
    if isinstance(expr, Pow) and isinstance(expr.exp, Integer) and 1 < int(expr.exp) <= 4:
        return _folded(low, "mul", [size_value(low, expr.base)] * int(expr.exp), INTEGER)
    op = {Add: "add", Mul: "mul"}.get(expr.func) or _WHOLE.get(kind)
    if op is None or not expr.args:
        raise CaptureError(f"the size {expr} is computed from free sizes in a way that has no rule")
    return _folded(low, op, [size_value(low, part) for part in expr.args], INTEGER)


_WHOLE = {
    "FloorDiv": "floor_divide",
    "CleanDiv": "floor_divide",
    "Mod": "remainder",
    "PythonMod": "remainder",
    "Max": "maximum",
    "Min": "minimum",
}


def _quotient(low: Lowering, expr: Any) -> tuple[Any, Any]:
    """The two sides of the division that a rounding is of: int(n / 2), ceil(n / 2)."""
    inner = expr.args[0]
    if type(inner).__name__ != "IntTrueDiv":
        raise CaptureError(f"the size {expr} is computed from free sizes in a way that has no rule")
    return inner.args


def _down(low: Lowering, expr: Any) -> Ref:
    """A quotient of sizes, which are not negative, rounded down (or towards zero)."""
    above, below = _quotient(low, expr)
    return _folded(low, "floor_divide", [size_value(low, above), size_value(low, below)], INTEGER)


def _up(low: Lowering, expr: Any) -> Ref:
    """Rounded up: the divisor less one is added first."""
    above, below = expr.args if len(expr.args) == 2 else _quotient(low, expr)
    return _folded(low, "floor_divide", [size_value(low, above + below - 1), size_value(low, below)], INTEGER)


_ROUNDED: dict[str, Callable[[Lowering, Any], Ref]] = {
    "FloorToInt": _down,
    "TruncToInt": _down,
    "CeilToInt": _up,
    "CeilDiv": _up,
}


def _folded(low: Lowering, op: str, parts: list[Ref], kind: torch.dtype) -> Ref:
    """One operation over two values or more, from the left."""
    total = parts[0]
    for part in parts[1:]:
        total = _scalar(low.emit(op, total, part), kind)
    return total


def _scalar(value: Ref, kind: torch.dtype) -> Ref:
    from laconic.export.lowering import Ref

    return Ref(value.id, (), kind)
