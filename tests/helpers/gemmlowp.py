"""The devices' arithmetic once more, in plain Python integers and loops: the oracle of the emulation.

Written from the C sources line by line (gemmlowp fixedpoint.h, TensorFlow Lite common.cc and its reference
kernels), so that it shares no code and no idea (matrix products, broadcasting) with the library's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def c_divide(a: int, b: int) -> int:
    """C's division of integers: towards zero."""
    quotient = abs(a) // abs(b)
    return quotient if (a >= 0) == (b >= 0) else -quotient


def to_int32(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def quantize_multiplier(real: float) -> tuple[int, int]:
    if real == 0.0:
        return 0, 0
    q, shift = math.frexp(real)
    fixed = math.floor(q * 2**31 + 0.5)
    if fixed == 2**31:
        fixed, shift = fixed // 2, shift + 1
    return (0, 0) if shift < -31 else (fixed, shift)


def high_mul(a: int, b: int) -> int:
    if a == b == INT32_MIN:
        return INT32_MAX
    product = a * b
    return c_divide(product + (2**30 if product >= 0 else 1 - 2**30), 2**31)


def divide_by_pot(x: int, exponent: int) -> int:
    mask = 2**exponent - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)


def multiply(x: int, multiplier: int, shift: int) -> int:
    left, right = max(shift, 0), max(-shift, 0)
    return divide_by_pot(high_mul(to_int32(x * 2**left), multiplier), right)


def multiply_single(x: int, multiplier: int, shift: int) -> int:
    total = 31 - shift
    return to_int32((x * multiplier + 2 ** (total - 1)) >> total)


def multiply_wide(x: int, multiplier: int, shift: int) -> int:
    reduced = (multiplier + 2**15) >> 16 if multiplier < 0x7FFF0000 else 0x7FFF
    total = 15 - shift
    return to_int32((x * reduced + 2 ** (total - 1)) >> total)


def clamp(x: int, low: int, high: int) -> int:
    return min(max(x, low), high)


Image = list[list[list[int]]]


def conv_sum(
    x: Image,
    kernel: Image,
    at: tuple[int, int],
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    first_channel: int = 0,
) -> int:
    """One output pixel of one filter, over centred integers; what lies outside the image is zero."""
    total = 0
    for c, plane in enumerate(kernel):
        for i, row in enumerate(plane):
            for j, weight in enumerate(row):
                y, z = at[0] * stride - padding + i * dilation, at[1] * stride - padding + j * dilation
                image = x[first_channel + c]
                if 0 <= y < len(image) and 0 <= z < len(image[0]):
                    total += weight * image[y][z]
    return total


def linear_sum(x: Sequence[int], weights: Sequence[int]) -> int:
    return sum(a * b for a, b in zip(x, weights, strict=True))


def scaled_mean(values: Sequence[int], zero: int) -> int:
    """MEAN (QuantizedMeanOrSum of reduce.h), input and output in one encoding."""
    count, multiplier, output_shift = len(values), 2**30, 1
    shift = min(count.bit_length() - 1, 32, 31 + output_shift)
    return multiply(sum(values) - zero * count, multiplier * 2**shift // count, output_shift - shift) + zero


def rounded_mean(values: Sequence[int], count: int) -> int:
    """The average pooling of integers as they are (zero point included)."""
    total = sum(values)
    return c_divide(total + count // 2, count) if total > 0 else c_divide(total - count // 2, count)


def add_int8(a: int, b: int, scales: tuple[float, float, float], zeros: tuple[int, int, int]) -> int:
    """Two int8 activations, TensorFlow Lite's ADD (left shift 20), before saturation."""
    twice = 2 * max(scales[0], scales[1])
    one = multiply((a - zeros[0]) * 2**20, *quantize_multiplier(scales[0] / twice))
    two = multiply((b - zeros[1]) * 2**20, *quantize_multiplier(scales[1] / twice))
    return multiply(one + two, *quantize_multiplier(twice / (2**20 * scales[2]))) + zeros[2]
