"""Whole branches: layers whose units may all be removed, since another path around them remains.

When no unit of the inner layer of a residual block is left, the output of its last layer is the same for
every input: one number per channel. The modules of the branch are then replaced by these numbers
(:class:`Constant`), which is exact, or by nothing where the numbers are zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from laconic.networks import inference, positional
from laconic.networks.modes import evaluating

_BY_CHANNEL = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
)
KINDS = (*_BY_CHANNEL, nn.Linear)  # modules that a branch may be made of


@dataclass(frozen=True)
class Branch:
    """The modules that are replaced when a group loses all its units.

    ``constant``: modules whose output no longer depends on the input. ``unread``: modules whose output then
    reaches no result.
    """

    constant: tuple[str, ...]
    unread: tuple[str, ...] = ()

    @property
    def modules(self) -> tuple[str, ...]:
        """All modules that are replaced."""
        return self.constant + tuple(n for n in self.unread if n not in self.constant)


@dataclass(frozen=True, eq=False)
class Branches:
    """Groups that may lose all their units, and inputs from which the constants of a branch are computed."""

    by_group: Mapping[str, Branch] = field(default_factory=dict)
    example: Any = ()

    def __contains__(self, group: object) -> bool:
        return group in self.by_group


class Constant(nn.Module):
    """One number per channel whatever the input, shaped to be added to a batch; learnt, unless all are zero.

    >>> Constant(torch.ones(1, 2, 1, 1))(torch.zeros(5, 3, 8, 8)).shape
    torch.Size([1, 2, 1, 1])
    """

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        if bool((value != 0).any()):
            self.value: Tensor = nn.Parameter(value)
        else:
            self.register_buffer("value", value, persistent=False)

    def forward(self, _: Tensor) -> Tensor:
        """The numbers, whatever the input. A copy, since the reader may write in place."""
        return self.value.clone()

    def extra_repr(self) -> str:
        """How many numbers, and whether they are zero."""
        return f"{self.value.numel()}" + ("" if isinstance(self.value, nn.Parameter) else ", zero")


def close_branches(module: nn.Module, masked: nn.Module, branches: Branches, emptied: Iterable[str]) -> None:
    """Replace, in ``module``, the modules of emptied groups by their constant outputs in ``masked``."""
    found = [branches.by_group[name] for name in emptied]
    close(module, found, watched(masked, branches.example).outputs)


def close(module: nn.Module, branches: Iterable[Branch], outputs: Mapping[str, Tensor]) -> None:
    """Replace the modules of some branches by their constant outputs, or by zero where nothing reads them."""
    branches = list(branches)
    unread = {name for b in branches for name in b.unread}
    for name in dict.fromkeys(name for b in branches for name in b.modules):
        value = torch.zeros_like(outputs[name]) if name in unread else outputs[name]
        place, _, child = name.rpartition(".")
        setattr(module.get_submodule(place), child, Constant(value).train(module.training))


def run(module: nn.Module, example: Any, *, gradients: bool = False) -> Any:
    """One run in evaluation mode, on the module's device and in its precision; its modes stay.

    ``example``: inputs by position, or a dictionary by the names of ``forward``.
    """
    module, inputs = positional(module, example)
    p = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    given = [x.to(p.device, p.dtype) if x.is_floating_point() else x.to(p.device) for x in inputs]
    with evaluating(module), inference(), torch.set_grad_enabled(gradients):
        return module(*(x.clone() for x in given))  # a network may write into its input


@dataclass(frozen=True, eq=False)
class Watched:
    """One run of a network, and the outputs of those layers that a branch may be made of.

    ``outputs``: by layer, one number per channel at the first position of the first example. ``constant``:
    layers whose output was the same for every example at every position. ``unread``: layers that only
    constant layers read, or none.
    """

    result: Any
    outputs: Mapping[str, Tensor]
    constant: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class NotConstant(Exception):
    """The output of a layer that should be constant depends on the input: the run need not go on."""


def watched(
    module: nn.Module,
    example: Any,
    tolerance: float = 0.0,
    always: Sequence[str] = (),
    expected: Collection[str] = (),
) -> Watched:
    """Run a network and watch its layers; ``always`` are those that are constant anyway.

    Layers are in the order of their calls; one that is called twice is not constant. Which layer reads which
    is seen in the graph of gradients (none is computed), from which constant layers are cut off.

    Raises NotConstant as soon as one of ``expected`` is not constant.
    """
    calls: dict[str, list[Any]] = {}
    outputs: dict[str, Tensor] = {}
    equal: dict[str, bool] = {}

    def hook(kind: nn.Module, _: Any, y: Tensor, name: str) -> Tensor:
        first = _first(kind, y)
        outputs.setdefault(name, first)
        equal[name] = name not in calls and _same(first, y.detach(), tolerance)
        if name in expected and not equal[name]:
            raise NotConstant(name)
        if equal[name] and name not in always:
            y = y.detach().requires_grad_(True).clone()
        calls.setdefault(name, []).append(y.grad_fn)
        return y

    names = [n for n, m in module.named_modules() if isinstance(m, KINDS) and n]
    handles = [module.get_submodule(n).register_forward_hook(partial(hook, name=n)) for n in names]
    needs = {p: p.requires_grad for p in module.parameters() if p.is_floating_point()}
    try:
        for p in needs:
            p.requires_grad_(True)
        result = run(module, example, gradients=True)
    finally:
        for handle in handles:
            handle.remove()
        for p, need in needs.items():
            p.requires_grad_(need)
    reached = _reached(result)
    unread = tuple(name for name, nodes in calls.items() if not reached.intersection(nodes))
    constant = tuple(name for name, same in equal.items() if same)
    return Watched(tree_map(_detached, result), outputs, constant, unread)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _reached(result: Any) -> set[Any]:
    """Every operation that a result depends on."""
    pending = [t.grad_fn for t in tree_leaves(result) if isinstance(t, Tensor) and t.grad_fn is not None]
    reached: set[Any] = set(pending)
    while pending:
        for node, _ in pending.pop().next_functions:
            if node is not None and node not in reached:
                reached.add(node)
                pending.append(node)
    return reached


def _first(kind: nn.Module, outputs: Tensor) -> Tensor:
    """The output of the first example at its first position, by channel; every other axis has length 1."""
    channels = 1 if isinstance(kind, _BY_CHANNEL) else outputs.ndim - 1
    first = outputs[tuple(slice(None) if axis == channels else slice(1) for axis in range(outputs.ndim))]
    return first.detach().clone()


def _same(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool(((one - other).abs() <= tolerance * one.abs().max().clamp(min=1e-3)).all())
