"""A graph at one input shape: what it computes from its free sizes becomes numbers, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from laconic.pack.ops import GIVEN, SIZED, int_of, ints_of
from laconic.records import AnyArray, Graph, Node, PackedModel, RawTensor, Tensor
from laconic.runtime.emit_shapes import LONGEST_RANGE

Shape = tuple[int | None, ...]
Shapes = Mapping[int, Shape]

_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floor_divide": lambda a, b: a // max(b, 1),
    "remainder": lambda a, b: a % max(b, 1),
    "maximum": max,
    "minimum": min,
}


def at_sizes(model: PackedModel, shapes_of: Callable[[PackedModel], Shapes]) -> PackedModel:
    """The model, whose inputs have fixed shapes, without operations on sizes.

    ``size``, ``arange`` and the arithmetic between become new tensors of the model, given on by ``identity``,
    and sizes among inputs become attributes; every value keeps its number. ``shapes_of`` tells the shapes of
    a model's values as far as they are known: sizes of computed values take a round of it each.
    """
    graph = model.graph
    if graph is None or not any(map(_open, graph.nodes)):
        return model
    shapes: Shapes = {k: spec.shape for k, spec in enumerate(graph.inputs)}
    while True:
        before = sum(map(_open, graph.nodes))
        model = _Filler(model.tensors, shapes).filled(model, graph)
        graph = model.graph or graph
        left = sum(map(_open, graph.nodes))
        if not left or (left == before and len(shapes) > len(graph.inputs)):
            return model
        shapes = shapes_of(model)


def _open(node: Node) -> bool:
    """Whether a node still reads or computes with a size."""
    return node.op in ("size", "arange") or (node.op in SIZED and len(node.inputs) > 1)


class _Filler:
    """One pass over a graph's nodes: the numbers that are known, and the tensors they become."""

    def __init__(self, tensors: Sequence[Tensor], shapes: Shapes) -> None:
        self.tensors = list(tensors)
        self.shapes = shapes
        self.numbers: dict[int, int] = {}

    def filled(self, model: PackedModel, graph: Graph) -> PackedModel:
        """The model with what this pass knows."""
        nodes, count = [], len(graph.inputs)
        for node in graph.nodes:
            nodes.append(self._node(node, count))
            count += node.n_outputs
        return replace(model, tensors=tuple(self.tensors), graph=replace(graph, nodes=tuple(nodes)))

    def _node(self, node: Node, value: int) -> Node:
        if node.op in SIZED and len(node.inputs) > 1:
            return self._sized(node)
        if node.op == "arange":
            number = self._number(node.inputs[0])
            if number is None:
                return node
            return self._constant(np.arange(max(0, min(number, LONGEST_RANGE)), dtype=np.int64))
        found = self._computed(node)
        if found is None:
            return node
        self.numbers[value] = found
        return node if node.op == "identity" else self._constant(np.asarray(found, dtype=np.int64))

    def _computed(self, node: Node) -> int | None:
        """The node's value where it is one whole number made of sizes."""
        if node.op == "size":
            shape, axis = self.shapes.get(node.inputs[0] or 0), int_of(node, "axis")
            return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
        if node.op == "identity":
            return self._number(node.inputs[0])
        parts = [self._number(ref) for ref in node.inputs]
        if node.op not in _ARITHMETIC or len(parts) != 2 or parts[0] is None or parts[1] is None:
            return None
        found = _ARITHMETIC[node.op](parts[0], parts[1])
        return found if -(2**62) < found < 2**62 else None

    def _number(self, ref: int | None) -> int | None:
        """The whole number without dimensions that a value or a tensor is known to be."""
        if ref is None or ref >= 0:
            return self.numbers.get(-1 if ref is None else ref)
        tensor = self.tensors[-1 - ref]
        single = isinstance(tensor, RawTensor) and tensor.array.shape == () and tensor.array.dtype == np.int64
        return int(tensor.values()) if single else None

    def _sized(self, node: Node) -> Node:
        """Sizes among the inputs as attributes, once all are known."""
        given = [None if ref is None else self._number(ref) for ref in node.inputs[1:]]
        if any(n is None for n, ref in zip(given, node.inputs[1:], strict=True) if ref is not None):
            return node
        name = {"resize": "size"}.get(node.op, "shape")
        attrs = dict(node.attrs)
        if node.op == "slice":
            ends = zip(("start", "end"), given, strict=False)
            attrs |= {key: number for key, number in ends if number is not None}
        elif ints_of(node, name).count(GIVEN) == len(given):
            numbers = iter([number or 0 for number in given])
            attrs[name] = tuple(next(numbers) if n == GIVEN else n for n in ints_of(node, name))
        else:
            return node
        return replace(node, inputs=node.inputs[:1], attrs=attrs)

    def _constant(self, array: AnyArray) -> Node:
        self.tensors.append(RawTensor(f"size/{len(self.tensors)}", array))
        return Node("identity", (-len(self.tensors),))
