"""Stored tensors of every kind in calibrated files: int8 kernels, the emulation and costs agree on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import laconic
from laconic import pack, runtime
from laconic.errors import InputError
from laconic.pack.graph.ops import make_node
from laconic.records import (
    AnyArray,
    Codebook,
    Graph,
    HashedTensor,
    IntTensor,
    Node,
    PackedModel,
    ProductTensor,
    RandomCodeTensor,
    RawTensor,
    Tensor,
    UniformGrid,
    ValueSpec,
)
from laconic.runtime import Int8, Int16x8, MinMax, calibrate, emulate
from laconic.runtime.emulation import Quantised

F32 = np.float32
RNG = np.random.default_rng(11)
# weights' shape, the axis of their rows (outputs), the node, an input's shape
LAYERS: dict[str, tuple[tuple[int, ...], int, Node, tuple[int, ...]]] = {
    "linear": ((8, 12), 0, make_node("linear", (0, -1, -2)), (12,)),
    "conv": ((8, 4, 3, 3), 0, make_node("conv", (0, -1, -2), padding=(1,)), (4, 6, 6)),
    "depthwise": ((8, 1, 3, 3), 0, make_node("conv", (0, -1, -2), padding=(1,), groups=8), (8, 6, 6)),
    "transposed": (
        (4, 8, 4, 4),
        1,
        make_node("conv_transpose", (0, -1, -2), stride=(2,), padding=(1,)),
        (4, 5, 5),
    ),
}


def steps(count: int) -> tuple[float, ...]:
    return tuple(float(s) for s in RNG.uniform(0.1, 2, count).astype(F32))


def whole(largest: int, *shape: int) -> AnyArray:
    return RNG.integers(-largest, largest + 1, shape).astype(np.int32)


def reals(*shape: int) -> RawTensor:
    return RawTensor("", RNG.normal(size=shape).astype(F32))


def kinds(shape: tuple[int, ...]) -> dict[str, Tensor]:
    """A tensor of each kind, by its name."""
    size, found = int(np.prod(shape)), dict[str, Tensor]()
    for axis, count in enumerate(shape):
        levels = (np.unique(RNG.normal(size=4).astype(F32)).tolist() for _ in range(count))
        book = Codebook(tuple(tuple(own) for own in levels), axis)
        found[f"steps along {axis}"] = IntTensor("w", whole(7, *shape), UniformGrid(steps(count), axis))
        found[f"wide along {axis}"] = IntTensor("w", whole(500, *shape), UniformGrid(steps(count), axis))
        found[f"codebooks along {axis}"] = IntTensor("w", np.abs(whole(3, *shape)), book)
    found["ternary"] = IntTensor("w", whole(1, *shape), UniformGrid(steps(shape[0]), 0))
    found["hashed"] = HashedTensor("w", shape, 9, reals(40))
    found["hashed on steps"] = HashedTensor(
        "w", shape, 9, IntTensor("", whole(3, 40), UniformGrid(steps(40), 0))
    )
    codes = IntTensor("", np.abs(whole(999, -(-size // 8))), UniformGrid(1.0))
    found["random codes"] = RandomCodeTensor("w", shape, 9, 8, codes, steps(shape[0]))
    if len(shape) == 2:
        left = IntTensor("", whole(3, shape[0], 3), UniformGrid(steps(shape[0]), 0))
        found["product"] = ProductTensor("w", left, reals(3, shape[1]))
        right = IntTensor("", whole(3, 3, shape[1]), UniformGrid(steps(3), 0))
        found["product of steps"] = ProductTensor("w", left, right)
    return found


TENSORS = {(layer, kind): t for layer, said in LAYERS.items() for kind, t in kinds(said[0]).items()}


def packed(layer: str, weight: Tensor) -> PackedModel:
    _, _, node, inputs = LAYERS[layer]
    bias = RawTensor("b", np.random.default_rng(1).normal(size=8).astype(F32))
    return PackedModel((weight, bias), Graph((ValueSpec("float32", (None, *inputs)),), (node,), (1,)))


def as_int8(layer: str, weight: Tensor, bias: AnyArray, x_scale: float) -> tuple[AnyArray, AnyArray]:
    """The weights and the bias that int8 arithmetic computes with, from the stored values alone.

    A row's weights are multiples of its own step where the file has one for the row, else of its largest
    weight over 127; its bias is a multiple of that unit times the input's.
    """
    values, rows = weight.values().astype(np.float64), LAYERS[layer][1]
    others = tuple(axis for axis in range(values.ndim) if axis != rows)
    unit = np.abs(values).max(others, keepdims=True) / 127
    if isinstance(weight, IntTensor) and isinstance(weight.grid, UniformGrid):
        spread = np.asarray(weight.grid.step, np.float64)
        along = [-1 if axis == weight.grid.axis else 1 for axis in range(values.ndim)]
        if (weight.grid.axis == rows or spread.size == 1) and np.abs(weight.integers).max() <= 127:
            unit = np.broadcast_to(spread.reshape(along), unit.shape)
    units = unit.reshape(-1) * x_scale
    return np.asarray(np.rint(values / unit) * unit), np.asarray(np.rint(bias / units) * units)


def computed(layer: str, x: AnyArray, w: AnyArray, b: AnyArray) -> AnyArray:
    """The layer in float64, by PyTorch."""
    given, weight, bias = (torch.from_numpy(np.asarray(a, np.float64)) for a in (x, w, b))
    if layer == "linear":
        return F.linear(given, weight, bias).numpy()
    if layer == "transposed":
        return F.conv_transpose2d(given, weight, bias, 2, 1).numpy()
    return F.conv2d(given, weight, bias, 1, 1, groups=8 if layer == "depthwise" else 1).numpy()


@pytest.mark.parametrize(("layer", "kind"), TENSORS)
def test_the_integers_are_those_of_the_stored_values(layer: str, kind: str) -> None:
    weight = TENSORS[layer, kind]
    plain = packed(layer, weight)
    x = np.random.default_rng(2).normal(size=(5, *LAYERS[layer][3])).astype(F32)
    model = calibrate(plain, [(x,)], MinMax())
    assert model.graph is not None
    out = model.graph.ranges[-1]
    data = pack.encode(model)

    values = emulate(data, Int8()).trace(x)
    read, got = values[0], values[1]
    assert isinstance(read, Quantised)
    assert isinstance(got, Quantised)
    w, b = as_int8(layer, weight, plain.tensors[1].values(), read.encoding.scale)
    y = computed(layer, read.values(), w, b)
    wanted = np.clip(np.rint(y / out.scale) + out.zero_point, -128, 127)
    assert np.abs(got.integers - wanted).max() <= 1
    once = emulate(data, Int8(single_rounding=True)).trace(x)[1]
    assert isinstance(once, Quantised)
    assert (once.integers == wanted).mean() > 0.9

    int8 = np.asarray(runtime.load(data, precision="int8", threads=1)(x))
    assert np.abs(int8 - got.values()).max() < 2.5 * out.scale
    wide = np.asarray(emulate(data, Int16x8())(x))
    assert (
        np.abs(wide - computed(layer, x, w, plain.tensors[1].values())).max() < out.scale
    )  # the range may cut half a step

    cost = laconic.cost_of(data)
    assert cost.precision == "int8"
    assert cost.weights_nonzero == np.count_nonzero(weight.values()) + 8
    assert cost.macs == laconic.cost_of(data, precision="fp32").macs


@pytest.mark.parametrize("layer", LAYERS)
def test_steps_of_wild_sizes_give_numbers_or_a_named_refusal(layer: str) -> None:
    """Rows from 10^-30 to 10^30: int8 and the cost go through; 16 bits may name the layer."""
    shape, axis, _, inputs = LAYERS[layer]
    wild = tuple(float(F32(10.0**e)) for e in np.linspace(-30, 30, shape[axis]))
    weight = IntTensor("w", whole(7, *shape), UniformGrid(wild, axis))
    x = np.random.default_rng(2).normal(size=(3, *inputs)).astype(F32)
    model = calibrate(packed(layer, weight), [(x,)], MinMax())
    data = pack.encode(model)
    assert np.isfinite(np.asarray(runtime.load(data, precision="int8", threads=1)(x))).all()
    assert laconic.cost_of(data).precision == "int8"
    for arithmetic in (Int8(), Int8(single_rounding=True), Int16x8()):
        try:
            assert np.isfinite(np.asarray(emulate(data, arithmetic)(x))).all()
        except InputError as error:
            assert "emulating" in str(error) and "'w'" in str(error) and "Cure" in str(error)
