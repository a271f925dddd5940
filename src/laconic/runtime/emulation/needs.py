"""Memory and work of one emulated call, known before it runs: estimates from above."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from laconic.pack.file.needs import Needs
from laconic.pack.graph.ops import int_of, ints_of
from laconic.records import Graph, Node
from laconic.runtime.graph.sizes import NODE_STEPS, Form, call_memory, products
from laconic.runtime.int8.transposed import margins
from laconic.runtime.ops.shape_rules import Shape
from laconic.runtime.ops.windows import both_ends, spread, window_of

PIECE = 2**22
"""Entries of unfolded windows that a convolution copies at a time."""

_ENTRY_STEPS = 60  # of an entry read or written: NumPy's passes over int64 and float64 arrays
_WINDOW_STEPS = 30  # of an entry of the windows, which are copied into a matrix
_READ_BYTES = 20  # of an entry that a step reads: centred, as floating point; weights as int64 twice
_PADDED_BYTES = 8  # of an entry of the array that windows run over: spread out, then padded
_WRITTEN_BYTES = 40  # of an entry that a step writes: sums, and their products with the multiplier
_WINDOW_BYTES = 16  # of an entry of the windows that are copied at a time


def emulated_call(
    graph: Graph, shapes: Sequence[Shape], types: Sequence[str], forms: Sequence[Form]
) -> Needs:
    """Bytes and steps (about a nanosecond each) of one emulated call; ``shapes`` and ``types`` of all values.

    Every value is an int64 array at some time, so an entry counts eight bytes whatever its type is.

    >>> from laconic.records import ValueSpec
    >>> graph = Graph((ValueSpec("float32", (None, 2)),), (Node("relu", (0,)),), (1,))
    >>> emulated_call(graph, [(8, 2)] * 2, ["float32"] * 2, [])
    Needs(memory=1216, work=101920)
    """
    stored = [form.shape for form in forms]
    work, scratch = 0, 0
    for node, outputs in graph.numbered():
        given, made = node.read(shapes, stored), [shapes[k] for k in outputs]
        windows = _windows(node, given, made)
        read = windows.padded + sum(math.prod(shape) for shape in given if shape is not None)
        written = sum(math.prod(shape) for shape in made)
        multiplied = windows.products or products(node, given, math.prod(made[0]) if made else 0)
        work += NODE_STEPS + _ENTRY_STEPS * (read + written) + _WINDOW_STEPS * windows.entries + multiplied
        beside = _READ_BYTES * read + _PADDED_BYTES * windows.padded + _WRITTEN_BYTES * written
        scratch = max(scratch, beside + _WINDOW_BYTES * windows.copied)
    return Needs(call_memory(graph, shapes, ["int64"] * len(types), forms) + scratch, work)


class _Windows(NamedTuple):
    """Of a node that runs windows over an array.

    ``padded``: entries of that array. ``entries`` of all windows, ``copied`` of those that are copied at a
    time. ``products``: multiply-accumulates.
    """

    padded: int = 0
    entries: int = 0
    copied: int = 0
    products: int = 0


def _windows(node: Node, given: Sequence[Shape | None], made: Sequence[Shape]) -> _Windows:
    """What the integer kernels of convolutions and average pooling do, what padding cuts off included."""
    if node.op not in ("conv", "conv_transpose", "avg_pool"):
        return _Windows()
    x, second, y = given[0] or (), (given[1] if len(given) > 1 else None) or (), made[0]
    n = len(x) - 2
    sizes, pads = x[2:], both_ends(ints_of(node, "padding"), n)
    pooled = node.op == "avg_pool"
    kernel = spread(ints_of(node, "kernel"), n) if pooled else list(second[2:])
    if node.op == "conv_transpose":
        own = window_of(node, n)
        sizes = tuple((s - 1) * k + 1 for s, k in zip(sizes, own.stride, strict=True))
        before, after = margins(own, kernel)
        pads = [max(0, p) for p in (*before, *after)]
    padded = [s + a + b for s, a, b in zip(sizes, pads[:n], pads[n:], strict=True)]
    one = math.prod(y[2:]) * x[1] * math.prod(kernel)  # the windows of one sample
    copied = 0 if pooled else max(one, min(PIECE, one * x[0]))  # pooling sums them where they are
    groups = x[1] if pooled else int_of(node, "groups")
    multiplied = math.prod(y) * (x[1] // groups) * math.prod(kernel)
    return _Windows(x[0] * x[1] * math.prod(padded), one * x[0], copied, multiplied)
