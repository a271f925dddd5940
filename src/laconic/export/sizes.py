"""Sizes known only at run time, as values of the graph; torch.export writes them as symbolic expressions.

Most are the size of some value's axis, which the operation ``size`` returns. The others are arithmetic on
those: a product of two, a half, one more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from laconic.errors import CaptureError

INTEGER, REAL = torch.int64, torch.float32
Size = int | torch.SymInt
Shape = tuple[Size, ...]


@dataclass(frozen=True)
class Ref:
    """A value of the graph (id >= 0) or a tensor of the file (id < 0), with what is known of it.

    ``fill`` is set when every entry is known to be that number, ``arange_step`` when the value is
    ``0, step, 2 step, ...`` up to a free size.
    """

    id: int
    shape: Shape
    dtype: torch.dtype
    fill: float | None = None
    arange_step: int | None = None


class Lowering(Protocol):
    """The part of ``Lowering`` used here: ``places`` where a size can be read, ``sizes`` already computed."""

    places: dict[Any, tuple[Ref, int]]
    sizes: dict[Any, Ref]

    def emit(self, op: str, *inputs: Any, **attrs: Any) -> Ref:
        """Add a node."""
        ...

    def ref(self, value: Any) -> Ref:
        """The reference to a constant."""
        ...


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
    op = _REAL.get(kind)
    if op is None:
        raise CaptureError(f"the number {expr} is computed from free sizes in a way that has no rule")
    return _folded(low, op, [real_value(low, part) for part in expr.args], REAL)


def _computed(low: Lowering, expr: Any) -> Ref:
    """Integer arithmetic, for an expression that is not the size of a value."""
    kind = type(expr).__name__
    if expr.is_Integer:
        return low.ref(torch.tensor(int(expr)))
    if kind in _ROUNDED:
        return _ROUNDED[kind](low, expr)
    if expr.is_Pow and expr.exp.is_Integer and 1 < int(expr.exp) <= 4:
        return _folded(low, "mul", [size_value(low, expr.base)] * int(expr.exp), INTEGER)
    op = _WHOLE.get(kind)
    if op is None or not expr.args:
        raise CaptureError(f"the size {expr} is computed from free sizes in a way that has no rule")
    return _folded(low, op, [size_value(low, part) for part in expr.args], INTEGER)


_REAL = {
    "Add": "add",
    "Mul": "mul",
    "Pow": "pow",
    "IntTrueDiv": "div",
    "FloatTrueDiv": "div",
    "FloatPow": "pow",
}

_WHOLE = {
    "Add": "add",
    "Mul": "mul",
    "FloorDiv": "floor_divide",
    "CleanDiv": "floor_divide",
    "Mod": "remainder",
    "PythonMod": "remainder",
    "Max": "maximum",
    "Min": "minimum",
}


def _quotient(low: Lowering, expr: Any) -> tuple[Any, Any]:
    """Dividend and divisor of a rounded division: int(n / 2), ceil(n / 2)."""
    inner = expr.args[0]
    if type(inner).__name__ != "IntTrueDiv":
        raise CaptureError(f"the size {expr} is computed from free sizes in a way that has no rule")
    above, below = inner.args
    return above, below


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
    return Ref(value.id, (), kind)
