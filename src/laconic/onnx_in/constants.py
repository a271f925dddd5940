"""ONNX operators on constants, by NumPy alone: what each gives, and how many bytes before it is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from laconic.onnx_in.arrays import KINDS
from laconic.onnx_in.messages import Call
from laconic.records import AnyArray

Operands = Sequence[AnyArray | None]
Rule = Callable[[Call, Operands], AnyArray]
"""A node's output from its inputs. Raises ValueError, TypeError or IndexError where they do not fit."""


def _whole(call: Call, name: str, default: int) -> int:
    found = call.attrs.get(name, default)
    if not isinstance(found, int):
        raise TypeError(f"attribute {name} is no integer")
    return found


def _given(operands: Operands, index: int) -> AnyArray:
    found = operands[index] if index < len(operands) else None
    if found is None:
        raise TypeError(f"input {index} is absent")
    return found


def _axes(call: Call, operands: Operands, index: int, name: str = "axes") -> tuple[int, ...] | None:
    """Integers of an input or, in older versions, of an attribute; None where neither is there."""
    if index < len(operands) and operands[index] is not None:
        return tuple(int(x) for x in _given(operands, index).reshape(-1))
    found = call.attrs.get(name)
    return tuple(int(x) for x in found) if isinstance(found, tuple) else None  # type: ignore[arg-type]


def _floats(*operands: AnyArray) -> None:
    """Integers overflow and divide in ways of their own."""
    if any(x.dtype.kind != "f" for x in operands) or len({x.dtype for x in operands}) > 1:
        raise TypeError("arithmetic of other types than one floating type")


def _pair(function: Callable[[AnyArray, AnyArray], AnyArray]) -> Rule:
    def rule(call: Call, operands: Operands) -> AnyArray:
        if call.attrs:
            raise TypeError("the broadcasting of ONNX before version 7")
        a, b = _given(operands, 0), _given(operands, 1)
        _floats(a, b)
        return function(a, b)

    return rule


def _single(function: Callable[[AnyArray], AnyArray]) -> Rule:
    def rule(call: Call, operands: Operands) -> AnyArray:
        x = _given(operands, 0)
        _floats(x)
        return function(x)

    return rule


def _identity(call: Call, operands: Operands) -> AnyArray:
    return _given(operands, 0)


def _cast(call: Call, operands: Operands) -> AnyArray:
    x, kind = _given(operands, 0), KINDS.get(_whole(call, "to", 0))
    if kind is None or kind == "bfloat16" or (x.dtype.kind == "f" and kind[0] not in "f"):
        raise TypeError("a cast to a type that NumPy does not round to as ONNX does")
    return x.astype(kind)


def _reshape(call: Call, operands: Operands) -> AnyArray:
    x, given = _given(operands, 0), _given(operands, 1)
    shape = [int(n) for n in given]
    if given.dtype != np.int64 or min(shape, default=0) < -1:
        raise TypeError("a shape that is none")
    if not _whole(call, "allowzero", 0):
        shape = [x.shape[k] if n == 0 else n for k, n in enumerate(shape)]
    return x.reshape(shape)


def _transpose(call: Call, operands: Operands) -> AnyArray:
    return _given(operands, 0).transpose(_axes(call, (), 0, "perm"))


def _unsqueeze(call: Call, operands: Operands) -> AnyArray:
    return np.expand_dims(_given(operands, 0), _axes(call, operands, 1) or ())


def _squeeze(call: Call, operands: Operands) -> AnyArray:
    return _given(operands, 0).squeeze(_axes(call, operands, 1))


def _flatten(call: Call, operands: Operands) -> AnyArray:
    x, axis = _given(operands, 0), _whole(call, "axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _concat(call: Call, operands: Operands) -> AnyArray:
    parts = [_given(operands, k) for k in range(len(operands))]
    if len({part.dtype for part in parts}) > 1:
        raise TypeError("parts of several types")
    return np.concatenate(parts, _whole(call, "axis", 0))


def _slice(call: Call, operands: Operands) -> AnyArray:
    x = _given(operands, 0)
    starts, ends = _axes(call, operands, 1, "starts"), _axes(call, operands, 2, "ends")
    if starts is None or ends is None:
        raise TypeError("a slice without bounds")
    axes = _axes(call, operands, 3) or tuple(range(len(starts)))
    steps = _axes(call, operands, 4, "steps") or (1,) * len(starts)
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise ValueError("a slice backwards")
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


def _gather(call: Call, operands: Operands) -> AnyArray:
    index = _given(operands, 1)
    if index.dtype.kind != "i":
        raise TypeError("indices that are no integers")
    return np.take(_given(operands, 0), index.astype(np.int64), _whole(call, "axis", 0))


def _dequantize(call: Call, operands: Operands) -> AnyArray:
    r""":math:`y = (x - z) s`: one scale, one along an axis, or one for each block along it."""
    x, scale = _given(operands, 0), _given(operands, 1)
    if x.dtype.kind not in "iu" or scale.dtype.kind != "f" or _whole(call, "output_dtype", 0):
        raise TypeError("no integers, no scale, or a type of the result that is not the scale's")
    zero = np.zeros((), x.dtype) if len(operands) < 3 or operands[2] is None else _given(operands, 2)
    axis, block = _whole(call, "axis", 1), _whole(call, "block_size", 0)
    shifted = x.astype(np.int64) - _along(zero, x, axis, block).astype(np.int64)
    return (shifted.astype(np.float32) * _along(scale, x, axis, block)).astype(scale.dtype)


def _along(each: AnyArray, x: AnyArray, axis: int, block: int) -> AnyArray:
    """A scale or zero point in a shape that broadcasts against ``x``."""
    if each.size == 1:
        return each.reshape(())
    length = x.shape[axis]
    if block > 0 and each.ndim == x.ndim and each.shape[axis] == -(-length // block):
        return np.repeat(each, min(block, length), axis).take(range(length), axis)
    if block or each.shape != (length,):
        raise ValueError("a scale that does not fit")
    shape = [1] * x.ndim
    shape[axis] = -1
    return each.reshape(shape)


def _norm(call: Call, operands: Operands) -> AnyArray:
    """``ReduceL2``: the root of the sum of squares along axes."""
    x = _given(operands, 0)
    _floats(x)
    keep = bool(_whole(call, "keepdims", 1))
    axes = _axes(call, operands, 1) or None  # no axes: all of them, unless an attribute says none
    if axes is None and _whole(call, "noop_with_empty_axes", 0):
        raise TypeError("a norm over no axis")
    found: AnyArray = np.sqrt(np.square(x).sum(axes, keepdims=keep, dtype=x.dtype))
    return found


RULES: Mapping[str, Rule] = {
    "Identity": _identity,
    "Cast": _cast,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Flatten": _flatten,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "DequantizeLinear": _dequantize,
    "ReduceL2": _norm,
    "Mul": _pair(np.multiply),
    "Div": _pair(np.divide),
    "Add": _pair(np.add),
    "Sub": _pair(np.subtract),
    "Neg": _single(np.negative),
    "Sqrt": _single(np.sqrt),
    "Abs": _single(np.abs),
}
"""Operators whose output is computed where all of their inputs are constants."""

_WIDEST = 8
"""Bytes of an element of a result, at most."""


def bytes_of(call: Call, operands: Operands) -> int:
    """An upper bound of the bytes of a node's output, before it is computed.

    Raises ValueError where the inputs' shapes do not fit.

    >>> call = Call("Add", "", "", ("a", "b"), ("y",), {})
    >>> bytes_of(call, [np.zeros((3, 1), np.float32), np.zeros(5, np.float32)])
    120
    """
    shapes = [x.shape for x in operands if x is not None]
    if call.kind in ("Mul", "Div", "Add", "Sub"):
        return _WIDEST * math.prod(np.broadcast_shapes(*shapes))
    if call.kind == "Gather" and len(shapes) == 2 and shapes[0]:
        return _WIDEST * math.prod(shapes[0]) * math.prod(shapes[1])
    return _WIDEST * sum(math.prod(shape) for shape in shapes)
