"""The arithmetics of devices: how wide activations and sums are, and how a sum becomes an activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from laconic.records import ActivationRange
from laconic.runtime.emulation.fixed_point import (
    FixedPoint,
    Ints,
    multiply_double,
    multiply_single,
    multiply_wide,
)
from laconic.runtime.emulation.values import Encoding


@dataclass(frozen=True)
class Int8:
    """int8 activations and weights, int32 sums and biases: TensorFlow Lite's and CMSIS-NN's int8 kernels.

    A sum is multiplied by input scale x weight scale / output scale, as a 31-bit multiplier and a shift. It
    is rounded twice as gemmlowp does, or once with ``single_rounding`` (TFLITE_SINGLE_ROUNDING,
    CMSIS_NN_USE_SINGLE_ROUNDING).

    Args:
        single_rounding: Whether the product with the multiplier is rounded once instead of twice.

    Example:
        >>> from laconic.records import ActivationRange
        >>> Int8().encoding(ActivationRange(0, 0.5, 3)).encode(np.float32([0.25, -100])).integers.tolist()
        [4, -128]
    """

    single_rounding: bool = False

    bias_bits: ClassVar[int] = 32
    sum_bits: ClassVar[int] = 32
    add_shift: ClassVar[int] = 20

    def encoding(self, entry: ActivationRange) -> Encoding:
        """The file's range as it stands."""
        return Encoding(entry.scale, entry.zero_point, -128, 127)

    def requantised(self, sums: Ints, by: FixedPoint) -> Ints:
        """A layer's sums in units of its output."""
        return self.rescaled(sums, by)

    def rescaled(self, x: Ints, by: FixedPoint) -> Ints:
        """Any 32-bit integers times real numbers (sums of two activations, concatenations)."""
        return multiply_single(x, by) if self.single_rounding else multiply_double(x, by)


@dataclass(frozen=True)
class Int16x8:
    """int16 activations without zero point, int8 weights, int64 sums: TensorFlow Lite's 16x8 kernels.

    The scale is the larger bound of the file's range over 32,767; a sum's multiplier has 15 bits.

    Example:
        >>> from laconic.records import ActivationRange
        >>> Int16x8().encoding(ActivationRange(0, 0.5, 0)).encode(np.float32([64, -100])).integers.tolist()
        [32767, -32768]
    """

    bias_bits: ClassVar[int] = 48
    sum_bits: ClassVar[int] = 48
    add_shift: ClassVar[int] = 15

    def encoding(self, entry: ActivationRange) -> Encoding:
        """A symmetric range that covers the file's."""
        largest = max(abs(bound) for bound in entry.bounds)
        return Encoding(float(np.float32(largest / 32767)), 0, -32768, 32767)

    def requantised(self, sums: Ints, by: FixedPoint) -> Ints:
        """A layer's sums in units of its output."""
        return multiply_wide(sums, by)

    def rescaled(self, x: Ints, by: FixedPoint) -> Ints:
        """Any 32-bit integers times real numbers (sums of two activations, concatenations)."""
        return multiply_double(x, by)


@dataclass(frozen=True)
class Ternary:
    """Weights -1, 0, 1: a layer adds and subtracts activations, then multiplies once for its output.

    A layer with other weights is multiplied as under ``activations``, and ``Emulator.multiplied`` names it.

    Args:
        activations: The arithmetic of activations, biases and sums.

    Example:
        >>> Ternary().activations
        Int8(single_rounding=False)
    """

    activations: Int8 | Int16x8 = Int8()


Arithmetic = Int8 | Int16x8 | Ternary
