"""How a calibrated graph runs in integer arithmetic: its steps, their kinds, and the ranges of its values.

The int8 ONNX model, the cost facts and the device emulation use the same schedule. Calibration also gets from
this module the values that need a range.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from laconic.pack.graph.ops import SIZED, flag_of
from laconic.records import Graph
from laconic.runtime.graph.steps import Step, fuse, ranks
from laconic.runtime.ops.row import Int8
from laconic.runtime.ops.shape_rules import fitting
from laconic.runtime.ops.table import int8_of

if TYPE_CHECKING:
    from laconic.records import ActivationRange


class Schedule(NamedTuple):
    """The steps of a graph in integer arithmetic.

    Attributes:
        steps: The steps in order.
        kinds: How each step runs.
        ranges: The activation range of each value that has one, its own or its source's.
        own: The values whose range is stored in the file.
        ranks: The number of dimensions of each value, where the graph alone determines it.
    """

    steps: tuple[Step, ...]
    kinds: tuple[Int8, ...]
    ranges: Mapping[int, ActivationRange]
    own: frozenset[int]
    ranks: Mapping[int, int]

    @property
    def kind_at(self) -> Mapping[int, Int8]:
        """The kind of each step, by its first output."""
        return {step.outputs[0]: kind for step, kind in zip(self.steps, self.kinds, strict=True)}


@fitting("int8")
def schedule_of(graph: Graph) -> Schedule:
    """The schedule of a graph with activation ranges; a value with a range of its own is not folded away.

    >>> from laconic.records import ActivationRange, Node, ValueSpec
    >>> nodes = (Node("linear", (0, -1)), Node("relu", (1,)), Node("sigmoid", (2,)))
    >>> ranges = (ActivationRange(0, 0.125, 0), ActivationRange(2, 0.125, 0))
    >>> found = schedule_of(Graph((ValueSpec("float32", (None, 3)),), nodes, (3,), ranges))
    >>> [(step.node.op, kind) for step, kind in zip(found.steps, found.kinds)]
    [('linear', 'layer'), ('sigmoid', 'float')]

    Raises ``CorruptFileError`` for attributes that no writer produces.
    """
    own = frozenset(entry.value for entry in graph.ranges)
    known = ranks(graph)
    steps = fuse(graph, own, known)
    ranges = _spread(graph, steps)
    kinds = tuple([_kind_of(step, ranges, own) for step in steps])
    return Schedule(steps, kinds, ranges, own, known)


def _kind_of(step: Step, known: Collection[int], own: Collection[int]) -> Int8:
    """How a step runs in integer arithmetic; "float" if it does not.

    ``known`` are the values that have a range, ``own`` those whose range is stored in the file.
    """
    # the other inputs of an operation that is given sizes are no activations
    inputs = step.node.inputs[:1] if step.node.op in SIZED else step.node.inputs
    refs = [ref for ref in inputs if ref is not None and ref >= 0]
    if not refs or not all(ref in known for ref in refs):
        return "float"
    has_own = step.outputs[0] in own
    if step.is_layer:
        return "layer" if has_own else "float"
    if step.is_join:
        return "join" if has_own else "float"
    if has_own:
        return "float"  # a range of its own behind a move: no kernel rounds there
    if int8_of(step.node) == "average":
        return "float" if step.node.op == "avg_pool" and flag_of(step.node, "ceil") else "average"
    return "move" if step.moves and len(refs) == len(inputs) == 1 else "float"


def to_calibrate(graph: Graph) -> tuple[int, ...]:
    """The values that need a range of their own, in rising order.

    These are the outputs of layers, their inputs (before reshapes and other moves), and sums and
    concatenations of such values. Other values take the range of their source, or stay float32.
    """
    wanted: set[int] = set()
    roots: dict[int, int] = {}
    for step in fuse(graph):
        source = step.node.inputs[0]
        if source is None or source < 0:
            continue
        if step.keeps_range:
            roots[step.outputs[0]] = roots.get(source, source)
        elif step.is_layer:
            wanted.update((roots.get(source, source), step.outputs[0]))
        elif step.is_join and {roots.get(r, r) for r in step.node.inputs if r is not None} <= wanted:
            wanted.add(step.outputs[0])
    return tuple(sorted(wanted))


def _spread(graph: Graph, steps: tuple[Step, ...]) -> dict[int, ActivationRange]:
    """The range of every value that has one, its own or that of the value which it comes from."""
    known = {entry.value: entry for entry in graph.ranges}
    for step in steps:
        source = step.node.inputs[0]
        if step.keeps_range and source in known and step.outputs[0] not in known and source is not None:
            known[step.outputs[0]] = known[source]
    return known
