"""Lowering rules for windows along axes: uneven pooling, interpolation by any scale, unfold and fold."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from laconic.errors import CaptureError
from laconic.export.lowering import Call, Lowering, Ref, Rule, Size, Value, float32, is_free
from laconic.export.rules_layers import LAYER_RULES
from laconic.export.rules_shapes import SHAPE_RULES

aten = torch.ops.aten
Places = npt.NDArray[np.int64]


class Taps(NamedTuple):
    """The inputs of each output along an axis: entries (outputs, most) and their weights, 0 if unused."""

    places: Places
    weights: npt.NDArray[np.float32]


def _uneven(size: int, wanted: int) -> list[tuple[int, int]]:
    """Adaptive pooling's windows: floor(i size / wanted) up to ceil((i + 1) size / wanted)."""
    return [(i * size // wanted, -(-(i + 1) * size // wanted)) for i in range(wanted)]


def _average_taps(size: int, wanted: int) -> Taps:
    windows = _uneven(size, wanted)
    most = max(b - a for a, b in windows)
    places = np.array([[min(a + k, b - 1) for k in range(most)] for a, b in windows], np.int64)
    weights = np.array([[(k < b - a) / (b - a) for k in range(most)] for a, b in windows], np.float32)
    return Taps(places, weights)


def _taps_of(matrix: torch.Tensor) -> Taps:
    """The non-zero entries of a matrix (inputs, outputs), padded to the same number for each output."""
    found = [torch.nonzero(column).flatten().tolist() or [0] for column in matrix.T]
    most = max(map(len, found))
    places = np.array([[f[min(k, len(f) - 1)] for k in range(most)] for f in found], np.int64)
    weights = np.array(
        [[float(matrix[f[k], o]) if k < len(f) else 0.0 for k in range(most)] for o, f in enumerate(found)],
        np.float32,
    )
    return Taps(places, weights)


def _weighted(low: Lowering, x: Value, axis: int, taps: Taps, rank: int) -> Ref:
    """Along one axis: for each output the weighted sum of its inputs."""
    if taps.places.shape[1] == 1 and (taps.weights == 1).all():
        return low.emit("take", x, torch.from_numpy(taps.places[:, 0].copy()), axis=axis)
    read = low.emit("take", x, torch.from_numpy(taps.places), axis=axis)
    weights = torch.from_numpy(taps.weights).reshape(*taps.weights.shape, *(1,) * (rank - 1 - axis))
    return low.emit("sum", low.emit("mul", read, weights), dims=(axis + 1,))


def _fixed(sizes: Sequence[Size], what: str) -> list[int]:
    if any(map(is_free, sizes)):
        raise CaptureError(
            f"{what} of an axis of free size has no rule. Cure: fix that axis to the size that is used"
        )
    return [int(size) for size in sizes]


def _adaptive(rank: int, kind: str) -> Rule:
    """Windows that divide evenly are the plain pools of ``rules_layers``; others are pooled axis by axis."""
    plain = LAYER_RULES[getattr(aten, f"adaptive_{kind}_pool{rank}d")]

    def rule(low: Lowering, call: Call) -> Any:
        x, both = call.value("self"), isinstance(call.result, (tuple, list))
        sizes, wanted = x.shape[-rank:], (call.result[0] if both else call.result).shape[-rank:]
        if any(map(is_free, (*sizes, *wanted))) or not any(
            int(s) % int(w) for s, w in zip(sizes, wanted, strict=True)
        ):
            return plain(low, call)
        y: Value = x
        for axis, (size, want) in enumerate(zip(sizes, wanted, strict=True), len(x.shape) - rank):
            if int(size) == int(want):
                continue
            if kind == "avg":
                y = _weighted(low, y, axis, _average_taps(int(size), int(want)), len(x.shape))
            else:
                places = torch.from_numpy(_average_taps(int(size), int(want)).places)
                y = low.emit("amax", low.emit("take", y, places, axis=axis), dims=(axis + 1,))
        return [y, None] if both else y

    return rule


def _interpolated(mode: str) -> Rule:
    """Interpolation by any scale: along each axis a product with the matrix of interpolation weights."""
    plain = {
        "linear": SHAPE_RULES[aten.upsample_linear1d],
        "cubic": SHAPE_RULES[aten.upsample_bicubic2d],
    }.get(mode)

    def rule(low: Lowering, call: Call) -> Value:
        x = call.value("self") if "self" in call else call.value("input")
        scales = call.get("scale_factors") or [call.get(k) for k in call.args if k.startswith("scales")]
        whole = all(s is None or is_free(s) or float(s) % 1 == 0 for s in scales)
        if plain is not None and whole:
            return low.ref(plain(low, call))
        sizes = _fixed((*x.shape[2:], *call.shape[2:]), "interpolation")
        n = len(sizes) // 2
        align = bool(call.get("align_corners", False))
        for axis, (old, new) in enumerate(zip(sizes[:n], sizes[n:], strict=True)):
            scale = scales[axis] if len(scales) == n else None
            if (old, scale) != (new, None):
                taps = _taps_of(_interpolation_matrix(mode, old, new, align, scale))
                x = _weighted(low, x, axis + 2, taps, n + 2)
        return x

    return rule


def _interpolation_matrix(mode: str, old: int, new: int, align: bool, scale: float | None) -> torch.Tensor:
    """(old, new): the weight of each of ``old`` entries of an axis in each of ``new``."""
    units = torch.eye(old)
    found: torch.Tensor
    if mode == "linear":
        found = aten.upsample_linear1d(units[None], [new], align, scale)
    elif mode == "exact":
        found = aten._upsample_nearest_exact1d(units[None], [new], scale)
    else:
        operation = {
            "cubic": aten.upsample_bicubic2d,
            "linear_aa": aten._upsample_bilinear2d_aa,
            "cubic_aa": aten._upsample_bicubic2d_aa,
        }[mode]
        found = operation(units[None, :, None], [1, new], align, None, scale)[:, :, 0]
    return found[0]


def _framed(low: Lowering, call: Call) -> Ref:
    """Tensor.unfold: windows along one axis, with their entries along a new last axis."""
    x, axis = call.value("self"), call.axis("dimension")
    size, step = call.integer("size"), call.integer("step")
    (length,) = _fixed(x.shape[axis : axis + 1], "unfold")
    starts = torch.arange(0, length - size + 1, step)
    windows = low.emit("take", x, starts[:, None] + torch.arange(size), axis=axis)
    rank = len(x.shape) + 1
    perm = (*range(axis + 1), *range(axis + 2, rank), axis + 1)
    return windows if perm == tuple(range(rank)) else low.emit("permute", windows, perm=perm)


class Window(NamedTuple):
    """One axis of a sliding window."""

    kernel: int
    dilation: int
    padding: int
    stride: int

    def places(self, size: int) -> torch.Tensor:
        """(positions, kernel): which entries of the padded axis each position reads."""
        last = size + 2 * self.padding - self.dilation * (self.kernel - 1)
        return torch.arange(0, last, self.stride)[:, None] + self.dilation * torch.arange(self.kernel)


def _windows(call: Call) -> list[Window]:
    names = ("kernel_size", "dilation", "padding", "stride")
    pairs = [call.integers(name) * (2 if len(call.integers(name)) == 1 else 1) for name in names]
    return [Window(*(pair[axis] for pair in pairs)) for axis in (0, 1)]


def _unfold(low: Lowering, call: Call) -> Ref:
    """im2col: (N, C, H, W) -> (N, C kernel, positions)."""
    x = call.value("self")
    if len(x.shape) != 4:
        raise CaptureError("an image without a batch has no rule. Cure: add one, x[None]")
    channels, *sizes = _fixed(x.shape[1:], "unfold")
    rows, columns = _windows(call)
    if rows.padding or columns.padding:
        x = low.emit("pad", x, pads=(columns.padding, columns.padding, rows.padding, rows.padding))
    y = low.emit("take", x, rows.places(sizes[0]), axis=2)
    y = low.emit("take", y, columns.places(sizes[1]), axis=4)
    y = low.emit("permute", y, perm=(0, 1, 3, 5, 2, 4))
    positions = len(rows.places(sizes[0])) * len(columns.places(sizes[1]))
    return low.emit("reshape", y, shape=(0, channels * rows.kernel * columns.kernel, positions))


def _fold(low: Lowering, call: Call) -> Ref:
    """col2im: the sum of overlapping windows."""
    x = call.value("self")
    if len(x.shape) != 3:
        raise CaptureError("columns without a batch have no rule. Cure: add one, x[None]")
    _fixed(x.shape[1:], "fold")
    size, windows = call.integers("output_size"), _windows(call)
    named = {name: tuple(getattr(w, name) for w in windows) for name in Window._fields}
    return low.emit("fold", x, size=size * (2 if len(size) == 1 else 1), **named)


def _average_by(rank: int) -> Rule:
    """Average pooling with divisor_override: the plain pool times window size / divisor."""
    plain = LAYER_RULES[getattr(aten, f"avg_pool{rank}d")]

    def rule(low: Lowering, call: Call) -> Value:
        divisor = call.get("divisor_override")
        if divisor is None:
            return low.ref(plain(low, call))
        if call.get("ceil_mode"):
            raise CaptureError("divisor_override with ceil_mode has no rule. Cure: pad the input instead")
        kernel = call.integers("kernel_size")
        count = int(np.prod(kernel * (rank if len(kernel) == 1 else 1)))
        call.ignore(*call.args)
        args = {**call.args, "divisor_override": None, "count_include_pad": True}
        y = plain(low, Call(call.name, args, call.result))
        return low.emit("mul", y, scalar=float32(count / divisor))

    return rule


def _grid_sample(low: Lowering, call: Call) -> Ref:
    mode = ("linear", "nearest", "cubic")[call.integer("interpolation_mode")]
    padding = ("zeros", "border", "reflection")[call.integer("padding_mode")]
    x, grid = call.value("input"), call.value("grid")
    if call.name == "grid_sampler_3d" and mode == "cubic":
        raise CaptureError("cubic sampling of volumes has no rule")
    align = bool(call.get("align_corners"))
    return low.emit("grid_sample", x, grid, mode=mode, padding=padding, align=align)


WINDOW_RULES: Mapping[object, Rule] = {
    **{
        getattr(aten, f"adaptive_{kind}_pool{rank}d"): _adaptive(rank, kind)
        for kind, rank in itertools.product(("avg", "max"), (1, 2, 3))
    },
    aten._adaptive_avg_pool2d: _adaptive(2, "avg"),
    aten._adaptive_avg_pool3d: _adaptive(3, "avg"),
    aten.avg_pool2d: _average_by(2),
    aten.avg_pool3d: _average_by(3),
    aten.upsample_linear1d: _interpolated("linear"),
    aten.upsample_bilinear2d: _interpolated("linear"),
    aten.upsample_trilinear3d: _interpolated("linear"),
    aten.upsample_bicubic2d: _interpolated("cubic"),
    aten._upsample_bilinear2d_aa: _interpolated("linear_aa"),
    aten._upsample_bicubic2d_aa: _interpolated("cubic_aa"),
    **{getattr(aten, f"_upsample_nearest_exact{n}d"): _interpolated("exact") for n in (1, 2, 3)},
    aten.unfold: _framed,
    aten.im2col: _unfold,
    aten.col2im: _fold,
    aten.grid_sampler: _grid_sample,
    aten.grid_sampler_2d: _grid_sample,
    aten.grid_sampler_3d: _grid_sample,
}
