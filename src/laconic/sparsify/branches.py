"""Whole branches: layers whose units may all go, since another way around them is left.

Once no unit of the inner layer of a residual block is left, its last layer says the same for every input: one
number a channel. The modules of the branch are then replaced by what they say (:class:`Constant`), which is
exact, and nothing at all where they say zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

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
    """``silent``: modules whose output no longer depends on the input once the units are gone; ``unread``:
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
    example: tuple[Tensor, ...] = ()

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
        """The numbers; the input is not looked at."""
        return self.value

    def extra_repr(self) -> str:
        """How many numbers, and whether they are zero."""
        return f"{self.value.numel()}" + ("" if isinstance(self.value, nn.Parameter) else ", zero")


def close_branches(module: nn.Module, masked: nn.Module, branches: Branches, emptied: Iterable[str]) -> None:
    """Replace, in ``module``, the modules of emptied groups by what they say in ``masked``."""
    found = [branches.by_group[name] for name in emptied]
    unread = {name for b in found for name in b.unread}
    gone = dict.fromkeys(name for b in found for name in b.modules)
    for name, value in sayings(masked, gone, branches.example).items():
        place, _, child = name.rpartition(".")
        said = torch.zeros_like(value) if name in unread else value
        setattr(module.get_submodule(place), child, Constant(said).train(module.training))


def sayings(module: nn.Module, names: Iterable[str], example: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """What each module says in one run, by channel, at the first place of the first example."""
    with _outputs(module, names) as calls:
        run(module, example)
    return {name: _first(module.get_submodule(name), said[0]) for name, said in calls.items()}


def run(module: nn.Module, example: tuple[Tensor, ...]) -> Any:
    """One run in evaluation mode, on the module's device and in its precision; its modes stay."""
    p = next((p for p in module.parameters() if p.is_floating_point()), torch.zeros(()))
    given = [x.to(p.device, p.dtype) if x.is_floating_point() else x.to(p.device) for x in example]
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            return module(*given)
    finally:
        for m, mode in modes.items():
            m.training = mode


def silent_modules(
    module: nn.Module, examples: Iterable[tuple[Tensor, ...]], tolerance: float
) -> dict[str, None]:
    """Modules, in order of their calls, that say one thing to every example at every place."""
    names = [n for n, m in module.named_modules() if isinstance(m, KINDS) and n]
    with _outputs(module, names) as calls:
        times = 0
        for example in examples:
            run(module, example)
            times += 1
    return {
        name: None
        for name, said in calls.items()
        if len(said) == times
        and all(_same(_first(module.get_submodule(name), said[0]), y, tolerance) for y in said)
    }


@contextmanager
def _outputs(module: nn.Module, names: Iterable[str]) -> Iterator[dict[str, list[Tensor]]]:
    """What the named modules return, call by call, in the order of their first calls."""
    calls: dict[str, list[Tensor]] = {}
    handles = [
        module.get_submodule(name).register_forward_hook(
            lambda _, __, y, name=name: calls.setdefault(name, []).append(y.detach())
        )
        for name in names
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _first(kind: nn.Module, said: Tensor) -> Tensor:
    """The numbers by channel of the first example's first place; every other axis has length 1."""
    channels = 1 if isinstance(kind, _BY_CHANNEL) else said.ndim - 1
    first = said[tuple(slice(None) if axis == channels else slice(1) for axis in range(said.ndim))]
    return first.detach().clone()


def _same(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool(((one - other).abs() <= tolerance * one.abs().max().clamp(min=1e-3)).all())
