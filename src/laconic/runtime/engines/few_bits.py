"""Linear layers whose stored integers fit in few bits, as nodes of ONNX Runtime that keep them packed.

``MatMulNBits`` (com.microsoft) holds 4-bit or 2-bit integers and a scale for each block of a row. With
``accuracy_level`` 4 it also rounds the activations to 8 bits, which is several times faster and no longer
the network's own function (relative error about 0.5 % on noise); with level 0 it computes in float32.
``MatMulInteger`` does the same for 8-bit integers, around nodes that round each row by itself. The weights
are exact in all of them.

A kernel of our own holds two bits a weight, without scales (``kernels/two_bits.py``); it rounds activations
too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from laconic.errors import InputError
from laconic.records import AnyArray, Codebook, IntArray, IntTensor, Tensor
from laconic.runtime.engines.session import beside

if TYPE_CHECKING:
    import onnx

    from laconic.runtime.kernels.two_bits import TwoBits

BLOCK = 128
"""Weights that share a scale: the one size for which ONNX Runtime's 2-bit code is fast."""

Way = Literal["4-bit", "4-bit-int8", "2-bit-int8", "8-bit-int8"]
EXACT_WAYS: tuple[Way, ...] = ("4-bit",)
ROUNDING_WAYS: tuple[Way, ...] = ("2-bit-int8", "4-bit-int8", "8-bit-int8")
"""These round activations to 8 bits."""


class Scaled(NamedTuple):
    """A matrix as small integers times one step."""

    integers: IntArray
    step: float


def scaled(tensor: Tensor) -> Scaled | None:
    """A stored matrix as integers times a step; None when its values are no such multiples.

    A codebook {-a, 0, a} is ternary, so it counts; other codebooks do not.

    >>> book = IntTensor("w", np.array([[0, 1, 2]], np.int32), Codebook((-0.5, 0.0, 0.5)))
    >>> found = scaled(book)
    >>> (found.integers.tolist(), found.step) if found else None
    ([[-1, 0, 1]], 0.5)
    """
    if not isinstance(tensor, IntTensor):
        return None
    if not isinstance(tensor.grid, Codebook):
        return Scaled(tensor.integers, tensor.grid.step)
    levels = tensor.grid.levels
    if len(levels) == 3 and levels[1] == 0 and levels[0] == -levels[2]:
        return Scaled(tensor.integers - np.int32(1), levels[2])
    return None


def ways_for(tensor: Tensor) -> tuple[Way, ...]:
    """The ways in which a tensor's integers fit."""
    found = scaled(tensor)
    if found is None or not found.integers.size:
        return ()
    lowest, highest = int(found.integers.min()), int(found.integers.max())
    ways: list[Way] = []
    if lowest >= -2 and highest <= 1:
        ways.append("2-bit-int8")
    if lowest >= -8 and highest <= 7:
        ways += ["4-bit", "4-bit-int8"]
    if lowest >= -127 and highest <= 127:
        ways.append("8-bit-int8")
    return tuple(ways)


def own_two_bits(tensor: Tensor) -> TwoBits | None:
    """The matrix as our own kernel takes it; None when its values do not fit in two bits."""
    from laconic.runtime.kernels.two_bits import fits_two_bits, two_bits

    found = scaled(tensor)
    if found is None or found.integers.ndim != 2 or not found.integers.size:
        return None
    lowest, highest = int(found.integers.min()), int(found.integers.max())
    if not fits_two_bits(lowest, highest, found.integers.shape[1]):
        return None
    return two_bits(found.integers, found.step)


def packed_nodes(
    tensor: Tensor, x: str, y: str, way: Way, stem: str
) -> tuple[list[onnx.NodeProto], dict[str, AnyArray]]:
    """Nodes for ``y = x W^T`` in one of :func:`ways_for`'s ways, and the initialisers that they read.

    ``stem`` begins the names of all new values.
    """
    found = scaled(tensor)
    if found is None:
        raise InputError(f"tensor {tensor.name!r} holds no multiples of small integers")
    if way == "8-bit-int8":
        return _integer_nodes(found, x, y, stem)
    bits = 2 if way == "2-bit-int8" else 4
    return _nbits_nodes(found, x, y, bits, 0 if way == "4-bit" else 4, stem)


def pack_bits(integers: IntArray, bits: int) -> AnyArray:
    """(rows, blocks, bytes) uint8 of unsigned integers around 2^(bits-1), the first in the lowest bits.

    >>> pack_bits(np.array([[-2, 1, 0, -1]], np.int32), 2)[0, 0, :2].tolist()
    [108, 170]
    """
    rows, cols = integers.shape
    blocks = -(-cols // BLOCK)
    half = 1 << (bits - 1)
    codes = np.full((rows, blocks * BLOCK), half, dtype=np.uint8)
    codes[:, :cols] = integers + half
    parts = codes.reshape(rows, blocks, -1, 8 // bits)
    packed = parts[..., 0].copy()
    for k in range(1, 8 // bits):
        packed |= parts[..., k] << np.uint8(bits * k)
    return packed


def _nbits_nodes(
    found: Scaled, x: str, y: str, bits: int, accuracy: int, stem: str
) -> tuple[list[onnx.NodeProto], dict[str, AnyArray]]:
    from onnx import helper

    rows, cols = found.integers.shape
    weights = {
        f"{stem}/bits": pack_bits(found.integers, bits),
        f"{stem}/scales": np.full((rows, -(-cols // BLOCK)), found.step, np.float32),
    }
    node = helper.make_node(
        "MatMulNBits",
        [x, *weights],
        [y],
        domain="com.microsoft",
        K=cols,
        N=rows,
        bits=bits,
        block_size=BLOCK,
        accuracy_level=accuracy,
    )
    return [node], weights


def _integer_nodes(
    found: Scaled, x: str, y: str, stem: str
) -> tuple[list[onnx.NodeProto], dict[str, AnyArray]]:
    """Each row of x is rounded with its own largest magnitude over 127, so that no row sees another.

    ONNX' DynamicQuantizeLinear has one scale for all rows: an infinity in one would change the others.
    """
    from onnx import TensorProto, helper

    weights: Mapping[str, AnyArray] = {
        f"{stem}/int8": np.ascontiguousarray(found.integers.T.astype(np.int8)),
        f"{stem}/step": np.asarray(found.step, dtype=np.float32),
        f"{stem}/last": np.asarray([-1], dtype=np.int64),
        f"{stem}/least": np.asarray(2.0**-100, dtype=np.float32),
        f"{stem}/share": np.asarray(1 / 127, dtype=np.float32),
        f"{stem}/half": np.asarray(128, dtype=np.float32),
        f"{stem}/zero": np.asarray(128, dtype=np.uint8),
    }
    kept = {name.rpartition("/")[2]: name for name in weights}
    size, most, some, scale, ratio, near, moved, q, sums, real, stepped = (
        f"{stem}/{k}" for k in ("a", "m", "l", "s", "d", "n", "h", "q", "p", "r", "f")
    )
    nodes = [
        helper.make_node("Abs", [x], [size]),
        helper.make_node("ReduceMax", [size, kept["last"]], [most], keepdims=1),
        helper.make_node("Max", [most, kept["least"]], [some]),  # a row of zeros
        helper.make_node("Mul", [some, kept["share"]], [scale]),
        helper.make_node("Div", [x, scale], [ratio]),
        helper.make_node("Round", [ratio], [near]),
        helper.make_node("Add", [near, kept["half"]], [moved]),
        helper.make_node("Cast", [moved], [q], to=TensorProto.UINT8),
        helper.make_node("MatMulInteger", [q, kept["int8"], kept["zero"]], [sums]),
        helper.make_node("Cast", [sums], [real], to=TensorProto.FLOAT),
        # one after the other: a product of the two is fused into a kernel that knows no scale by row
        helper.make_node("Mul", [real, kept["step"]], [stepped]),
        helper.make_node("Mul", [stepped, scale], [y]),
    ]
    return nodes, dict(weights)


def replace_layers(
    proto: onnx.ModelProto,
    weights: dict[str, AnyArray],
    layers: Mapping[int, tuple[Tensor, Way]],
) -> None:
    """Put packed nodes in the places of these MatMul nodes of a model; its weights grow beside it."""
    from onnx import helper

    nodes = []
    for place, node in enumerate(proto.graph.node):
        if place not in layers:
            nodes.append(node)
            continue
        tensor, way = layers[place]
        new, arrays = packed_nodes(tensor, node.input[0], node.output[0], way, f"{node.output[0]}/{way}")
        nodes += new
        weights.update(arrays)
        proto.graph.initializer.extend(beside(n, a) for n, a in arrays.items())
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    if "com.microsoft" not in {imported.domain for imported in proto.opset_import}:
        proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
