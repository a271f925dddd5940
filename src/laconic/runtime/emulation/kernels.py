"""Integer sums of layers, averages, additions and concatenations, each as the devices' kernels define it.

TensorFlow Lite ``kernels/internal/reference/integer_ops/`` (conv.h, fully_connected.h, pooling.h, add.h),
``reference/reduce.h`` (QuantizedMeanOrSum), and ``kernels/add.cc`` for the scales of a sum. The tests hold
integers of TensorFlow Lite for Microcontrollers and of LiteRT against these functions
(``studies/tflite_vectors.py``).

Sums are computed by floating-point matrix products that are exact: a bound on their size is below 2^24 for
float32, below 2^53 for float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from laconic.errors import CorruptFileError, InputError
from laconic.pack.graph.ops import flag_of, int_of, ints_of
from laconic.records import AnyArray, Node
from laconic.runtime.emulation.arithmetic import Int8, Int16x8
from laconic.runtime.emulation.fixed_point import FixedPoint, Ints, quantize_multiplier
from laconic.runtime.emulation.needs import PIECE
from laconic.runtime.emulation.values import Encoding, Quantised
from laconic.runtime.int8.transposed import margins
from laconic.runtime.ops.windows import both_ends, spread, window_of


def linear_sums(x: Ints, weight: npt.NDArray[np.int8], adds_only: bool) -> Ints:
    """``sum_i x[.., i] w[o, i]``: (.., I) and (O, I) -> (.., O)."""
    if x.shape[-1] != weight.shape[1]:
        raise InputError(
            f"a linear layer of {weight.shape[1]} inputs met {x.shape[-1]}. Cure: inputs whose last axis has "
            f"{weight.shape[1]} numbers"
        )
    wide = x.reshape(-1, x.shape[-1]).astype(_exact(x, weight))
    return _products(wide, weight.T, adds_only).reshape(*x.shape[:-1], len(weight))


def conv_sums(x: Ints, weight: npt.NDArray[np.int8], node: Node, adds_only: bool) -> Ints:
    """The convolution's sums, zeros around ``x``: (N, C, ..) and (O, C / groups, ..) -> (N, O, ..)."""
    own = window_of(node, weight.ndim - 2)
    wide = x.astype(_exact(x, weight))
    windows = windows_of(wide, weight.shape[2:], own.stride, own.pads, own.dilation)
    return _window_sums(windows, weight, own.groups, adds_only)


def conv_transpose_sums(x: Ints, weight: npt.NDArray[np.int8], node: Node, adds_only: bool) -> Ints:
    """The transposed convolution's sums; ``weight`` as :func:`as_rows` has it: (N, C, ..) -> (N, O, ..).

    Inputs stand ``stride`` apart with zeros between, and a convolution of stride 1 runs over them.
    """
    kernel = weight.shape[2:]
    n = len(kernel)
    own = window_of(node, n)
    sizes = [(size - 1) * s + 1 for size, s in zip(x.shape[2:], own.stride, strict=True)]
    apart = np.zeros((*x.shape[:2], *sizes), _exact(x, weight))
    apart[(slice(None), slice(None), *(slice(None, None, s) for s in own.stride))] = x
    before, after = margins(own, kernel)
    cut = [slice(max(0, -b), size - max(0, -a)) for b, a, size in zip(before, after, sizes, strict=True)]
    pads = [max(0, p) for p in (*before, *after)]
    windows = windows_of(apart[(slice(None), slice(None), *cut)], kernel, [1] * n, pads, own.dilation)
    return _window_sums(windows, weight, own.groups, adds_only)


def _window_sums(windows: AnyArray, weight: npt.NDArray[np.int8], groups: int, adds_only: bool) -> Ints:
    """Sums of (N, C, where.., kernel..) windows times (O, C / groups, kernel..) weights: (N, O, where..)."""
    n = weight.ndim - 2
    count, channels = windows.shape[:2]
    if channels != groups * weight.shape[1] or len(weight) % groups:
        raise CorruptFileError(f"weights {weight.shape} in {groups} groups do not fit {channels} channels")
    where, inputs, outputs = windows.shape[2 : 2 + n], weight.shape[1], len(weight) // groups
    rows = weight.reshape(groups, outputs, -1).transpose(0, 2, 1)  # (groups, inputs x kernel, outputs)
    out = np.empty((count, groups, outputs, *where), np.int64)
    step = max(1, PIECE // max(1, windows[:1].size))
    for start in range(0, count, step):
        piece = windows[start : start + step]
        grouped = piece.reshape(len(piece), groups, inputs, *piece.shape[2:])
        last = np.moveaxis(np.moveaxis(grouped, 1, 0), 2, 2 + n)  # (groups, N, where.., inputs, kernel..)
        sums = _products(last.reshape(groups, -1, rows.shape[1]), rows, adds_only)
        sums = np.moveaxis(sums.reshape(groups, len(piece), *where, outputs), -1, 1)
        out[start : start + step] = np.moveaxis(sums, 2, 0)
    return out.reshape(count, len(weight), *where)


def windows_of(
    x: AnyArray, kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int], dilation: Sequence[int]
) -> AnyArray:
    """A view of all windows of the zero-padded array: (N, C, where.., kernel..)."""
    n = len(kernel)
    padded = np.pad(x, ((0, 0), (0, 0), *zip(pads[:n], pads[n:], strict=True)))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if any(size < span for size, span in zip(padded.shape[2:], spans, strict=True)):
        raise InputError(
            f"a window of {tuple(spans)} does not fit an image of {padded.shape[2:]}. Cure: a larger image"
        )
    view = np.lib.stride_tricks.sliding_window_view(padded, spans, tuple(range(2, 2 + n)))
    steps = (*(slice(None, None, s) for s in stride), *(slice(None, None, d) for d in dilation))
    return np.asarray(view[(slice(None), slice(None), *steps)])


def _exact(x: Ints, weight: npt.NDArray[np.int8]) -> type[np.floating]:
    """The floating-point type in which all sums of these products are exact integers."""
    rows = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(1)
    largest = int(np.abs(x).max(initial=0)) * int(rows.max(initial=0))
    if largest >= 2**53:
        raise InputError(
            f"a layer's sums may reach {largest}, beyond exact arithmetic. Cure: a layer of fewer inputs"
        )
    return np.float32 if largest < 2**24 else np.float64


def _products(x: AnyArray, weight: npt.NDArray[np.int8], adds_only: bool) -> Ints:
    """An exact integer matrix product, by multiplications or by additions and subtractions alone."""
    kind = x.dtype
    if adds_only:
        sums = x @ (weight == 1).astype(kind) - x @ (weight == -1).astype(kind)
    else:
        sums = x @ weight.astype(kind)
    return np.asarray(sums, np.int64)


def check_sums(sums: Ints, bits: int) -> Ints:
    """Refuse sums that a device's accumulator does not hold: there they would wrap."""
    bound = 2 ** (bits - 1)
    worst = int(np.abs(sums).max(initial=0))
    if worst >= bound:
        raise InputError(
            f"sums reach {worst} and overflow the {bits}-bit accumulator. "
            "Cure: Int16x8, whose sums are 64 bits wide, or a smaller layer"
        )
    return sums


def average(x: Quantised, node: Node) -> Quantised:
    """Means of windows (AVERAGE_POOL_2D) in the input's own scale: to the nearest, ties away from zero.

    ``(sum + count / 2) / count`` for positive sums, ``(sum - count / 2) / count`` else, divisions cut towards
    zero; the sums are of the integers as they are, zero point included. Global pooling is one window.
    """
    if node.op == "avg_pool":
        n = int_of(node, "rank")
        kernel = spread(ints_of(node, "kernel"), n)
        stride = spread(ints_of(node, "stride") or tuple(kernel), n)
        pads = both_ends(ints_of(node, "padding"), n)
        axes = tuple(range(-n, 0))
        sums = windows_of(x.centred, kernel, stride, pads, [1] * n).sum(axes)
        ones = np.ones_like(x.centred[:1, :1])
        inside = windows_of(ones, kernel, stride, pads, [1] * n).sum(axes)
        counts = inside if flag_of(node, "exclude_pad") else np.full_like(inside, int(np.prod(kernel)))
    else:
        sums = x.centred.sum(tuple(range(2, x.integers.ndim)), keepdims=True)
        counts = np.asarray(x.integers.size // max(1, sums.size))
    sums = sums + counts * x.encoding.zero_point
    half = counts // 2
    means = np.where(sums > 0, (sums + half) // counts, -((half - sums) // counts))
    return Quantised(x.encoding.saturate(means), x.encoding)


def mean(x: Quantised, node: Node, arithmetic: Int8 | Int16x8) -> Quantised:
    """Means over axes (MEAN) in the input's own scale: the sum times ``1 / count`` as multiplier and shift.

    The multiplier is cut, not rounded, so a mean may differ by one from that of :func:`average`.
    """
    axes = ints_of(node, "dims") or tuple(range(x.integers.ndim))
    sums = x.centred.sum(axes, keepdims=flag_of(node, "keepdim"))
    count = x.integers.size // max(1, sums.size)
    bits = min(count.bit_length() - 1, 32)
    by = FixedPoint(np.asarray((2**30 << bits) // count), np.asarray(1 - bits))
    means = arithmetic.rescaled(check_sums(sums, 32), by) + x.encoding.zero_point
    return Quantised(x.encoding.saturate(means), x.encoding)


def add(a: Quantised, b: Quantised, out: Encoding, arithmetic: Int8 | Int16x8) -> Ints:
    """The sum of two activations in units of the output, not yet saturated.

    Both are brought to twice the larger scale, with ``add_shift`` bits below the point, then to the output's.
    """
    larger = 2.0 * max(a.encoding.scale, b.encoding.scale)
    unit = 1 << arithmetic.add_shift
    first, second = (
        arithmetic.rescaled(x.centred * unit, quantize_multiplier(x.encoding.scale / larger)) for x in (a, b)
    )
    total = check_sums(first + second, 32)
    return arithmetic.rescaled(total, quantize_multiplier(larger / (unit * out.scale))) + out.zero_point


def rescale(x: Quantised, out: Encoding, arithmetic: Int8 | Int16x8) -> Ints:
    """The same numbers in units of another encoding, not yet saturated (what concatenations do first)."""
    if x.encoding == out:
        return x.integers
    return arithmetic.rescaled(x.centred, quantize_multiplier(x.encoding.scale / out.scale)) + out.zero_point
