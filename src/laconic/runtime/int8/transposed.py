"""Rewrites a transposed convolution as a convolution, for which integer kernels exist.

V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, chapter 4;
W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?", arXiv:1609.07009, for the
phases. The same products are summed, so integer sums are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from laconic.errors import CorruptFileError
from laconic.records import AnyArray, Node
from laconic.runtime.ops.windows import Window, window_of

if TYPE_CHECKING:
    from laconic.runtime.onnx_model.protos import OnnxAttr

WIDE_ENOUGH = 16
"""Channels from which on ONNX Runtime's int8 convolution is faster than its float32 transposed one."""


def as_rows(weight: AnyArray, groups: int) -> AnyArray:
    """(I, O / groups, k..) of a transposed convolution -> (O, I / groups, k..), the kernel flipped.

    It is the weight of the equal convolution over the inputs with stride - 1 zeros between them.

    >>> as_rows(np.arange(6).reshape(1, 2, 3), 1).tolist()
    [[[2, 1, 0]], [[5, 4, 3]]]
    """
    if weight.ndim < 3 or groups < 1 or len(weight) % groups:
        raise CorruptFileError(f"weights {weight.shape} are no transposed convolution in {groups} groups")
    split = weight.reshape(groups, len(weight) // groups, *weight.shape[1:]).swapaxes(1, 2)
    rows = split.reshape(groups * weight.shape[1], len(weight) // groups, *weight.shape[2:])
    return np.flip(rows, tuple(range(2, weight.ndim)))


def as_columns(rows: AnyArray, groups: int) -> AnyArray:
    """The inverse of :func:`as_rows`."""
    back = np.flip(rows, tuple(range(2, rows.ndim)))
    split = back.reshape(groups, len(rows) // groups, *rows.shape[1:]).swapaxes(1, 2)
    return split.reshape(groups * rows.shape[1], len(rows) // groups, *rows.shape[2:])


def margins(window: Window, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Zeros before and after the inputs with zeros between (negative: entries to drop), for each axis."""
    n = len(kernel)
    extent = [d * (k - 1) for d, k in zip(window.dilation, kernel, strict=True)]
    return (
        [r - p for r, p in zip(extent, window.pads[:n], strict=True)],
        [r - p + e for r, p, e in zip(extent, window.pads[n:], window.extra, strict=True)],
    )


def as_convolution(window: Window, kernel: Sequence[int]) -> dict[str, OnnxAttr] | None:
    """The attributes of the convolution that equals a transposed one of stride 1; None for other strides."""
    before, after = margins(window, kernel)
    if set(window.stride) != {1} or min(*before, *after) < 0:
        return None
    return {"pads": [*before, *after], "dilations": window.dilation, "group": window.groups}


@dataclass(frozen=True, eq=False)
class Phases:
    """A convolution whose output channels are (o, row phase, column phase), and the pads that it needs."""

    weight: AnyArray
    pads: tuple[int, ...]
    stride: int


def as_phases(window: Window, rows: AnyArray) -> Phases | None:
    """A transposed convolution of images that makes them ``stride`` times larger; None for any other.

    ``rows`` is what :func:`as_rows` gives. Output pixel (s m + r, s n + q) is channel (o, r, q) of pixel
    (m, n), which ONNX' DepthToSpace (mode CRD) moves to that pixel.
    """
    kernel = rows.shape[2:]
    if len(kernel) != 2 or window.groups != 1 or set(window.dilation) != {1}:
        return None
    s = window.stride[0]
    before, after = margins(window, kernel)
    grows = all(b + a + 2 - k == s for b, a, k in zip(before, after, kernel, strict=True))
    if s != window.stride[1] or not 2 <= s <= min(kernel) or not grows or min(before) < 0:
        return None
    # phase r of axis 0 reads input m + j by tap r + p - j s of the kernel, which ``rows`` holds flipped
    taps = [_taps(k, s, k - 1 - b) for k, b in zip(kernel, before, strict=True)]
    (first, count), (left, width) = ((int(j.min()), int(j.max() - j.min()) + 1) for j, _ in taps)
    if first > 0 or left > 0:
        return None
    weight = np.zeros((len(rows), s, s, rows.shape[1], count, width), rows.dtype)
    (j, r), (i, q) = taps
    places = (r[:, None], q[None, :], j[:, None] - first, i[None, :] - left)
    by_place = np.moveaxis(weight, 3, 1)  # rows, inputs, then the four axes that places are of
    by_place[:, :, *places] = rows[:, :, ::-1, ::-1]
    pads = (-first, -left, first + count - 1, left + width - 1)
    return Phases(weight.reshape(-1, rows.shape[1], count, width), pads, s)


def runs_in_float32(node: Node, shape: tuple[int, ...], inside: bool) -> bool:
    """Whether a layer on weights of this shape stays transposed; ``inside``: int8 steps read its output."""
    window = window_of(node, len(shape) - 2)
    rows = as_rows(np.zeros(shape, np.int8), window.groups)  # the values do not matter
    phases = as_phases(window, rows)
    wide = phases is not None and len(phases.weight) >= WIDE_ENOUGH
    return not (inside and (wide or as_convolution(window, rows.shape[2:]) is not None))


def _taps(kernel: int, stride: int, padding: int) -> tuple[AnyArray, AnyArray]:
    """For each tap of the kernel, as it is stored: the offset of the input that it reads, and its phase.

    >>> [a.tolist() for a in _taps(4, 2, 1)]
    [[1, 0, 0, -1], [1, 0, 1, 0]]
    """
    tap = np.arange(kernel)
    phase = (tap - padding) % stride
    return (phase + padding - tap) // stride, phase
