"""A captured graph: from the operations of a lowering to the order of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from laconic.export.lowering import Lowering, Ref
from laconic.records import Graph, Node, RawTensor, tensor_index, tensor_ref


@dataclass(frozen=True)
class CapturedGraph:
    """A network's arithmetic and the tensors that it reads.

    ``tensor_names`` are state-dict names followed by the reserved names ('@0', '@1', ...) of
    ``constants``; tensor k of the graph is ``tensor_names[k]``. ``aliases`` maps names of shared
    weights to the name under which they are stored. ``notes`` are for the user.
    """

    graph: Graph
    tensor_names: tuple[str, ...]
    constants: tuple[RawTensor, ...]
    aliases: Mapping[str, str]
    notes: tuple[str, ...] = ()


def finished(
    low: Lowering, results: Sequence[Ref], module: nn.Module, names: Mapping[str, str], notes: tuple[str, ...]
) -> CapturedGraph:
    """A lowering without what no output needs, its tensors numbered as the file will hold them.

    Args:
        low: The operations, and the tensors that they read.
        results: The outputs.
        module: The network.
        names: Its state-dict names, each with the name under which a shared tensor is stored.
        notes: For the user.
    """
    nodes, outputs = _live(low, [r.id for r in results])
    used = {
        low.tensor_names[tensor_index(r)] for node in nodes for r in node.inputs if r is not None and r < 0
    }
    state = module.state_dict()
    kept = [
        name
        for name, first in names.items()
        if name == first and (name in used or state[name].is_floating_point() or state[name].is_complex())
    ]
    constants = tuple(RawTensor(name, array) for name, array in low.constants.items() if name in used)
    order = {name: k for k, name in enumerate([*kept, *(c.name for c in constants)])}
    place = {
        tensor_ref(k): tensor_ref(order[name]) for k, name in enumerate(low.tensor_names) if name in order
    }
    nodes = [
        replace(node, inputs=tuple(place.get(r, r) if r is not None else None for r in node.inputs))
        for node in nodes
    ]
    aliases = {name: first for name, first in names.items() if name != first and first in order}
    return CapturedGraph(
        Graph(tuple(low.inputs), tuple(nodes), tuple(outputs)), tuple(order), constants, aliases, notes
    )


def _live(low: Lowering, outputs: Sequence[int]) -> tuple[list[Node], list[int]]:
    """Nodes that some output needs, with values renumbered."""
    needed = set(outputs)
    starts: list[int] = []
    count = len(low.inputs)
    for node in low.nodes:
        starts.append(count)
        count += node.n_outputs
    keep: list[bool] = []
    for node, start in zip(reversed(low.nodes), reversed(starts), strict=True):
        alive = any(start + k in needed for k in range(node.n_outputs))
        keep.append(alive)
        needed.update(r for r in node.inputs if alive and r is not None)
    number = {k: k for k in range(len(low.inputs))}
    kept = []
    for node, start, alive in zip(low.nodes, starts, reversed(keep), strict=True):
        if alive:
            kept.append(
                replace(node, inputs=tuple(number[r] if r is not None and r >= 0 else r for r in node.inputs))
            )
            number |= {start + k: len(number) + k for k in range(node.n_outputs)}
    return kept, [number[r] for r in outputs]
