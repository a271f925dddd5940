"""Whole branches: layers whose units may all go, since another way around them is left.

Once no unit of the inner layer of a residual block is left, its last layer says the same for every input: one
number a channel. The modules of the branch are then replaced by what they say (:class:`Constant`), which is
exact, and nothing at all where they say zero.
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
    """``silent``: modules whose output no longer depends on the input once the units are removed; ``unread``:
    modules whose output then reaches nothing.
    """

    silent: tuple[str, ...]
    unread: tuple[str, ...] = ()

    @property
    def modules(self) -> tuple[str, ...]:
        """All that goes."""
        return self.silent + tuple(n for n in self.unread if n not in self.silent)


@dataclass(frozen=True, eq=False)
class Branches:
    """Groups that may lose all their units, and inputs by which what a branch then says is read off."""

    by_group: Mapping[str, Branch] = field(default_factory=dict)
    example: Any = ()

    def __contains__(self, group: object) -> bool:
        return group in self.by_group


class Constant(nn.Module):
    """One number a channel whatever the input, shaped to be added to a batch: learnt, unless all are zero.

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
        """The numbers; the input is not looked at. A copy, for what reads it may write in place."""
        return self.value.clone()

    def extra_repr(self) -> str:
        """How many numbers, and whether they are zero."""
        return f"{self.value.numel()}" + ("" if isinstance(self.value, nn.Parameter) else ", zero")


def close_branches(module: nn.Module, masked: nn.Module, branches: Branches, emptied: Iterable[str]) -> None:
    """Replace, in ``module``, the modules of emptied groups by what they say in ``masked``."""
    found = [branches.by_group[name] for name in emptied]
    close(module, found, watched(masked, branches.example).said)


def close(module: nn.Module, branches: Iterable[Branch], said: Mapping[str, Tensor]) -> None:
    """Replace the modules of some branches by what they say: zero, where nothing reads it."""
    branches = list(branches)
    unread = {name for b in branches for name in b.unread}
    for name in dict.fromkeys(name for b in branches for name in b.modules):
        value = torch.zeros_like(said[name]) if name in unread else said[name]
        place, _, child = name.rpartition(".")
        setattr(module.get_submodule(place), child, Constant(value).train(module.training))


def run(module: nn.Module, example: Any, *, gradients: bool = False) -> Any:
    """One run in evaluation mode, on the module's device and in its precision; its modes stay.

    ``example``: inputs by position, or a dictionary by the names of ``forward``.
    """
    module, inputs = positional(module, example)
    p = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    given = [x.to(p.device, p.dtype) if x.is_floating_point() else x.to(p.device) for x in inputs]
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with inference(), torch.set_grad_enabled(gradients):
            return module(*(x.clone() for x in given))  # a network may write into its input
    finally:
        for m, mode in modes.items():
            m.training = mode


@dataclass(frozen=True, eq=False)
class Watched:
    """One run of a network, and what the layers said that a branch may be made of.

    ``said``: by layer, one number a channel at the first place of the first example. ``silent``: layers that
    said one thing to every example at every place. ``unread``: layers that at most silent ones read.
    """

    result: Any
    said: Mapping[str, Tensor]
    silent: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class StillHeard(Exception):
    """A layer that should say one thing to every input says more: there is no need to run on."""


def watched(
    module: nn.Module,
    example: Any,
    tolerance: float = 0.0,
    always: Sequence[str] = (),
    quiet: Collection[str] = (),
) -> Watched:
    """Run a network and watch its layers; ``always`` are those that are silent anyway.

    Layers are in the order of their calls; one that is called twice is not silent. Who reads whom is seen in
    the graph of gradients (none is computed), from which silent layers are cut off.

    Raises StillHeard as soon as one of ``quiet`` is not silent.
    """
    calls: dict[str, list[Any]] = {}
    said: dict[str, Tensor] = {}
    equal: dict[str, bool] = {}

    def hook(kind: nn.Module, _: Any, y: Tensor, name: str) -> Tensor:
        first = _first(kind, y)
        said.setdefault(name, first)
        equal[name] = name not in calls and _same(first, y.detach(), tolerance)
        if name in quiet and not equal[name]:
            raise StillHeard(name)
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
    silent = tuple(name for name, constant in equal.items() if constant)
    return Watched(tree_map(_detached, result), said, silent, unread)


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


def _first(kind: nn.Module, said: Tensor) -> Tensor:
    """The numbers by channel of the first example's first place; every other axis has length 1."""
    channels = 1 if isinstance(kind, _BY_CHANNEL) else said.ndim - 1
    first = said[tuple(slice(None) if axis == channels else slice(1) for axis in range(said.ndim))]
    return first.detach().clone()


def _same(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool(((one - other).abs() <= tolerance * one.abs().max().clamp(min=1e-3)).all())
