"""Uniform grids: round to the nearest multiple of a step that is cheap to store."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.records import IntArray, IntTensor, UniformGrid


def bfloat16(value: float, mantissa: int = 7) -> float:
    """Nearest float32 whose low 16 bits are zero (a bfloat16), which a file stores in two bytes.

    With fewer bits of mantissa than seven more of the low bits are zero; a file's codes of many steps are
    shorter then. Relative error at most 2**-(mantissa + 1). Raises InputError unless ``value`` and the result
    are finite and positive.

    >>> bfloat16(0.1), bfloat16(0.1, mantissa=2)
    (0.10009765625, 0.09375)
    """
    exact = 0.0
    if 0 < value < float(np.finfo(np.float32).max):  # no NaN and no infinity
        bits, low = int(np.float32(value).view(np.uint32)), 23 - mantissa
        rounded = (bits + (1 << low - 1) - 1 + (bits >> low & 1)) >> low << low
        exact = float(np.uint32(rounded).view(np.float32))
    if not 0 < exact < np.inf:
        raise InputError(f"a grid step must be finite and positive, got {value!r}. Cure: step=0.01")
    return exact


def nearest(values: npt.ArrayLike, step: float) -> IntArray:
    """``round(values / step)`` as int32, halves to even; any shape.

    >>> nearest([0.26, -0.9], 0.5).tolist()
    [1, -2]
    """
    quotient = np.rint(np.asarray(values, dtype=np.float64) / step)
    if quotient.size and not np.abs(quotient).max() < 2**31:
        raise InputError(
            f"step {step} is too small for values up to {np.abs(values).max()}. Cure: a larger step"
        )
    return np.array(quotient, dtype=np.int32, order="C")


def to_grid(name: str, values: npt.ArrayLike, step: float) -> IntTensor:
    """The tensor ``name`` on the nearest points of a uniform grid whose step is rounded to bfloat16."""
    exact = bfloat16(step)
    return IntTensor(name, nearest(values, exact), UniformGrid(exact))


def step_for_bits(values: npt.ArrayLike, bits: int) -> float:
    """Step of the symmetric ``bits``-wide grid that just spans ``values``: max|v| / (2^(bits-1) - 1).

    A tensor of zeros gets step 1, since every grid holds it.

    >>> step_for_bits([-3.0, 7.0], 4)
    1.0
    """
    if bits < 2:
        raise InputError(f"a signed uniform grid needs at least 2 bits, got {bits}. Cure: bits=8")
    largest = float(np.abs(np.asarray(values, dtype=np.float64)).max(initial=0.0))
    return largest / (2 ** (bits - 1) - 1) if largest > 0 else 1.0
