"""A graph as the steps that a device takes: layers with their normalisation and activation folded in.

Integer arithmetic writes a layer's sum once, after batch normalisation and activation. So calibration, the
int8 graph and the emulation all speak of steps, not of nodes, and all get them here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from laconic.pack.graph.ops import SIZED, flag_of, float_of, int_of, ints_of, text_of
from laconic.records import Graph, Node

if TYPE_CHECKING:
    from laconic.records import ActivationRange

LAYERS = ("linear", "conv", "conv_transpose")
_ACTIVATIONS = ("relu", "clamp")
_JOINS = ("add", "concat")
AVERAGES = ("avg_pool", "global_avg_pool", "mean")
_MOVES = (
    "flatten", "reshape", "permute", "unsqueeze", "squeeze", "slice", "select", "expand", "tile",
    "pixel_shuffle", "identity", "relu", "max_pool", "global_max_pool", "amax",
)  # fmt: skip


class Step(NamedTuple):
    """One node and what is folded into it: ``outputs`` are the value ids after all of it."""

    node: Node
    outputs: tuple[int, ...]
    norm: Node | None = None
    activation: Node | None = None

    @property
    def is_layer(self) -> bool:
        """A linear layer or (transposed) convolution whose weights and bias are tensors of the file."""
        return self.node.op in LAYERS and all(ref is None or ref < 0 for ref in self.node.inputs[1:])

    @property
    def is_join(self) -> bool:
        """A sum or concatenation of computed values."""
        refs = self.node.inputs
        return self.node.op in _JOINS and len(refs) > 1 and all(ref is not None and ref >= 0 for ref in refs)

    @property
    def moves(self) -> bool:
        """Whether each output is one of the inputs, or zero: it has its input's range, exactly."""
        node = self.node
        if node.op == "pad":
            return text_of(node, "mode") != "constant" or float_of(node, "value") == 0.0
        if node.op == "resize":
            return text_of(node, "mode") == "nearest"
        return node.op in _MOVES

    @property
    def keeps_range(self) -> bool:
        """Whether the output fits the input's range: it moves values, or averages them."""
        return self.moves or self.node.op in AVERAGES


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
    if step.node.op in AVERAGES:
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
    count = len(graph.inputs)
    for node in graph.nodes:
        outputs = tuple(range(count, count + node.n_outputs))
        count += node.n_outputs
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
    steps, count = [], len(graph.inputs)
    for node in graph.nodes:
        steps.append(Step(node, tuple(range(count, count + node.n_outputs))))
        count += node.n_outputs
    return tuple(steps)


def _folded(step: Step, node: Node, rank: Mapping[int, int]) -> Step | None:
    """The step with one more node in it; None where integer arithmetic could not do that."""
    if step.activation is not None:
        return None
    if node.op == "batch_norm" and step.is_layer and step.norm is None:
        matrix = step.node.op != "linear" or rank.get(step.outputs[0]) == 2
        tensors = all(ref is None or ref < 0 for ref in node.inputs[1:])
        return step._replace(norm=node) if matrix and tensors else None
    if node.op in _ACTIVATIONS and (step.is_layer or step.node.op == "add" and step.is_join):
        return step._replace(activation=node)
    return None


def ranks(graph: Graph) -> dict[int, int]:
    """The number of dimensions of each value, where the graph alone says it."""
    known = {k: len(spec.shape) for k, spec in enumerate(graph.inputs)}
    count = len(graph.inputs)
    for node in graph.nodes:
        refs = [ref for ref in node.inputs if ref is not None and ref >= 0]
        rank = _rank(node, [known.get(ref) for ref in refs])
        if rank is not None:
            known[count] = rank
        count += node.n_outputs
    return known


def _rank(node: Node, given: list[int | None]) -> int | None:
    """Rank of a node's first output from those of the values that it reads."""
    first = given[0] if given else None
    if node.op == "flatten":
        return 2
    if node.op == "reshape":
        return len(ints_of(node, "shape"))
    if first is None:
        return None
    if node.op in ("mean", "amax"):
        dims = len(ints_of(node, "dims")) or first
        return first if node.attrs.get("keepdim") else first - dims
    if node.op == "select":
        return first - 1
    if node.op == "unsqueeze":
        return first + len(ints_of(node, "dims"))
    same = (
        *LAYERS,
        *_ACTIVATIONS,
        "batch_norm",
        "max_pool",
        "avg_pool",
        "global_avg_pool",
        "global_max_pool",
    )
    if node.op in same or node.op in (
        "identity",
        "slice",
        "pad",
        "permute",
        "concat",
        "resize",
        "pixel_shuffle",
    ):
        return first
    if node.op == "add" and None not in given:
        return max(rank for rank in given if rank is not None)
    return None


def axis_of(node: Node, rank: int) -> int:
    """A node's axis, counted from the front."""
    axis = int_of(node, "axis")
    return axis + rank if axis < 0 else axis


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
