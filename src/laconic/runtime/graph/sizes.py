"""Estimates of what a graph takes before anything is decoded, built or run: memory, work, a call's memory.

All figures are upper bounds. ``tests/attacks`` compares them with what processes really take.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from laconic.errors import CorruptFileError
from laconic.pack.file.needs import DECODED_BYTES, ENTRY_STEPS, SCRATCH_BYTES, TENSOR_BYTES, VALUE_BYTES
from laconic.pack.graph.ops import SIZED, flag_of, int_of, ints_of
from laconic.records import Graph, Node, PackedModel, Tensor, tensor_ref
from laconic.records.limits import Limits
from laconic.runtime.graph.shapes import follow, tried_inputs
from laconic.runtime.graph.types import value_types
from laconic.runtime.ops.arithmetic import contraction
from laconic.runtime.ops.shape_rules import Shape
from laconic.runtime.ops.windows import spread

FIXED_BYTES = 12 * 2**20
"""What the first session of a process takes in addition: memory pools, pages of the libraries."""

NODE_STEPS = 100_000
"""Steps of work of one ONNX node, in all passes over the graph."""

_NODE_BYTES = 6_000  # of one ONNX node: the message, the runtime's copies
_REF_BYTES = 500  # of one reference of a node to a value
_INT8_SCRATCH_BYTES = 40  # of an entry of the largest layer, while its int8 weights are derived in float64
_FOLDED_COPIES = 2
_MOST_FOLLOWED = 2**15  # nodes and references that are followed while free sizes are tried

_NODES = {
    "lstm": 9, "gru": 7, "rnn": 7, "sdpa": 14, "group_norm": 9, "layer_norm": 6, "resize": 4,
    "size": 4, "arange": 5, "floor_divide": 6, "remainder": 4, "topk": 3, "fold": 4,
}  # fmt: skip
_PACKED_BYTES = {"conv": 12, "conv_transpose": 12, "linear": 10, "lstm": 12, "gru": 12, "rnn": 12}
"""Bytes an entry of a weight: transposed, packed, reordered for its first reader (6 for other operations)."""

_SHARED_BYTES = 6  # an entry of a weight, for each further node that reads it


class Form(NamedTuple):
    """A tensor's shape and its type as the runtime reads it."""

    shape: Shape
    dtype: str
    number: int | None = None
    """The value of a tensor that is one int64 without dimensions."""


class Claims(NamedTuple):
    """What a graph claims: forms of tensors, shape and type of every value, memory and work of loading."""

    forms: tuple[Form, ...]
    shapes: tuple[Shape, ...]
    types: tuple[str, ...]
    memory: int
    work: int


def form_of(tensor: Tensor) -> Form:
    """The form of a tensor that is in memory."""
    number = int(tensor.values()) if tensor.shape == () and tensor.dtype == "int64" else None
    return Form(tensor.shape, read_as(tensor.dtype), number)


def numbers_of(forms: Sequence[Form]) -> dict[int, int]:
    """Tensors of one int64 without dimensions, by their references; sizes may be computed with them."""
    return {tensor_ref(k): form.number for k, form in enumerate(forms) if form.number is not None}


def read_as(dtype: str) -> str:
    """The type in which the runtime reads a tensor of the file."""
    return "float32" if dtype == "float16" else dtype


def claims(graph: Graph, forms: Sequence[Form], limits: Limits) -> Claims:
    """Derive all shapes and types; refuse a graph that contradicts itself or claims too much.

    Raises ``CorruptFileError`` when shapes do not fit, or ``LimitError`` when one value has more than
    ``limits.elements`` entries or what depends on tensors alone ``limits.constants`` more than they.
    """
    shapes = _tried(graph, forms)
    largest = max((math.prod(shape) for shape in shapes), default=0)
    limits.check("elements in one value of the graph", largest, limits.elements)
    types = value_types(graph, [form.dtype for form in forms])
    cost = _Cost(graph, forms, shapes, types)
    folded = cost.folded - sum(math.prod(form.shape) for form in forms)
    limits.check("elements computed from weights alone", folded, limits.constants)
    return Claims(tuple(forms), tuple(shapes), tuple(types), cost.memory, cost.work)


def claims_of(model: PackedModel, limits: Limits) -> Claims:
    """The claims of a model in memory, which are checked before its graph is built.

    Some passes and kernels of libraries that read ONNX abort the process at sizes that no writer produces.
    """
    graph = model.graph or Graph((), (), ())
    return claims(graph, [form_of(tensor) for tensor in model.tensors], limits)


def _tried(graph: Graph, forms: Sequence[Form]) -> list[Shape]:
    """The shapes at the first free sizes that fit; the error at the first ones when none do."""
    tensors, numbers = [form.shape for form in forms], numbers_of(forms)
    first: CorruptFileError | None = None
    parts = len(graph.nodes) + sum(len(node.inputs) for node in graph.nodes)
    for inputs in islice(tried_inputs(graph), max(2, _MOST_FOLLOWED // (1 + parts))):
        try:
            return follow(graph, tensors, inputs, numbers)
        except CorruptFileError as error:
            first = first or error
    raise first or CorruptFileError("the graph has no shapes")


class _Cost:
    """Memory and work of loading, summed node by node."""

    def __init__(
        self, graph: Graph, forms: Sequence[Form], shapes: Sequence[Shape], types: Sequence[str]
    ) -> None:
        sizes = [math.prod(form.shape) for form in forms]
        self.folded = 0
        self._read: set[int] = set()
        self.memory = FIXED_BYTES + TENSOR_BYTES * len(forms)
        self.memory += (DECODED_BYTES + VALUE_BYTES) * sum(sizes) + SCRATCH_BYTES * max(sizes, default=0)
        ends = len(graph.inputs) + len(graph.outputs)
        self.memory += _NODE_BYTES * ends
        self.work = ENTRY_STEPS * sum(sizes) + NODE_STEPS * ends
        if graph.ranges:
            self.memory += _INT8_SCRATCH_BYTES * max(sizes, default=0)
        fixed: set[int] = set()
        stored = [form.shape for form in forms]
        for node, outputs in graph.numbered():
            given = node.read(shapes, stored)
            self._node(node, given, bool(graph.ranges))
            if node.op == "size" or all(ref is None or ref < 0 or ref in fixed for ref in node.inputs):
                fixed.update(outputs)
                made = [math.prod(shapes[k]) for k in outputs]
                self.folded += sum(made)
                self.memory += sum(
                    _FOLDED_COPIES * n * _bytes(types[k]) for n, k in zip(made, outputs, strict=True)
                )
                self.work += multiplications(node, given, [shapes[k] for k in outputs])
            elif node.op == "sdpa" and flag_of(node, "causal"):  # the mask, folded where its size is fixed
                self.memory += 16 * scores_of(given)

    def _node(self, node: Node, given: Sequence[Shape | None], int8: bool) -> None:
        times = _NODES.get(node.op, 2) * (int_of(node, "layers") if "layers" in node.attrs else 1)
        self.memory += _NODE_BYTES * times + _REF_BYTES * len(node.inputs)
        self.work += NODE_STEPS * times
        if node.op in SIZED:  # each size among the inputs becomes a vector of one entry
            self.memory += _NODE_BYTES * 3 * (len(node.inputs) - 1)
        hidden = hidden_products(node, given)  # recurrent weights times a projection, made once
        if hidden:
            self.folded += hidden.entries
            self.memory += _PACKED_BYTES["lstm"] * hidden.entries
            self.work += hidden.work + ENTRY_STEPS * hidden.entries
        if node.op == "group_norm":
            self.memory += 4 * 8 * int_of(node, "groups")
        for ref, shape in zip(node.inputs, given, strict=True):
            if ref is not None and ref < 0 and shape is not None:
                size = _filled(shape) if int8 and node.op == "conv" else math.prod(shape)
                again = ref in self._read
                self.memory += (_SHARED_BYTES if again else _PACKED_BYTES.get(node.op, 6)) * size
                self._read.add(ref)
                self.work += ENTRY_STEPS * size


class HiddenProducts(NamedTuple):
    """Recurrent weights of a projected LSTM times its projection: entries, and multiply-accumulates."""

    entries: int
    work: int


def hidden_products(node: Node, given: Sequence[Shape | None]) -> HiddenProducts | None:
    """What a projected LSTM of H units, P outputs makes: matrices (4 H, H) from (4 H, P) and (P, H)."""
    if node.op != "lstm" or not flag_of(node, "projected"):
        return None
    recurrent = given[4] or (0, 0)
    count = int_of(node, "layers") * (2 if flag_of(node, "bidirectional") else 1)
    entries = count * recurrent[0] * (recurrent[0] // 4)
    return HiddenProducts(entries, entries * recurrent[1])


def _filled(shape: Shape) -> int:
    """Entries of a weight whose channels are padded for int8 kernels (``int8/filling.py``)."""
    if len(shape) < 2:
        return math.prod(shape)
    return max(16, shape[0] + 3) * (shape[1] + 3) * math.prod(shape[2:])


def _bytes(dtype: str) -> int:
    return int(np.dtype(dtype).itemsize)


def scores_of(given: Sequence[Shape | None]) -> int:
    """Entries of an attention's scores: a row for each query, a column for each key."""
    query, key = given[0] or (), given[1] or ()
    return max(math.prod(query[:-1]), math.prod(key[:-2] + query[-2:-1])) * (key[-2] if len(key) > 1 else 1)


def multiplications(node: Node, given: Sequence[Shape | None], made: Sequence[Shape]) -> int:
    """Multiply-accumulates of one node, or eight steps for each entry that it reads or writes.

    >>> multiplications(Node("linear", (0, -1)), [(8, 3), (5, 3)], [(8, 5)])
    752
    """
    entries = sum(math.prod(shape) for shape in (*given, *made) if shape is not None)
    return 8 * entries + products(node, given, math.prod(made[0]) if made else 0)


def products(node: Node, given: Sequence[Shape | None], outputs: int) -> int:
    """Multiply-accumulates of one node; 0 for pointwise operations and moves."""
    x, second = given[0] or (), (given[1] if len(given) > 1 else None) or ()
    match node.op:
        case "linear" | "matmul":
            return outputs * (x[-1] if x else 1)
        case "conv":
            return outputs * math.prod(second[1:])
        case "conv_transpose":
            return math.prod(x) * math.prod(second[1:])
        case "max_pool" | "avg_pool":
            return outputs * math.prod(_kernel(node, len(x) - 2))
        case "einsum":
            return contraction(node, tuple(given)).work
        case "sdpa":
            return 2 * scores_of(given) * (x[-1] if x else 1)
        case "lstm" | "gru" | "rnn":
            weights = sum(math.prod(shape) for shape in given[1:] if shape is not None)
            hidden = hidden_products(node, given)
            weights += hidden.entries if hidden else 0
            return weights * (x[0] * x[1] if len(x) == 3 else 1)
        case "resize" | "grid_sample":
            return 16 * outputs
        case "topk":
            return 32 * math.prod(x)
    return 0


def _kernel(node: Node, axes: int) -> list[int]:
    return spread(ints_of(node, "kernel"), axes)


# --- what a call takes --------------------------------------------------------------------------


def call_memory(graph: Graph, shapes: Sequence[Shape], types: Sequence[str], forms: Sequence[Form]) -> int:
    """The most bytes over all nodes: values still needed, and the scratch memory of the node's kernel.

    >>> from laconic.records import ValueSpec
    >>> graph = Graph((ValueSpec("float32", (None, 2)),), (Node("relu", (0,)), Node("relu", (1,))), (2,))
    >>> call_memory(graph, [(8, 2)] * 3, ["float32"] * 3, [])
    128
    """
    left = Counter(ref for node in graph.nodes for ref in node.inputs if ref is not None and ref >= 0)
    left.update(graph.outputs)
    size = [math.prod(shape) * _bytes(kind) for shape, kind in zip(shapes, types, strict=True)]
    live = sum(size[: len(graph.inputs)])
    worst, stored = live, [form.shape for form in forms]
    for node, outputs in graph.numbered():
        live += sum(size[k] for k in outputs)
        given = node.read(shapes, stored)
        worst = max(worst, live + _scratch(node, given, [shapes[k] for k in outputs]))
        left.subtract(ref for ref in node.inputs if ref is not None and ref >= 0)
        gone = {ref for ref in (*node.inputs, *outputs) if ref is not None and ref >= 0 and left[ref] <= 0}
        live -= sum(size[ref] for ref in gone)
    return worst


def _scratch(node: Node, given: Sequence[Shape | None], made: Sequence[Shape]) -> int:
    """Bytes that a kernel allocates beside its inputs and outputs."""
    outputs = sum(math.prod(shape) for shape in made)
    x, second = given[0] or (), (given[1] if len(given) > 1 else None) or ()
    match node.op:
        case "conv":  # windows copied out
            return 4 * math.prod(made[0][2:]) * math.prod(second[1:]) * (x[1] // max(1, second[1]))
        case "conv_transpose":
            return 4 * math.prod(x[2:]) * math.prod(second[1:])
        case "einsum":
            return 8 * contraction(node, tuple(given)).largest
        case "sdpa":
            return 4 * 4 * scores_of(given)
        case "lstm" | "gru" | "rnn":
            steps = x[0] if flag_of(node, "time_major") else x[1]
            widest = math.prod(made[-1]) * steps  # the states; a projected output is narrower
            return 4 * 6 * max(outputs, widest) * 4
        case "topk":
            return 16 * math.prod(x)
        case "floor_divide" | "remainder":
            return 3 * 8 * outputs
        case "group_norm" | "layer_norm" | "resize":
            return 8 * outputs
        case "linear" | "permute" | "reshape" | "flatten" | "identity":
            return 0
    return 4 * outputs if node.op in ("silu", "softplus", "gelu", "stack") else 0
