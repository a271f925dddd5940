"""Multiplying an integer by a real number with a multiplier and a shift, bit for bit as devices do it.

gemmlowp ``fixedpoint/fixedpoint.h`` (SaturatingRoundingDoublingHighMul, RoundingDivideByPOT); TensorFlow Lite
``kernels/internal/quantization_util.cc`` (QuantizeMultiplier) and ``kernels/internal/common.cc``
(MultiplyByQuantizedMultiplier for 32 bits with two roundings or one, and for 64 bits); CMSIS-NN's
``arm_nn_requantize`` and ``arm_nn_requantize_s64`` compute the same. B. Jacob et al., "Quantization and
training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018, section 2.2.

All arrays are int64 here and hold what a device keeps in 32 (or 64) bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError

Ints = npt.NDArray[np.int64]
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Real numbers ``multiplier * 2^(shift - 31)``, multiplier in 2^30 .. 2^31 - 1 (or 0)."""

    multiplier: Ints
    shift: Ints

    def reshape(self, *shape: int) -> FixedPoint:
        """The same numbers in another shape, to broadcast along an axis."""
        return FixedPoint(self.multiplier.reshape(shape), self.shift.reshape(shape))


def quantize_multiplier(real: npt.ArrayLike) -> FixedPoint:
    """Non-negative real numbers as a 31-bit multiplier and a shift; what lies below 2^-32 becomes 0.

    >>> fixed = quantize_multiplier([0.5, 1.0, 3.0])
    >>> (fixed.multiplier / 2**30).tolist(), fixed.shift.tolist()
    ([1.0, 1.0, 1.5], [0, 1, 2])
    """
    mantissa, exponent = np.frexp(np.asarray(real, dtype=np.float64))
    multiplier = np.floor(mantissa * 2.0**31 + 0.5).astype(
        np.int64
    )  # half away from zero: it is not negative
    shift = exponent.astype(np.int64)
    whole = multiplier == 2**31
    multiplier, shift = np.where(whole, 2**30, multiplier), np.where(whole, shift + 1, shift)
    gone = (shift < -31) | (multiplier == 0)
    return FixedPoint(np.where(gone, 0, multiplier), np.where(gone, 0, shift))


def wrap32(x: Ints) -> Ints:
    """What a 32-bit register keeps of an integer (two's complement)."""
    return ((x + 2**31) & 0xFFFFFFFF) - 2**31


def saturating_rounding_doubling_high_mul(a: Ints, b: Ints) -> Ints:
    """The upper half of ``2 a b``, rounded to the nearest, ties up; -2^31 squared saturates.

    The source says ``(a b + nudge) / 2^31``, the division towards zero, nudge 2^30 or, below zero, 1 - 2^30:
    that is ``floor((a b + 2^30) / 2^31)`` for either sign.
    """
    return np.asarray(np.minimum((a * b + 2**30) >> 31, INT32_MAX))


def rounding_divide_by_pot(x: Ints, exponent: Ints) -> Ints:
    """``x / 2^exponent`` rounded to the nearest, ties away from zero; exponent in 0..31.

    >>> rounding_divide_by_pot(np.array([5, -5, 6, -7]), np.array(1)).tolist()
    [3, -3, 3, -4]
    """
    half = (np.int64(1) << exponent) >> 1
    return np.asarray((x + half - ((x < 0) & (exponent > 0))) >> exponent)


def multiply_double(x: Ints, by: FixedPoint) -> Ints:
    """A 32-bit integer times a real number, rounded twice (TensorFlow Lite's and CMSIS-NN's default).

    Raises ``InputError`` for numbers of 2^30 and more, which the kernels do not shift by.
    """
    _check_shift(by)
    shifted = wrap32(x << np.maximum(by.shift, 0)) if np.any(by.shift > 0) else x
    return rounding_divide_by_pot(
        saturating_rounding_doubling_high_mul(shifted, by.multiplier), np.maximum(-by.shift, 0)
    )


def multiply_single(x: Ints, by: FixedPoint) -> Ints:
    """A 32-bit integer times a real number, rounded once, ties up (TFLITE_SINGLE_ROUNDING)."""
    _check_shift(by)
    total = 31 - by.shift
    return wrap32((x * by.multiplier + (np.int64(1) << (total - 1))) >> total)


def _check_shift(by: FixedPoint) -> None:
    if np.any(by.shift > 30):
        raise InputError(
            f"an output's scale is 2^{int(by.shift.max())} times smaller than its products' steps. "
            "Cure: calibrate on batches that are like the data"
        )


def multiply_wide(x: Ints, by: FixedPoint) -> Ints:
    """A 48-bit integer times a real number whose multiplier is cut to 15 bits, rounded once (16x8 kernels).

    Raises ``InputError`` outside the kernels' own bounds: shifts -31..7, sums below 2^47.
    """
    if np.any(by.shift > 7) or np.any(np.abs(x) >= 2**47):
        raise InputError(
            "a 16-bit layer's sum or multiplier is beyond what 16x8 kernels hold (2^47, 2^7). "
            "Cure: calibrate on batches that are like the data"
        )
    reduced = np.where(by.multiplier < 0x7FFF0000, (by.multiplier + 2**15) >> 16, 0x7FFF)
    total = 15 - by.shift
    return wrap32((x * reduced + (np.int64(1) << (total - 1))) >> total)


def round_away(x: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """To the nearest integer, ties away from zero (C's ``round``).

    >>> round_away(np.array([0.5, -0.5, 1.4])).tolist()
    [1.0, -1.0, 1.0]
    """
    wide = x.astype(np.float64)
    return np.trunc(wide + np.copysign(0.5, wide))
