"""Run a network once and record which units its operations couple.

The network runs as it is, on an example; every call of a torch function is seen with its arguments and
result. Sizes that the network computes are computed again when it has shrunk. A layer that is one call (an
LSTM, an attention) is one rule. Of a network that branches on values, the branch taken is seen:
everything else that the same forward handles must then stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.networks.watching import Call, Watching
from laconic.structure.coupling.labels import Field, Pixels, Value, along, moved, pinned
from laconic.structure.coupling.units import Labels, Units

Rule = Callable[["Trace", Call], Any]


@dataclass(eq=False)
class Trace:
    """What is known of every tensor met so far.

    ``outermost``: of an axis that is split (heads and their width) the outer parts are units, otherwise one
    position in each.
    """

    outermost: bool = True
    units: Units = field(default_factory=Units)
    state: dict[str, Value] = field(default_factory=dict)  # parameters and buffers that were met
    inputs: list[Value] = field(default_factory=list)
    pixels: dict[int, Labels] = field(default_factory=dict)
    split: list[Field] = field(default_factory=list)  # fields along several axes
    tied: list[tuple[Labels, ...]] = field(default_factory=list)  # axes that must keep equally many
    notes: list[str] = field(default_factory=list)
    _known: dict[int, tuple[Tensor, Value]] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)
    _constants: set[int] = field(default_factory=set)
    _whole: set[str] = field(default_factory=set)
    _picked: dict[str, list[Labels]] = field(default_factory=dict)
    _visible: list[tuple[str, list[Value]]] = field(default_factory=list)

    # --- values ---------------------------------------------------------------------------------

    def value(self, tensor: Tensor) -> Value:
        """What is known of a tensor that is read."""
        value = self.raw(tensor)
        if value.guard is not None:
            self.units.pin(value.guard)
        if value.slices is not None:
            value = self._unsliced(value)
        if id(tensor) in self._names:
            self._whole.add(self._names[id(tensor)])
        return value

    def picked(self, tensor: Tensor, results: Sequence[Value]) -> None:
        """Some positions of a parameter were picked out: what is picked by no one must stay where it is."""
        if id(tensor) in self._names:
            seen = [f.units.ravel() for value in results for f in value.fields]
            self._picked.setdefault(self._names[id(tensor)], []).extend(seen)

    def pin_unread(self) -> None:
        """Pin those positions of parameters that were only ever picked from, and that no one picked."""
        for name, seen in self._picked.items():
            if name not in self._whole:
                read = set(self.units.find(np.concatenate(seen)).tolist()) if seen else set()
                for f in self.state[name].fields:
                    roots = self.units.find(f.units).ravel()
                    self.units.pin(np.array([r for r in roots.tolist() if r not in read], dtype=np.int64))

    def raw(self, tensor: Tensor) -> Value:
        """The same, with slices as they are."""
        known = self._known.get(id(tensor))
        if known is not None:
            return known[1]
        if id(tensor) in self._names:
            value = self.state[self._names[id(tensor)]] = self.newborn(tuple(tensor.shape))
        else:  # from somewhere that the trace does not see
            value = Value(tuple(tensor.shape))
        self.set(tensor, value)
        return value

    def made(self, results: Sequence[Any]) -> None:
        """Tensors made from nothing but sizes: their lengths follow the sizes of the next run."""
        for tensor in results:
            if isinstance(tensor, Tensor):
                self.set(tensor, self.newborn(tuple(tensor.shape), zero=not tensor.any(), weak=True))
                self._constants.add(id(tensor))

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether a tensor was made in the forward out of nothing: no state, no input, no result."""
        return id(tensor) in self._constants

    def newborn(self, shape: tuple[int, ...], *, zero: bool = True, weak: bool = False) -> Value:
        """A value each of whose axes has units of its own."""
        dims = len(shape)
        fields = [
            along(k, dims, self.units.fresh(n), zero=zero, weak=weak) for k, n in enumerate(shape) if n > 1
        ]
        return Value(shape, tuple(fields))

    def set(self, tensor: Any, value: Value) -> None:
        """What is known of a result from now on."""
        self.split.extend(f for f in value.fields if len(f.axes) > 1)
        self._constants.discard(id(tensor))
        self._known[id(tensor)] = (tensor, value)  # the tensor is kept, so that its id is not used again
        if self._visible:
            self._visible[-1][1].append(value)

    def _unsliced(self, value: Value) -> Value:
        parts = value.slices or ()
        size = int(np.prod(parts[0].shape))
        flat = np.arange(len(parts) * size).reshape(value.shape)
        return moved(self.units, parts, flat // size, flat % size)

    def pixel_units(self, source: int) -> Labels:
        """Units of an input's single numbers, made when first asked for."""
        if source not in self.pixels:
            self.pixels[source] = self.units.fresh(int(np.prod(self.inputs[source].shape[1:])))
        return self.pixels[source]

    # --- refusing --------------------------------------------------------------------------------

    def refuse(self, call: Call, reason: str) -> None:
        """Everything that a call reads must stay, and its results are unlabelled."""
        self.units.reason = ""  # the note says it
        for tensor in call.tensors():
            pinned(self.units, self.value(tensor))
        for tensor in call.results():
            self.set(tensor, Value(tuple(tensor.shape)))
        if any(f.units.any() for t in call.tensors() for f in self.raw(t).fields):
            self.note(f"{self.place()}: {call.name} {reason}")

    def note(self, text: str) -> None:
        """A line for the report, once."""
        if text not in self.notes:
            self.notes.append(text)

    def place(self) -> str:
        """The module whose forward is running."""
        return self._visible[-1][0] if self._visible and self._visible[-1][0] else "the network's own forward"

    def branch(self) -> None:
        """A value was read by Python: all that this forward handles must stay for the other branch."""
        self.note(f"{self.place()} takes a path that depends on values: what it handles itself is left whole")
        self.units.reason = ""
        self._visible[-1] = (self._visible[-1][0], _Pinning(self.units, self._visible[-1][1]))

    # --- running --------------------------------------------------------------------------------

    def run(
        self,
        module: nn.Module,
        example: tuple[Tensor, ...],
        rules: Mapping[Any, Rule],
        other: Callable[[Call], Rule | None],
    ) -> Any:
        """The module's result on an example whose first axis is the batch; labels are then complete.

        ``rules`` are by torch function; ``other`` looks for the rule of a call whose function has none.
        """
        for name, tensor in module.state_dict(keep_vars=True).items():
            if isinstance(tensor, Tensor):
                self._names.setdefault(id(tensor), name)
        for number, tensor in enumerate(example):
            value = self.newborn(tuple(tensor.shape), zero=False, weak=True)
            value = Value(value.shape, value.without(0) if value.shape else ())
            self.inputs.append(value)
            inner = int(np.prod(value.shape[1:]))
            where = np.tile(np.arange(inner), value.shape[0] if value.shape else 1).reshape(value.shape)
            self.set(tensor, replace(value, pixels=Pixels(number, where)))
        with self._hooks(module), torch.no_grad(), self._watching(rules, other):
            result = module(*example)
        self.units.reason = ""
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                pinned(self.units, self.value(tensor))
        self.units.reason = "some of its positions are picked out, and these are not"
        self.pin_unread()
        return result

    def _watching(self, rules: Mapping[Any, Rule], other: Callable[[Call], Rule | None]) -> Watching:
        """Label what every call of a torch function returns."""

        def labelled(call: Call) -> None:
            for tensor in call.tensors():
                self.raw(tensor)  # before the call, which may write into it

        def unpacked(call: Call) -> Iterator[Tensor]:  # a, b = tensor
            parts = torch.unbind(call.args[0])
            rules[torch.unbind](self, replace(call, function=torch.unbind, result=parts))
            return iter(parts)

        def follow(call: Call) -> None:
            if all(map(self.is_constant, call.tensors())):  # whatever made it
                self.made(call.results())
            else:
                self._follow(call, rules.get(call.function) or other(call))

        return Watching(labelled, follow, {torch.Tensor.__iter__: unpacked})

    def _follow(self, call: Call, rule: Rule | None) -> None:
        """Label the results of a call."""
        self.units.reason = f"{self.place()}: {call.name} needs all of it"
        if rule is not None:
            rule(self, call)
        elif call.results():
            self.refuse(call, "has no rule: what it reads is left whole")

    @contextmanager
    def _hooks(self, module: nn.Module) -> Iterator[None]:
        """Record whose forward is running, and what it was given."""

        def enter(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
                self._visible.append(
                    (name, [self._known[i][1] for i in _ids((args, kwargs)) if i in self._known])
                )

            return hook

        def leave(_: nn.Module, __: Any, result: Any) -> None:
            self._visible.pop()
            if self._visible:
                self._visible[-1][1].extend(self._known[i][1] for i in _ids(result) if i in self._known)

        handles = []
        for name, part in module.named_modules():
            handles.append(part.register_forward_pre_hook(enter(name), with_kwargs=True, prepend=True))
            handles.append(part.register_forward_hook(leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Pinning(list[Value]):
    """The values that a forward handles once it has branched on one: each must stay."""

    def __init__(self, units: Units, values: Sequence[Value]) -> None:
        super().__init__(values)
        self._units = units
        for value in values:
            pinned(units, value)

    def append(self, value: Value) -> None:
        self._units.reason = ""  # the note on the branch says it
        pinned(self._units, value)

    def extend(self, values: Any) -> None:
        for value in values:
            self.append(value)


def _ids(tree: Any) -> list[int]:
    return [id(t) for t in tree_leaves(tree) if isinstance(t, Tensor)]
