"""Replaces in-place operations of a traced program by their functional forms, without tracing again."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram

_FRESH = frozenset({
    "conv1d", "conv2d", "conv3d", "linear", "matmul", "batch_norm", "layer_norm", "group_norm",
    "relu6", "selu", "celu",
})  # fmt: skip
"""Composite operations that always return a new tensor."""

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


def mutates(target: Any) -> bool:
    """Whether an operation writes into one of its arguments."""
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def without_in_place(program: ExportedProgram) -> bool:
    """Replace ``x.relu_()`` by ``x.relu()`` and its later uses by the result; True if none is left.

    A write is replaced where nothing else shares the memory of the tensor: an operation made it, and no
    view was taken of it before. The rest (writes into views, inputs and buffers) is left to PyTorch.
    """
    order = {node: place for place, node in enumerate(program.graph.nodes)}
    left = False
    for node in list(program.graph.nodes):
        if node.op == "call_function" and mutates(node.target):
            plain = _plain(node)
            if plain is None or not _owned(node, order):
                left = True
                continue
            _replace(program.graph, node, plain, order)
    program.graph_module.recompile()
    return not left


def _plain(node: torch.fx.Node) -> torch._ops.OpOverload | None:
    """The functional operation that computes the same; None where there is no unique one."""
    target: Any = node.target
    arguments = target._schema.arguments
    written = [a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write]
    name = target.overloadpacket.__name__
    packet = getattr(torch.ops.aten, name[:-1], None) if name.endswith("_") else None
    found = getattr(packet, target._overloadname, None)
    if found is None or found._schema.is_mutable or written != [arguments[0].name]:
        return None
    if [a.name for a in found._schema.arguments] != [a.name for a in arguments]:
        return None
    kinds = {_dtype(arg) for arg in node.args if isinstance(arg, torch.fx.Node)}
    return found if len(kinds) == 1 else None  # else the plain one might have another type


def _dtype(node: torch.fx.Node) -> object:
    return getattr(node.meta.get("val"), "dtype", None)


def _owned(node: torch.fx.Node, order: dict[torch.fx.Node, int]) -> bool:
    """Whether no value that was read before shares memory with the tensor that is written to."""
    source = node.args[0]
    if not isinstance(source, torch.fx.Node) or not _makes(source):
        return False
    earlier = [user for user in source.users if order[user] < order[node]]
    return all(_makes(user) for user in earlier)


def _makes(node: torch.fx.Node) -> bool:
    """Whether a node's result is a new tensor, not a view of an argument."""
    target: Any = node.target
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        return False
    if any(result.alias_info is not None for result in target._schema.returns):
        return False
    composite = target.has_kernel_for_dispatch_key(_COMPOSITE)  # dropout, for one, may return its input
    return not composite or target.overloadpacket.__name__ in _FRESH


def _replace(
    graph: torch.fx.Graph, node: torch.fx.Node, plain: torch._ops.OpOverload, order: dict[torch.fx.Node, int]
) -> None:
    source: Any = node.args[0]
    with graph.inserting_before(node):
        made = graph.call_function(plain, node.args, node.kwargs)
    made.meta = dict(node.meta)
    order[made] = order[node]
    for user in list(source.users):
        if order[user] > order[node]:
            user.replace_input_with(source, made)
    node.replace_all_uses_with(made)
    graph.erase_node(node)
