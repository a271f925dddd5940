"""A graph as the steps that a device takes: layers with their normalisation and activation folded in.

Integer arithmetic rounds a layer's sum once, after batch normalisation and activation. So int8 code works on
steps, not on nodes (``int8/schedule.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from laconic.records import Graph, Node
from laconic.runtime.ops.table import int8_of, row_of


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
        """Whether the output has the input's range: the step moves values, or averages them."""
        return int8_of(self.node) in ("move", "average")


def fuse(
    graph: Graph, visible: Collection[int] = (), rank: Mapping[int, int] | None = None
) -> tuple[Step, ...]:
    """The graph's steps in order. ``visible`` values must stay: they are not folded away.

    ``rank`` is what :func:`ranks` found, where it is known already.

    Batch normalisation goes into a convolution (or a linear layer on a matrix), relu and clamp into layers
    and sums, where nothing else reads the value between.

    >>> from laconic.records import ValueSpec
    >>> nodes = (Node("conv", (0, -1, -2)), Node("batch_norm", (1, -3, -4, -5, -6)), Node("relu", (2,)))
    >>> [step.outputs for step in fuse(Graph((ValueSpec("float32", (None, 3, 8, 8)),), nodes, (3,)))]
    [(3,)]
    """
    readers = Counter(ref for node in graph.nodes for ref in node.inputs if ref is not None)
    rank = ranks(graph) if rank is None else rank
    kept = {*visible, *graph.outputs}
    steps: list[Step] = []
    for node, made in graph.numbered():
        outputs = tuple(made)
        before = steps[-1] if steps else None
        open_end = before and before.outputs == node.inputs[:1] and readers[before.outputs[0]] == 1
        folded = (
            _folded(before, node, rank) if before and open_end and before.outputs[0] not in kept else None
        )
        if folded is not None:
            steps[-1] = folded._replace(outputs=outputs)
        else:
            steps.append(Step(node, outputs))
    return tuple(steps)


def _folded(step: Step, node: Node, rank: Mapping[int, int]) -> Step | None:
    """The step with one more node folded in; None where integer arithmetic cannot fold it."""
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
    """The number of dimensions of each value, where the graph alone determines it."""
    known = {k: len(spec.shape) for k, spec in enumerate(graph.inputs)}
    for node, outputs in graph.numbered():
        refs = [ref for ref in node.inputs if ref is not None and ref >= 0]
        rank = row_of(node.op).rank(node, [known.get(ref) for ref in refs])
        if rank is not None:
            known[outputs[0]] = rank
    return known
