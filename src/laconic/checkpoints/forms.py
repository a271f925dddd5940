"""How a tensor of a checkpoint is stored: on a grid, rounded to 16 bits, or bit for bit."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from laconic.errors import InputError
from laconic.pack.file.choose import plan_alone
from laconic.pack.kinds.pieces import encode_pieces
from laconic.pack.wire.headers import header_bits
from laconic.quantize.entropy_coded import (
    GridChoice,
    Rows,
    StepTooSmall,
    choose_grid,
    grid_at_high_rate,
    grid_of_step,
    quantize_rows,
)
from laconic.quantize.lattice import own_grid
from laconic.records import FloatArray, IntTensor, RawTensor, Tensor
from laconic.records.element_types import ByteArray, element_type
from laconic.records.typed import ROUNDED_TYPES, ExactTensor, RoundedTensor

MOST_BITS = 16.0
"""From this rate on a tensor is stored bit for bit where that is not longer."""
_LARGEST_RATE = 24.0  # float32 has no finer values
_HALF_ERROR = 2.0**-11
_LARGEST_HALF = 65504.0


class Rate(NamedTuple):
    """What a matrix may take: bits a weight, or a step in units of its root mean square; one of them.

    Attributes:
        bits: Entropy-coded bits a weight.
        step: The step.

    >>> Rate(bits=3.5).step is None
    True
    """

    bits: float | None = None
    step: float | None = None


class Form(NamedTuple):
    """A stored tensor, what it is in words, and its relative error."""

    tensor: Tensor
    words: str
    error: float


def is_quantised(shape: tuple[int, ...], kind: str) -> bool:
    """Whether a tensor becomes integers on a grid: a floating matrix of more than 8 bits an element.

    >>> is_quantised((64, 3, 3, 3), "bfloat16"), is_quantised((64,), "float32")
    (True, False)
    """
    return len(shape) >= 2 and math.prod(shape) > 0 and kind in ROUNDED_TYPES


def rows_of(data: ByteArray, shape: tuple[int, ...], kind: str) -> Rows:
    """Rows of a tensor as float32, converted when they are asked for."""
    width = math.prod(shape[1:])
    if kind == "bfloat16":
        bits = data.view("<u2").reshape(-1, width)
        return lambda first, last: (bits[first:last].astype(np.uint32) << 16).view(np.float32)
    values = data.view(np.dtype(kind).newbyteorder("<")).reshape(-1, width)

    def converted(first: int, last: int) -> FloatArray:
        with np.errstate(over="ignore"):
            return values[first:last].astype(np.float32)

    return converted


def quantised(name: str, data: ByteArray, shape: tuple[int, ...], kind: str, rate: Rate) -> Form:
    """A matrix on its grid; bit for bit where it has none (zeros, NaN, infinities, denormal numbers)."""
    rows, matrix = rows_of(data, shape, kind), (shape[0], math.prod(shape[1:]))
    try:
        if rate.step is not None:
            found = on_grid(name, rows, shape, kind, grid_of_step(rows, matrix, rate.step))
            return _with_weights(found, rate)
        bits = rate.bits or 0.0
        own = own_grid(rows, matrix)
        if own is not None and own.bits <= bits:
            return on_grid(name, rows, shape, kind, own)
        if bits < MOST_BITS:
            with suppress(StepTooSmall):  # the sample's entropy does not reach the rate
                return on_grid(name, rows, shape, kind, choose_grid(rows, matrix, bits))
        as_it_is = exact(name, data, shape, kind)
        if _exact_bytes(as_it_is) <= bits * math.prod(shape) / 8 or bits > _LARGEST_RATE:
            return as_it_is
        found = on_grid(name, rows, shape, kind, grid_at_high_rate(rows, matrix, bits))
        return found if _grid_bytes(found) < _exact_bytes(as_it_is) else as_it_is
    except StepTooSmall:
        if rate.step is not None:  # the caller's own
            raise
        return exact(name, data, shape, kind)
    except InputError as error:
        if "not finite" in str(error) or "float16" in str(error):
            return exact(name, data, shape, kind)
        raise


def _with_weights(form: Form, rate: Rate) -> Form:
    """The form as it is; raises InputError where the caller's step rounds all of its weights to zero."""
    part = form.tensor.part if isinstance(form.tensor, RoundedTensor) else form.tensor
    if isinstance(part, IntTensor) and not part.integers.any():
        raise InputError(
            f"a step of {rate.step:g} root mean squares rounds all of its weights to zero. "
            "Cure: a smaller step, as 0.5, or keep with the tensor's name"
        )
    return form


def _exact_bytes(form: Form) -> int:
    """Bytes that a tensor takes bit for bit."""
    if not isinstance(form.tensor, ExactTensor):
        raise InputError(f"tensor {form.tensor.name!r} is not exact")
    kind = element_type(form.tensor.type)
    return encode_pieces(form.tensor.data, kind, kind.floating).bytes


def _grid_bytes(form: Form) -> float:
    """Bytes that a tensor on a grid takes; a table of many classes counts in a small one."""
    part = form.tensor.part if isinstance(form.tensor, RoundedTensor) else form.tensor
    if not isinstance(part, IntTensor):
        raise InputError(f"tensor {form.tensor.name!r} is not on a grid")
    plan = plan_alone(part)
    return (header_bits(plan.header, None) + plan.bits) / 8


def on_grid(name: str, rows: Rows, shape: tuple[int, ...], kind: str, choice: GridChoice) -> Form:
    """A matrix on a grid that was chosen."""
    part = quantize_rows(name, rows, shape, choice.grid, choice.thresholds)
    largest = max(choice.steps) * max(int(part.integers.max()), -int(part.integers.min()))
    if kind == "float16" and largest > _LARGEST_HALF:
        raise InputError(f"values up to {largest} leave float16")
    per = "a step per row" if len(choice.steps) > 1 else "one step"
    form = part if kind == "float32" else RoundedTensor(name, part.renamed(""), kind)
    return Form(form, f"{max(0.0, choice.bits):.2f} bits, {per}", choice.error)


def exact(name: str, data: ByteArray, shape: tuple[int, ...], kind: str) -> Form:
    """A tensor bit for bit."""
    return Form(ExactTensor(name, shape, kind, data), f"exact {kind}", 0.0)


def in_16_bits(name: str, data: ByteArray, shape: tuple[int, ...], kind: str) -> Form:
    """A float32 vector as float16, if that moves each value by at most 2^-11 of it or of their root mean
    square and is shorter; else, and any other tensor, bit for bit. Zeros, and one value many times, take a
    few bytes bit for bit.
    """
    if kind == "float32" and len(shape) < 2 and data.size > 0:
        values = data.view("<f4").astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            half = values.astype(np.float16)
            error = np.abs(half.astype(np.float32) - values)
            size = np.maximum(np.abs(values), math.sqrt(float(np.square(values, dtype=np.float64).mean())))
            if bool((error <= _HALF_ERROR * size).all()) and bool(np.isfinite(half).all()):
                as_it_is = exact(name, data, shape, kind)
                if _exact_bytes(as_it_is) <= half.nbytes:
                    return as_it_is
                part = RawTensor("", half.reshape(shape))
                norm = float(np.square(values, dtype=np.float64).sum())
                relative = math.sqrt(float(np.square(error, dtype=np.float64).sum()) / norm) if norm else 0.0
                return Form(RoundedTensor(name, part, kind), "float16", relative)
    return exact(name, data, shape, kind)
