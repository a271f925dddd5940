"""From a ``torch.export`` program to graph nodes: values, calls, and the state of one lowering.

A rule sees a :class:`Call` (arguments by their schema names) and a :class:`Lowering` (where nodes
are added). Values are either :class:`Ref` (known at run time, or a tensor of the file) or real
tensors (constants, folded as long as nothing at run time touches them).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from laconic.errors import CaptureError
from laconic.pack.ops import DTYPES, make_node
from laconic.records import AnyArray, Attr, Node, ValueSpec

Size = int | torch.SymInt
Shape = tuple[Size, ...]


@dataclass(frozen=True)
class Ref:
    """A value of the graph (id >= 0) or a tensor of the file (id < 0), with what is known of it.

    ``fill`` is set when every entry is known to be that number, ``arange_step`` when the value is
    ``0, step, 2 step, ...`` over a free dimension.
    """

    id: int
    shape: Shape
    dtype: torch.dtype
    fill: float | None = None
    arange_step: int | None = None


Value = Ref | torch.Tensor


def is_free(size: object) -> bool:
    """Whether a size is only known at run time."""
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


def same_size(a: Size, b: Size) -> bool:
    """Whether two sizes are equal for every batch, without guarding on the example's."""
    if is_free(a) or is_free(b):
        return is_free(a) and is_free(b) and bool(a.node.expr == b.node.expr)  # type: ignore[union-attr]
    return int(a) == int(b)


def same_shape(a: Sequence[Size], b: Sequence[Size]) -> bool:
    """Whether two shapes are equal for every batch."""
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
    """The graph under construction. Tensor ids count first uses; :mod:`capture` puts them in file order."""

    inputs: list[ValueSpec] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    tensor_names: list[str] = field(default_factory=list)
    constants: dict[str, AnyArray] = field(default_factory=dict)
    free_symbol: object = None
    _n_values: int = 0
    _producers: dict[int, Node] = field(default_factory=dict)
    _constant_names: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)

    def add_input(self, shape: Shape, dtype: torch.dtype) -> Ref:
        """Declare the next graph input; all inputs come before the first node."""
        sizes = tuple(None if is_free(s) else int(s) for s in shape)
        for size in shape:
            if is_free(size) and self.free_symbol is None:
                self.free_symbol = size.node.expr  # type: ignore[union-attr]
        self.inputs.append(ValueSpec(dtype_name(dtype), sizes))
        self._n_values += 1
        return Ref(self._n_values - 1, shape, dtype)

    def named(self, name: str, tensor: torch.Tensor) -> Ref:
        """A tensor of the module's state dict."""
        if name not in self.tensor_names:
            self.tensor_names.append(name)
        return Ref(-1 - self.tensor_names.index(name), tuple(tensor.shape), tensor.dtype)

    def ref(self, value: Value | float) -> Ref:
        """The reference to a value; a constant becomes a tensor of the file at this moment."""
        if isinstance(value, Ref):
            if value.id >= self._n_values:
                raise CaptureError("a range over the free dimension enters the arithmetic")
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

    def target_shape(self, shape: Sequence[Size], like: Sequence[Size] = ()) -> tuple[int, ...]:
        """A reshape target: sizes, -1 for the one that holds the free dimension (0 copies an axis)."""
        if sum(map(is_free, shape)) <= 1:
            return tuple(-1 if is_free(s) else int(s) for s in shape)
        sizes = [
            0 if k < len(like) and is_free(s) and same_size(s, like[k]) else s for k, s in enumerate(shape)
        ]
        if sum(map(is_free, sizes)) > 1:
            raise CaptureError(
                f"a reshape to {tuple(map(str, shape))} has several sizes known only at run time"
            )
        return tuple(-1 if is_free(s) else int(s) for s in sizes)

    def stretch_shape(self, shape: Sequence[Size], source: Sequence[Size] = ()) -> tuple[int, ...]:
        """An expand target: 1 keeps an axis of ``source``, -1 stretches it to the free size."""
        offset = len(shape) - len(source)
        return tuple(
            1 if k >= offset and same_size(size, source[k - offset]) else self._stretch(size)
            for k, size in enumerate(shape)
        )

    def _stretch(self, size: Size) -> int:
        if not is_free(size):
            return int(size)
        if size.node.expr != self.free_symbol:  # type: ignore[union-attr]
            raise CaptureError(
                f"a size {size} is computed from the batch size; only the batch size itself can be used"
            )
        return -1


@dataclass(frozen=True)
class Call:
    """One operation call: arguments by schema name, and the shape and type of its result."""

    name: str
    args: Mapping[str, Any]
    result: Any  # torch's own FakeTensor, or a tuple of them
    _read: set[str] = field(default_factory=set, repr=False)

    def unread(self, *known: str) -> list[str]:
        """Arguments that the rule has not looked at, but for the ``known`` ones."""
        return [name for name in self.args if name not in self._read and name not in known]

    def __contains__(self, name: str) -> bool:
        return name in self.args

    def get(self, name: str, default: Any = None) -> Any:
        """An argument as it is, or a default when the schema has none of this name."""
        self._read.add(name)
        return self.args.get(name, default)

    def ignore(self, *names: str) -> None:
        """Say of arguments that they do not matter to the result."""
        self._read.update(names)

    def value(self, name: str) -> Value:
        """A tensor argument that must be there."""
        value = self.get(name)
        if not isinstance(value, (Ref, torch.Tensor)):
            raise CaptureError(f"argument {name!r} must be a tensor, got {value!r}")
        return value

    def maybe(self, name: str) -> Value | None:
        """A tensor argument that may be absent."""
        return None if self.get(name) is None else self.value(name)

    def integer(self, name: str) -> int:
        """An integer argument that must not depend on the batch size."""
        value = self.get(name)
        if is_free(value):
            raise CaptureError(f"argument {name!r} depends on the batch size")
        return int(value)

    def integers(self, name: str) -> tuple[int, ...]:
        """An argument of one or several fixed integers, as a tuple (empty when absent)."""
        value = self.get(name)
        items = () if value is None else tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if any(map(is_free, items)):
            raise CaptureError(f"argument {name!r} depends on the batch size")
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
