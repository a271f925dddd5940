"""Facts of a network at one input shape: shapes of all values, bits and zeros of all tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from laconic.errors import InputError, WeightsOnlyError
from laconic.pack.graph.ops import attr, spec_of
from laconic.records import (
    Attr,
    Graph,
    NetworkFacts,
    Node,
    OpFacts,
    PackedModel,
    ValueFacts,
)
from laconic.records.limits import DEFAULT, Limits
from laconic.runtime.facts.int8_facts import integer_facts
from laconic.runtime.graph.given_sizes import at_sizes
from laconic.runtime.graph.sizes import claims, form_of
from laconic.runtime.ops.table import row_of
from laconic.text import counted

Shape = tuple[int, ...]


def network_facts(
    model: PackedModel,
    file_bytes: int,
    *,
    shapes: Sequence[Shape] | None = None,
    batch: int = 1,
    limits: Limits = DEFAULT,
) -> NetworkFacts:
    """Facts of a packed model whose free dimensions are ``batch``, or whose inputs have ``shapes``.

    A model with activation ranges gets the facts of int8 (see :func:`integer_facts`). Shapes are derived
    as when a file is loaded (``runtime/graph/shapes.py``); nothing runs.

    Raises ``WeightsOnlyError`` without a graph, ``InputError`` for shapes that the network does not take.

    >>> import numpy as np
    >>> from laconic.records import RawTensor, ValueSpec
    >>> graph = Graph((ValueSpec("float32", (None, 3)),), (Node("linear", (0, -1)),), (1,))
    >>> model = PackedModel((RawTensor("w", np.eye(3, dtype=np.float32)[:2]),), graph)
    >>> facts = network_facts(model, 0, batch=4)
    >>> facts.values[1].shape, facts.tensors[0].nonzeros, facts.tensors[0].bits
    ((4, 2), 2, 32)
    """
    if model.graph is None:
        raise WeightsOnlyError(
            "this file holds weights without a graph, so its operations cannot be counted. "
            "Cure: save the network with an example input"
        )
    fixed = _fixed(model.graph, _input_shapes(model.graph, shapes, batch))
    claims(fixed, [form_of(tensor) for tensor in model.tensors], limits)  # before ranges of numbers are made
    sized = at_sizes(replace(model, graph=replace(fixed, ranges=())))
    graph = replace(sized.graph or fixed, ranges=fixed.ranges)
    facts = NetworkFacts(
        len(graph.inputs),
        _values(sized, limits),
        _operations(graph, len(model.tensors), model.graph),
        graph.outputs,
        tuple(tensor.cost() for tensor in model.tensors),
        file_bytes,
    )
    return integer_facts(facts, replace(model, graph=graph)) if graph.ranges else facts


def _input_shapes(graph: Graph, shapes: Sequence[Shape] | None, batch: int) -> tuple[Shape, ...]:
    """The inputs' shapes with every free dimension filled in, or the given ones where they fit."""
    specs = graph.inputs
    if shapes is None:
        if batch < 1:
            raise InputError(f"the batch must be at least 1, got {batch}. Cure: batch=1")
        if len(graph.free_axes) > 1:
            text = ", ".join(f"({', '.join(map(str, spec.sizes))})" for spec in specs)
            raise InputError(
                f"the network's free axes are {', '.join(graph.free_axes)}, and the batch alone was given. "
                f"Cure: shapes=, a tuple for each input: {text}"
            )
        return tuple(tuple(batch if d is None else d for d in spec.shape) for spec in specs)
    if len(shapes) != len(specs):
        raise InputError(
            f"the network takes {counted(len(specs), 'input')}, got {counted(len(shapes), 'shape')}. "
            "Cure: one shape for each input, in their order"
        )
    free: dict[str, int] = {}
    for k, (spec, shape) in enumerate(zip(specs, shapes, strict=True)):
        for n, d in zip(shape, spec.sizes, strict=False):
            if isinstance(d, str):
                free.setdefault(d, n)
        wanted = tuple(free.get(d, 0) if isinstance(d, str) else d for d in spec.sizes)
        if tuple(shape) != wanted or min(shape, default=1) < 1:
            text = "x".join(
                map(str, spec.sizes if spec.axes else ("any" if d is None else d for d in spec.shape))
            )
            raise InputError(
                f"input {k} of the network has shape {text}, got {'x'.join(map(str, shape))}. "
                "Cure: give that shape, with one size of at least 1 for each free axis"
            )
    return tuple(tuple(shape) for shape in shapes)


def _fixed(graph: Graph, shapes: Sequence[Shape]) -> Graph:
    """The graph at these input shapes; ``expand`` to the free size becomes ``expand`` to a number."""
    free = {
        n
        for spec, shape in zip(graph.inputs, shapes, strict=True)
        for n, d in zip(shape, spec.shape, strict=True)
        if d is None
    }
    inputs = tuple(replace(spec, shape=s, axes=()) for spec, s in zip(graph.inputs, shapes, strict=True))
    if len(free) != 1:
        return replace(graph, inputs=inputs)
    return replace(graph, inputs=inputs, nodes=tuple(_filled(node, *free) for node in graph.nodes))


def _filled(node: Node, free: int) -> Node:
    shape = attr(node, "shape") if node.op == "expand" else None
    if not isinstance(shape, tuple) or -1 not in shape:
        return node
    return replace(node, attrs={**node.attrs, "shape": tuple(free if d == -1 else d for d in shape)})


def _values(model: PackedModel, limits: Limits) -> tuple[ValueFacts, ...]:
    """Shape and type of every value."""
    found = claims(model.graph or Graph((), (), ()), [form_of(tensor) for tensor in model.tensors], limits)
    return tuple(ValueFacts(shape, kind) for shape, kind in zip(found.shapes, found.types, strict=True))


def _operations(graph: Graph, n_tensors: int, original: Graph) -> tuple[OpFacts, ...]:
    """One fact for each node; what became a constant at this input shape keeps its name and reads nothing."""
    found = []
    folded: set[int] = set()
    for (node, made), before in zip(graph.numbered(), original.nodes, strict=True):
        outputs = tuple(made)
        constant = all(ref is None or ref < 0 or ref in folded for ref in node.inputs)
        folded.update(outputs if constant else ())
        if any(ref is not None and ref < -n_tensors for ref in node.inputs):
            node = replace(before, inputs=(None,))
        found.append(
            OpFacts(node.op, node.inputs, outputs, _attributes(node), constant, kind=row_of(node.op).cost)
        )
    return tuple(found)


def _attributes(node: Node) -> Mapping[str, Attr | None]:
    return {spec.name: attr(node, spec.name) for spec in spec_of(node.op).attrs}
