"""Emits a graph's steps as ONNX nodes in order, and keeps the name and type of each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from laconic.errors import InputError
from laconic.records import Graph, Node, PackedModel, Record, record, tensor_index
from laconic.runtime.graph.steps import Step
from laconic.runtime.onnx_model.builder import Builder
from laconic.runtime.onnx_model.protos import OWN, OnnxNode
from laconic.runtime.ops.shape_rules import fitting
from laconic.runtime.ops.table import row_of


@record
class Part(Record):
    """Steps of a graph that one placeholder ONNX node represents; an engine replaces or computes that node.

    The k-th part of a plan becomes a node in the domain ``OWN`` whose attribute ``part`` is k.

    Attributes:
        x: The value that it reads, by its id.
        values: The ids of the float32 values that its steps make, in order; only the last is read elsewhere.
        plus: A value or tensor (by its reference) that is added to the node's output; None for nothing.
    """

    x: int
    values: tuple[int, ...]
    plus: int | None = None


def part_of(node: OnnxNode) -> int:
    """The number of the part that a node in the domain ``OWN`` represents."""
    number = node.attrs["part"]
    if not isinstance(number, int):
        raise InputError(f"the node of a part has no number: {node.attrs}")
    return number


class Plan:
    """Names and types of the values emitted so far; each node of the graph is a step of its own."""

    def __init__(self, model: PackedModel, graph: Graph, parts: Sequence[Part] = ()) -> None:
        self.tensors = model.tensors
        self.builder = Builder(model.tensors, graph.inputs, graph.result_names)
        self.exact: dict[int, str] = {}
        self.types: dict[int, str] = {}
        self.steps = tuple([Step(node, tuple(outputs)) for node, outputs in graph.numbered()])
        self._parts = {value: (k, part) for k, part in enumerate(parts) for value in part.values}

    def put_input(self, value: int, name: str, kind: str) -> None:
        """Note an input's name and type."""
        self.put(value, name, kind)

    def put(self, value: int, name: str, kind: str) -> None:
        """Note a value's name and type."""
        self.exact[value], self.types[value] = name, kind

    def name(self, value: int) -> str:
        """The name that float32 nodes read."""
        return self.exact[value]

    def emit(self, step: Step) -> None:
        """One step's nodes."""
        if step.outputs[0] in self._parts:
            self._emit_part(step.outputs[0])
            return
        results, kinds = self._plain(step.node, None)
        if step.norm is not None:
            results, kinds = self._plain(step.norm, results[0])
        if step.activation is not None:
            results, kinds = self._plain(step.activation, results[0])
        for value, name, own in zip(step.outputs, results, kinds, strict=True):
            self.put(value, name, own)

    def _emit_part(self, value: int) -> None:
        """The one node of a part, where the first of its values is made."""
        number, part = self._parts[value]
        if value != part.values[0]:
            return
        b = self.builder
        name = b.fresh("Part")
        b.nodes.append(OnnxNode("Part", (self.name(part.x),), (name,), {"part": number}, OWN))
        if part.plus is not None:
            name = b.op("Add", name, self._read(part.plus))
        self.put(part.values[-1], name, "float32")

    def _read(self, ref: int) -> str:
        """The name of a value or of a tensor of the file."""
        return self.name(ref) if ref >= 0 else self.builder.tensor(tensor_index(ref))

    def _plain(self, node: Node, first: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A node in float32; ``first`` is the name of its first input when that is a folded step."""
        b = self.builder
        refs = node.inputs if first is None else node.inputs[1:]
        given = tuple("" if r is None else self._read(r) for r in refs)
        kinds = [_type_of_input(b, self.types, r) for r in refs]
        if first is not None:
            given, kinds = (first, *given), ["float32", *kinds]
        with fitting(node.op):
            row = row_of(node.op)
            return row.form(b, node, given), row.result(node, kinds)


def _type_of_input(b: Builder, types: Mapping[int, str], ref: int | None) -> str:
    if ref is None:
        return "float32"
    return types[ref] if ref >= 0 else str(b.array(b.tensor(tensor_index(ref))).dtype)
