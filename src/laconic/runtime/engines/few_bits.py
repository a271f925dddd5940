"""Linear layers whose stored integers fit in few bits, as nodes of ONNX Runtime that keep them packed.

``MatMulNBits`` (com.microsoft) holds 4-bit or 2-bit integers and a scale for each block of a row. With
``accuracy_level`` 4 it also rounds the activations to 8 bits, which is several times faster and changes the
result (relative error about 0.5 % on noise); with level 0 it computes in float32.
``MatMulInteger`` does the same for 8-bit integers; nodes before it round each row by itself. The weights
are exact in all of them.

A kernel of our own holds two bits a weight, without scales (``kernels/two_bit_forms.py``); it rounds
activations to 8 bits, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from laconic.errors import InputError
from laconic.records import AnyArray, FloatArray, IntArray, Record, Tensor, record
from laconic.runtime.onnx_model.protos import MICROSOFT, ONNX_TYPES, OnnxNode

if TYPE_CHECKING:
    from laconic.runtime.kernels.two_bit_forms import TwoBits

BLOCK = 128
"""Weights that share a scale: the one size for which ONNX Runtime's 2-bit code is fast."""

PackedImplementation = Literal["4-bit", "4-bit-int8", "2-bit-int8", "8-bit-int8"]
EXACT_IMPLEMENTATIONS: tuple[PackedImplementation, ...] = ("4-bit",)
ROUNDING_IMPLEMENTATIONS: tuple[PackedImplementation, ...] = ("2-bit-int8", "4-bit-int8", "8-bit-int8")
"""These round activations to 8 bits."""


@record
class Scaled(Record):
    """A matrix as small integers times one step, or times a step for each row."""

    integers: IntArray
    steps: FloatArray

    @property
    def step(self) -> float | None:
        """The one step of all rows; None where they differ."""
        return float(self.steps[0]) if len(self.steps) == 1 else None


def scaled(tensor: Tensor) -> Scaled | None:
    """A stored matrix as integers times steps by row; None when its values are no such multiples.

    A codebook {-a, 0, a} is ternary, so it counts; other codebooks do not.

    >>> from laconic.records import Codebook, IntTensor
    >>> book = IntTensor("w", np.array([[0, 1, 2]], np.int32), Codebook((-0.5, 0.0, 0.5)))
    >>> found = scaled(book)
    >>> (found.integers.tolist(), found.step) if found else None
    ([[-1, 0, 1]], 0.5)
    """
    found = tensor.multiples()
    if found is None or found.affine.axis not in (None, 0):
        return None
    zero, steps = found.affine.zero, np.array(found.affine.steps, np.float32)
    return Scaled(found.integers - np.int32(zero) if zero else found.integers, steps)


def implementations_for(tensor: Tensor) -> tuple[PackedImplementation, ...]:
    """The packed implementations whose bits hold a tensor's integers."""
    found = scaled(tensor)
    if found is None or not found.integers.size:
        return ()
    lowest, highest = int(found.integers.min()), int(found.integers.max())
    implementations: list[PackedImplementation] = []
    if lowest >= -2 and highest <= 1:
        implementations.append("2-bit-int8")
    if lowest >= -8 and highest <= 7:
        implementations += ["4-bit", "4-bit-int8"]
    if lowest >= -127 and highest <= 127:
        implementations.append("8-bit-int8")
    return tuple(implementations)


def own_two_bits(tensor: Tensor) -> TwoBits | None:
    """The matrix in the form of our two-bit kernel; None when its values do not fit in two bits."""
    from laconic.runtime.kernels.two_bit_forms import fits_two_bits, two_bits

    found = scaled(tensor)
    if found is None or found.step is None or found.integers.ndim != 2 or not found.integers.size:
        return None
    lowest, highest = int(found.integers.min()), int(found.integers.max())
    if not fits_two_bits(lowest, highest, found.integers.shape[1]):
        return None
    return two_bits(found.integers, found.step)


def packed_nodes(
    tensor: Tensor, x: str, y: str, implementation: PackedImplementation, stem: str
) -> tuple[list[OnnxNode], dict[str, AnyArray]]:
    """Nodes for ``y = x W^T`` in a packed implementation, and the initialisers that they read.

    ``stem`` begins the names of all new values.
    """
    found = scaled(tensor)
    if found is None:
        raise InputError(f"tensor {tensor.name!r} holds no multiples of small integers")
    if implementation == "8-bit-int8":
        return _integer_nodes(found, x, y, stem)
    bits = 2 if implementation == "2-bit-int8" else 4
    return _nbits_nodes(found, x, y, bits, 0 if implementation == "4-bit" else 4, stem)


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
) -> tuple[list[OnnxNode], dict[str, AnyArray]]:
    rows, cols = found.integers.shape
    weights = {
        f"{stem}/bits": pack_bits(found.integers, bits),
        f"{stem}/scales": np.broadcast_to(found.steps[:, None], (rows, -(-cols // BLOCK))).copy(),
    }
    attrs = {"K": cols, "N": rows, "bits": bits, "block_size": BLOCK, "accuracy_level": accuracy}
    return [OnnxNode("MatMulNBits", (x, *weights), (y,), attrs, MICROSOFT)], weights


def _integer_nodes(found: Scaled, x: str, y: str, stem: str) -> tuple[list[OnnxNode], dict[str, AnyArray]]:
    """Each row of x is rounded with its own largest magnitude over 127, so that rows are independent.

    ONNX' DynamicQuantizeLinear has one scale for all rows: an infinity in one would change the others.
    """
    weights: Mapping[str, AnyArray] = {
        f"{stem}/int8": np.ascontiguousarray(found.integers.T.astype(np.int8)),
        f"{stem}/step": found.steps if found.step is None else np.asarray(found.step, dtype=np.float32),
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
        OnnxNode("Abs", (x,), (size,), {}),
        OnnxNode("ReduceMax", (size, kept["last"]), (most,), {"keepdims": 1}),
        OnnxNode("Max", (most, kept["least"]), (some,), {}),  # a row of zeros
        OnnxNode("Mul", (some, kept["share"]), (scale,), {}),
        OnnxNode("Div", (x, scale), (ratio,), {}),
        OnnxNode("Round", (ratio,), (near,), {}),
        OnnxNode("Add", (near, kept["half"]), (moved,), {}),
        OnnxNode("Cast", (moved,), (q,), {"to": ONNX_TYPES["uint8"]}),
        OnnxNode("MatMulInteger", (q, kept["int8"], kept["zero"]), (sums,), {}),
        OnnxNode("Cast", (sums,), (real,), {"to": ONNX_TYPES["float32"]}),
        # two products: ONNX Runtime fuses a single one into a kernel that takes no scale for each row
        OnnxNode("Mul", (real, kept["step"]), (stepped,), {}),
        OnnxNode("Mul", (stepped, scale), (y,), {}),
    ]
    return nodes, dict(weights)
