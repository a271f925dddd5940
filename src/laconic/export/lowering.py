"""From a ``torch.export`` program to graph nodes: values, calls, and the state of one lowering.

A rule sees a :class:`Call` (arguments by their schema names) and a :class:`Lowering` (where nodes
are added). Values are either :class:`Ref` (known at run time, or a tensor of the file) or torch
tensors (constants, folded until they are combined with a run-time value).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from laconic.errors import CaptureError
from laconic.export.sizes import Ref as Ref
from laconic.export.sizes import Shape as Shape
from laconic.export.sizes import Size as Size
from laconic.export.sizes import real_value, size_value
from laconic.pack.graph.ops import DTYPES, GIVEN, make_node
from laconic.records import BATCH, AnyArray, Attr, Node, ValueSpec, tensor_ref

Value = Ref | torch.Tensor


def is_free(size: object) -> bool:
    """Whether a size, or a number made of sizes, is only known at run time."""
    return isinstance(size, (torch.SymInt, torch.SymFloat)) and not size.node.expr.is_number


def any_free(arguments: object) -> bool:
    """Whether nested arguments contain a number that is only known at run time."""
    if isinstance(arguments, Mapping):
        return any(map(any_free, arguments.values()))
    return any(map(any_free, arguments)) if isinstance(arguments, (list, tuple)) else is_free(arguments)


def same_size(a: Size, b: Size) -> bool:
    """Whether two sizes are equal in every call, without guarding on the example's."""
    if is_free(a) or is_free(b):
        return is_free(a) and is_free(b) and bool(a.node.expr == b.node.expr)  # type: ignore[union-attr]
    return int(a) == int(b)


def same_shape(a: Sequence[Size], b: Sequence[Size]) -> bool:
    """Whether two shapes are equal in every call."""
    return len(a) == len(b) and all(map(same_size, a, b))


def float32(value: float) -> float:
    """The nearest float32, which is what attributes hold."""
    return float(np.float32(value))


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float32`` -> ``'float32'``; raises for types that the graph does not compute in."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES or name == "float16":
        raise CaptureError(f"a value of type {name} appears; networks run in float32. Cure: module.float()")
    return name


@dataclass
class Lowering:
    """The graph under construction. Tensor ids count first uses; :mod:`capture` puts them in file order.

    ``axis_names`` are the names of free axes, by input and axis, ``places`` where a free size can be read.
    """

    inputs: list[ValueSpec] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    tensor_names: list[str] = field(default_factory=list)
    constants: dict[str, AnyArray] = field(default_factory=dict)
    axis_names: Mapping[tuple[int, int], str] = field(default_factory=dict)
    input_names: Sequence[str] = ()
    places: dict[Any, tuple[Ref, int]] = field(default_factory=dict)
    sizes: dict[Any, Ref] = field(default_factory=dict)
    _axis_of: dict[Any, str] = field(default_factory=dict)
    _free: list[Any] = field(default_factory=list)
    _n_values: int = 0
    _producers: dict[int, Node] = field(default_factory=dict)
    _constant_names: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)

    def add_input(self, shape: Shape, dtype: torch.dtype) -> Ref:
        """Declare the next graph input; all inputs come before the first node."""
        index = len(self.inputs)
        sizes = tuple(None if is_free(s) else int(s) for s in shape)
        names = self.axis_names if set(self.axis_names.values()) - {BATCH} else {}
        axes = tuple(
            self._axis_of.setdefault(shape[k].node.expr, names.get((index, k), BATCH))  # type: ignore[union-attr]
            for k, s in enumerate(sizes)
            if s is None and names
        )
        name = self.input_names[index] if index < len(self.input_names) else ""
        self.inputs.append(ValueSpec(dtype_name(dtype), sizes, name, axes))
        self._n_values += 1
        made = Ref(self._n_values - 1, shape, dtype)
        self.note_sizes(made)
        self._free += [s.node.expr for s in shape if is_free(s) and s.node.expr not in self._free]  # type: ignore[union-attr]
        return made

    def note_sizes(self, value: Ref) -> None:
        """Record from which value and axis each free size can be read."""
        if 0 <= value.id < self._n_values:
            for axis, size in enumerate(value.shape):
                if is_free(size):
                    self.places.setdefault(size.node.expr, (value, axis))  # type: ignore[union-attr]

    def number(self, value: object) -> Ref:
        """A number made of free sizes as a value without dimensions: int64, or float32 for a real one."""
        expr = value.node.expr  # type: ignore[attr-defined]
        return size_value(self, expr) if isinstance(value, torch.SymInt) else real_value(self, expr)

    def named(self, name: str, tensor: torch.Tensor) -> Ref:
        """A tensor of the module's state dict."""
        if name not in self.tensor_names:
            self.tensor_names.append(name)
        return Ref(tensor_ref(self.tensor_names.index(name)), tuple(tensor.shape), tensor.dtype)

    def ref(self, value: Value | float) -> Ref:
        """The reference to a value; a constant becomes a tensor of the file at this moment."""
        if isinstance(value, Ref):
            return value
        tensor = torch.as_tensor(value).detach().cpu()
        dtype_name(tensor.dtype)
        array = np.ascontiguousarray(tensor.numpy())
        key = (array.dtype.str, tuple(tensor.shape), array.tobytes())  # NumPy makes () a (1,) here
        name = self._constant_names.setdefault(key, f"@{len(self.constants)}")
        self.constants[name] = array.reshape(tuple(tensor.shape))
        return self.named(name, tensor)

    def emit(self, op: str, *inputs: Value | None, **attrs: Attr | None) -> Ref:
        """Add a node; the first of its outputs. The caller's rule result gets its shape from torch."""
        return self.emit_all(op, *inputs, **attrs)[0]

    def emit_all(self, op: str, *inputs: Value | None, **attrs: Attr | None) -> tuple[Ref, ...]:
        """Add a node and return all its outputs; trailing absent inputs are left off."""
        refs = [None if x is None else self.ref(x) for x in inputs]
        while refs and refs[-1] is None:
            refs.pop()
        node = make_node(op, tuple(None if r is None else r.id for r in refs), **attrs)
        self.nodes.append(node)
        first = self._n_values
        self._n_values += node.n_outputs
        self._producers[first] = node
        known = next(r for r in refs if r is not None)
        return tuple(Ref(first + k, known.shape, known.dtype) for k in range(node.n_outputs))

    def producer(self, ref: Ref) -> Node | None:
        """The node whose first output a value is."""
        return self._producers.get(ref.id)

    def reshape(self, x: Value, shape: Sequence[Size], like: Sequence[Size] = ()) -> Ref:
        """A reshape to ``shape``; ``like`` is the shape of ``x`` where it is known.

        Where one size is free it is left to be inferred (-1); a free axis that stays in its place is copied
        (0); of the rest one is inferred, the one that no value has, and the others are given as inputs.
        """
        sizes: list[Size] = list(shape)
        if sum(map(is_free, sizes)) > 1:
            sizes = [
                0 if k < len(like) and is_free(s) and same_size(s, like[k]) else s
                for k, s in enumerate(sizes)
            ]
        free = [k for k, s in enumerate(sizes) if is_free(s)]
        unknown = [k for k in free if sizes[k].node.expr not in self.places]  # type: ignore[union-attr]
        inferred = next(iter(unknown or free), None)
        given = [self.number(sizes[k]) for k in free if k != inferred]
        target = [-1 if k == inferred else GIVEN if is_free(s) else int(s) for k, s in enumerate(sizes)]
        return self.emit("reshape", x, *given, shape=tuple(target))

    def needs_no_source(self, shape: Sequence[Size]) -> bool:
        """Whether a reshape to ``shape`` copies no axis of what it is given."""
        return sum(map(is_free, shape)) <= 1

    def expand(self, x: Value, shape: Sequence[Size], source: Sequence[Size] = ()) -> Ref:
        """An expand to ``shape``: 1 keeps an axis of ``source``, the shape of ``x``."""
        offset = len(shape) - len(source)
        given: list[Ref] = []
        target: list[int] = []
        for k, size in enumerate(shape):
            if k >= offset and same_size(size, source[k - offset]):
                target.append(1)
            elif not is_free(size):
                target.append(int(size))
            elif [size.node.expr] == self._free:  # type: ignore[union-attr]
                target.append(-1)
            else:
                target.append(GIVEN)
                given.append(self.number(size))
        return self.emit("expand", x, *given, shape=tuple(target))


@dataclass(frozen=True)
class Call:
    """One operation call: arguments by schema name, and the shape and type of its result."""

    name: str
    args: Mapping[str, Any]
    result: Any  # torch's own FakeTensor, or a tuple of them
    _read: set[str] = field(default_factory=set, repr=False)

    def unread(self, *known: str) -> list[str]:
        """Arguments that the rule has not read, except the ``known`` ones."""
        return [name for name in self.args if name not in self._read and name not in known]

    def __contains__(self, name: str) -> bool:
        return name in self.args

    def get(self, name: str, default: Any = None) -> Any:
        """An argument as it is, or a default when the schema has none of this name."""
        self._read.add(name)
        return self.args.get(name, default)

    def ignore(self, *names: str) -> None:
        """Mark arguments as having no effect on the result."""
        self._read.update(names)

    def value(self, name: str) -> Value:
        """A required tensor argument."""
        value = self.get(name)
        if not isinstance(value, (Ref, torch.Tensor)):
            raise CaptureError(f"argument {name!r} must be a tensor, got {value!r}")
        return value

    def maybe(self, name: str) -> Value | None:
        """An optional tensor argument."""
        return None if self.get(name) is None else self.value(name)

    def integer(self, name: str) -> int:
        """An integer argument that must not depend on a free size."""
        value = self.get(name)
        if is_free(value):
            raise CaptureError(f"argument {name!r} depends on a free size")
        return int(value)

    def integers(self, name: str) -> tuple[int, ...]:
        """An argument of one or several fixed integers, as a tuple (empty when absent)."""
        value = self.get(name)
        items = () if value is None else tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if any(map(is_free, items)):
            raise CaptureError(f"argument {name!r} depends on a free size")
        return tuple(int(v) for v in items)

    def axis(self, name: str, of: str = "self") -> int:
        """An axis, counted from the front."""
        return self.integer(name) % max(1, len(self.value(of).shape))

    @property
    def shape(self) -> Shape:
        """The result's shape."""
        return tuple(self.result.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The result's type."""
        dtype: torch.dtype = self.result.dtype
        return dtype


Rule = Callable[[Lowering, Call], Any]
"""Adds the nodes of one call and returns its value, or a list of values."""


def tight(values: Sequence[int]) -> tuple[int, ...]:
    """One value where all are equal, which is what most layers have.

    >>> tight((2, 2)), tight((1, 2))
    ((2,), (1, 2))
    """
    return (values[0],) if len(set(values)) == 1 else tuple(values)


def finite_or_none(value: float | None) -> float | None:
    """A clamp bound as float32, None for an infinite one."""
    return None if value is None or math.isinf(value) else float32(value)


def tensors_in(arguments: object) -> Iterator[Value]:
    """Every value inside nested lists of arguments."""
    if isinstance(arguments, (Ref, torch.Tensor)):
        yield arguments
    elif isinstance(arguments, (list, tuple)):
        for item in arguments:
            yield from tensors_in(item)
    elif isinstance(arguments, Mapping):
        yield from tensors_in(list(arguments.values()))
