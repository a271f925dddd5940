"""A graph as the steps that a device takes: layers with their normalisation and activation folded in.

Integer arithmetic writes a layer's sum once, after batch normalisation and activation. So calibration, the
int8 graph and the emulation all speak of steps, not of nodes, and all get them here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from laconic.pack.graph.ops import SIZED, flag_of
from laconic.records import Graph, Node
from laconic.runtime.ops.table import int8_of, row_of

if TYPE_CHECKING:
    from laconic.records import ActivationRange


class Step(NamedTuple):
    """One node and what is folded into it: ``outputs`` are the value ids after all of it."""

    node: Node
    outputs: tuple[int, ...]
    norm: Node | None = None
    activation: Node | None = None

    @property
    def is_layer(self) -> bool:
        """A linear layer or (transposed) convolution whose weights and bias are tensors of the file."""
        stored = all(ref is None or ref < 0 for ref in self.node.inputs[1:])
        return stored and int8_of(self.node) == "layer"

    @property
    def is_join(self) -> bool:
        """A sum or concatenation of computed values."""
        refs = self.node.inputs
        computed = len(refs) > 1 and all(ref is not None and ref >= 0 for ref in refs)
        return computed and int8_of(self.node) == "join"

    @property
    def moves(self) -> bool:
        """Whether each output is one of the inputs, or zero: it has its input's range, exactly."""
        return int8_of(self.node) == "move"

    @property
    def keeps_range(self) -> bool:
        """Whether the output fits the input's range: it moves values, or averages them."""
        return int8_of(self.node) in ("move", "average")


Kind = Literal["layer", "join", "average", "move", "float"]


def kind_of(step: Step, known: Collection[int], own: Collection[int]) -> Kind:
    """How a step runs in integer arithmetic; "float" if it does not.

    ``known`` are the values that have a range, ``own`` those whose range the file says.
    """
    inputs = step.node.inputs[:1] if step.node.op in SIZED else step.node.inputs  # sizes are no activations
    refs = [ref for ref in inputs if ref is not None and ref >= 0]
    if not refs or not all(ref in known for ref in refs):
        return "float"
    has_own = step.outputs[0] in own
    if step.is_layer:
        return "layer" if has_own else "float"
    if step.is_join:
        return "join" if has_own else "float"
    if has_own:
        return "float"  # a range of its own where values only move: a rounding that no kernel has
    if int8_of(step.node) == "average":
        return "float" if step.node.op == "avg_pool" and flag_of(step.node, "ceil") else "average"
    return "move" if step.moves and len(refs) == len(inputs) == 1 else "float"


def fuse(graph: Graph, visible: Collection[int] = ()) -> tuple[Step, ...]:
    """The graph's steps in order. ``visible`` values are needed by themselves: nothing is folded over them.

    Batch normalisation goes into a convolution (or a linear layer on a matrix), relu and clamp into layers
    and sums, where nobody else reads the value between.

    >>> from laconic.records import ValueSpec
    >>> nodes = (Node("conv", (0, -1, -2)), Node("batch_norm", (1, -3, -4, -5, -6)), Node("relu", (2,)))
    >>> [step.outputs for step in fuse(Graph((ValueSpec("float32", (None, 3, 8, 8)),), nodes, (3,)))]
    [(3,)]
    """
    readers = Counter(ref for node in graph.nodes for ref in node.inputs if ref is not None)
    rank = ranks(graph)
    shut = {*visible, *graph.outputs}
    steps: list[Step] = []
    for node, made in graph.numbered():
        outputs = tuple(made)
        before = steps[-1] if steps else None
        open_end = before and before.outputs == node.inputs[:1] and readers[before.outputs[0]] == 1
        folded = (
            _folded(before, node, rank) if before and open_end and before.outputs[0] not in shut else None
        )
        if folded is not None:
            steps[-1] = folded._replace(outputs=outputs)
        else:
            steps.append(Step(node, outputs))
    return tuple(steps)


def nodes_alone(graph: Graph) -> tuple[Step, ...]:
    """Each node as a step of its own."""
    return tuple([Step(node, tuple(outputs)) for node, outputs in graph.numbered()])


def _folded(step: Step, node: Node, rank: Mapping[int, int]) -> Step | None:
    """The step with one more node in it; None where integer arithmetic could not do that."""
    if step.activation is not None:
        return None
    folds = row_of(node.op).folds
    if folds == "norm" and step.is_layer and step.norm is None:
        matrix = step.node.op != "linear" or rank.get(step.outputs[0]) == 2
        tensors = all(ref is None or ref < 0 for ref in node.inputs[1:])
        return step._replace(norm=node) if matrix and tensors else None
    if folds == "activation" and (step.is_layer or step.node.op == "add" and step.is_join):
        return step._replace(activation=node)
    return None


def ranks(graph: Graph) -> dict[int, int]:
    """The number of dimensions of each value, where the graph alone says it."""
    known = {k: len(spec.shape) for k, spec in enumerate(graph.inputs)}
    for node, outputs in graph.numbered():
        refs = [ref for ref in node.inputs if ref is not None and ref >= 0]
        rank = row_of(node.op).rank(node, [known.get(ref) for ref in refs])
        if rank is not None:
            known[outputs[0]] = rank
    return known


def to_calibrate(graph: Graph) -> tuple[int, ...]:
    """The values that want a range of their own, in rising order.

    These are what a layer leaves, what feeds one (at the last place where it was computed), and sums and
    concatenations of such values. All else is moved about, or stays float32.
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


def spread_ranges(graph: Graph, steps: tuple[Step, ...]) -> dict[int, ActivationRange]:
    """The range of every value that has one, its own or that of the value which it comes from."""
    known = {entry.value: entry for entry in graph.ranges}
    for step in steps:
        source = step.node.inputs[0]
        if step.keeps_range and source in known and step.outputs[0] not in known and source is not None:
            known[step.outputs[0]] = known[source]
    return known
