"""A graph's steps as ONNX nodes, one after the other: what each value is called, and of which type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from laconic.errors import CorruptFileError, FileFormatError
from laconic.records import Graph, Node, PackedModel
from laconic.runtime.graph.steps import Step, nodes_alone
from laconic.runtime.onnx_model.builder import Builder
from laconic.runtime.ops.shape_rules import MISFITS
from laconic.runtime.ops.table import row_of


class Plan:
    """Names and types of the values emitted so far; each node of the graph is a step of its own."""

    def __init__(self, model: PackedModel, graph: Graph) -> None:
        self.tensors = model.tensors
        self.builder = Builder(model.tensors, graph.inputs, graph.result_names)
        self.exact: dict[int, str] = {}
        self.types: dict[int, str] = {}
        self.steps = nodes_alone(graph)

    def put_input(self, value: int, name: str, kind: str) -> None:
        """Note an input's name and type."""
        self.put(value, name, kind)

    def put(self, value: int, name: str, kind: str) -> None:
        """Note a value's name and type."""
        self.exact[value], self.types[value] = name, kind

    def name(self, value: int) -> str:
        """What float32 nodes read."""
        return self.exact[value]

    def emit(self, step: Step) -> None:
        """One step's nodes."""
        results, kinds = self._plain(step.node, None)
        if step.norm is not None:
            results, kinds = self._plain(step.norm, results[0])
        if step.activation is not None:
            results, kinds = self._plain(step.activation, results[0])
        for value, name, own in zip(step.outputs, results, kinds, strict=True):
            self.put(value, name, own)

    def _plain(self, node: Node, first: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A node in float32; ``first`` is its first input when that is folded away."""
        b = self.builder
        refs = node.inputs if first is None else node.inputs[1:]
        given = tuple("" if r is None else self.name(r) if r >= 0 else b.tensor(-1 - r) for r in refs)
        kinds = [_type_of_input(b, self.types, r) for r in refs]
        if first is not None:
            given, kinds = (first, *given), ["float32", *kinds]
        return _emit(b, node, given), row_of(node.op).result(node, kinds)


def _emit(b: Builder, node: Node, given: tuple[str, ...]) -> tuple[str, ...]:
    form = row_of(node.op).form
    with fitting(node.op):
        return form(b, node, given)


@contextmanager
def fitting(op: str) -> Iterator[None]:
    """Shapes that no writer puts together are a corrupt file."""
    try:
        yield
    except FileFormatError:
        raise
    except MISFITS as error:
        raise CorruptFileError(f"operation {op!r} does not fit its tensors: {error}") from error


def _type_of_input(b: Builder, types: Mapping[int, str], ref: int | None) -> str:
    if ref is None:
        return "float32"
    return types[ref] if ref >= 0 else str(b.array(b.tensor(-1 - ref)).dtype)
