"""An ONNX graph as a graph of our own operations, where each of its operators has a rule (``rules_*.py``).

Shapes are followed for two sets of input sizes at once: a size that differs between them is free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from laconic.errors import CaptureError, CorruptFileError, LaconicError
from laconic.onnx_in.arrays import KINDS, Folder, array_of
from laconic.onnx_in.messages import Call, Model, Port, Stored
from laconic.pack.graph.ops import DTYPES, make_node
from laconic.records import AnyArray, Attr, Graph, IntTensor, Node, RawTensor, Tensor, ValueSpec, tensor_ref
from laconic.runtime.ops.results import FreeSize, result_of, types_of
from laconic.runtime.ops.shape_rules import MISFITS, Shape

NEWEST, OLDEST = 26, 7
"""Versions of ONNX' operators that the rules are for; what they give is compared with ONNX Runtime."""

TRIED = ((2, 3), (1, 5), (64, 96), (224, 256))
"""Sizes of a free axis that is not the first; the first has 2 and 3."""

FOLDED, FOLDED_PER_BYTE = 2**28, 4
"""Bytes that constants computed of others may take, and how many more for each byte of the initialisers."""
MOST_SIZES = 2**12
"""Sizes that one value of the ONNX graph may consist of."""


class Value(NamedTuple):
    """A value of our graph (``ref`` >= 0) or a tensor (< 0): shapes at both sets of sizes, type."""

    ref: int
    shapes: tuple[Shape, Shape]
    dtype: str

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shapes[0])

    def size(self, axis: int) -> int | None:
        """The size of an axis; None for a free one."""
        first, second = self.shapes[0][axis], self.shapes[1][axis]
        return first if first == second else None


class Sizes(NamedTuple):
    """A vector of int64 (or one int64, ``scalar``), some of whose entries are values of the graph."""

    items: tuple[int | Value, ...]
    scalar: bool = False

    @property
    def fixed(self) -> tuple[int, ...] | None:
        """The numbers, where none is a value of the graph."""
        items = tuple(item for item in self.items if isinstance(item, int))
        return items if len(items) == len(self.items) else None


Known = Value | Sizes | AnyArray
"""What a name of the ONNX graph stands for: a value, sizes, or a constant."""

Rule = Callable[["Conversion", Call], Sequence[Known]]
"""An operator's rule: what its outputs stand for. Raises ``CaptureError`` for what it does not cover."""


class Converted(NamedTuple):
    """A graph of our own and its tensors."""

    graph: Graph
    tensors: tuple[Tensor, ...]


class Conversion:
    """The graph under construction; rules read and write it."""

    def __init__(
        self, model: Model, folder: Folder, weights: Mapping[str, IntTensor], other: int = 0
    ) -> None:
        self.model, self.folder, self.weights = model, folder, weights
        self.nodes: list[Node] = []
        self.tensors: list[Tensor] = []
        self.known: dict[str, Known] = {}
        self.opset = model.opsets.get("", 1)
        self._taken: dict[tuple[str, str], Value] = {}
        self._names: set[str] = set()
        self._folded = 0
        self._numbers: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.inputs = [_spec(port) for port in model.inputs if port.name not in model.stored]
        self._values = len(self.inputs)
        self._free = len({a for spec in self.inputs for a in spec.sizes if isinstance(a, str)})
        self._sizes = [_sizes(self.inputs, TRIED[other], which) for which in (0, 1)]
        for k, spec in enumerate(self.inputs):
            first, second = (tuple(at.get(d, d) for d in spec.sizes) for at in self._sizes)
            self.known[spec.name] = Value(k, (first, second), spec.dtype)  # type: ignore[arg-type]

    # --- what names stand for ---------------------------------------------------------------

    def get(self, name: str) -> Known:
        """What a name stands for. Raises CorruptFileError for one that nothing defines."""
        if name in self.known:
            return self.known[name]
        stored = self.model.stored.get(name)
        if stored is None:
            raise CorruptFileError(f"ONNX: {name!r} is read before it is made. Cure: export the network anew")
        return self.constant_of(stored) if name not in self.weights else self.tensor(name)

    def constant_of(self, stored: Stored) -> AnyArray:
        """The entries of a tensor of the ONNX file."""
        return array_of(stored, self.folder)

    def given(self, call: Call, index: int) -> Known | None:
        """An input of a node; None where it is absent."""
        name = call.inputs[index] if index < len(call.inputs) else ""
        return self.get(name) if name else None

    def value(self, call: Call, index: int) -> Value:
        """An input as a value or tensor of our graph."""
        found = self.given(call, index)
        if found is None:
            raise CaptureError(f"{call.where} has no input {index}")
        return self.as_value(found, call.inputs[index])

    def as_value(self, found: Known, name: str = "") -> Value:
        """A constant or sizes as a tensor or value of our graph."""
        if isinstance(found, Value):
            return found
        if isinstance(found, Sizes):
            return self._assembled(found)
        return self.raw(found, name)

    def _assembled(self, sizes: Sizes) -> Value:
        fixed = sizes.fixed
        if fixed is not None:
            return self.raw(np.array(fixed[0] if sizes.scalar else fixed, np.int64))
        if sizes.scalar:
            return next(item for item in sizes.items if isinstance(item, Value))
        parts = [self.emit("unsqueeze", self.number(item), dims=(0,)) for item in sizes.items]
        return parts[0] if len(parts) == 1 else self.emit("concat", *parts, axis=0)

    def constant(self, call: Call, index: int) -> AnyArray | None:
        """An input that must be a constant, as an array; None where it is absent."""
        found = self.given(call, index)
        if found is None:
            return None
        if isinstance(found, Sizes) and found.fixed is not None:
            return np.array(found.fixed[0] if found.scalar else found.fixed, np.int64)
        if isinstance(found, Value) and call.inputs[index] in self.weights:
            return self.weights[call.inputs[index]].values()
        if not isinstance(found, np.ndarray):
            raise CaptureError(f"{call.where} has an input {call.inputs[index]!r} that is no constant")
        return found

    def ints(self, call: Call, index: int, attr: str) -> tuple[int, ...] | None:
        """Integers of an input, or of an attribute in older versions; None where neither is there."""
        found = self.constant(call, index)
        if found is not None:
            return tuple(int(n) for n in found.reshape(-1))
        value = call.attrs.get(attr)
        return tuple(int(n) for n in value) if isinstance(value, tuple) else None  # type: ignore[arg-type]

    def sizes(self, call: Call, index: int) -> Sizes:
        """An input that is a vector of sizes."""
        found = self.given(call, index)
        if isinstance(found, Sizes):
            return found
        if isinstance(found, np.ndarray) and found.dtype.kind in "iu" and found.ndim <= 1:
            return Sizes(tuple(int(n) for n in found.reshape(-1)), found.ndim == 0)
        if isinstance(found, Value) and found.rank == 0 and found.ref in self._numbers[0]:
            return Sizes((found,), True)
        raise CaptureError(f"{call.where} has sizes that are not made of the inputs' sizes")

    def folding(self, size: int) -> None:
        """Count the bytes of a constant before it is computed.

        Raises CaptureError where all of them are far more than the file holds: a few nodes may double a
        constant again and again.
        """
        self._folded += size
        if self._folded > FOLDED + FOLDED_PER_BYTE * self._stored:
            raise CaptureError(f"constants that are computed of others take {self._folded} bytes or more")

    @cached_property
    def _stored(self) -> int:
        """Bytes of all initialisers, those in other files too."""
        every = self.model.stored.values()
        files = {self.folder.file_of(each) for each in every if each.location}
        return sum(len(each.data) for each in every) + sum(path.stat().st_size for path in files)

    # --- tensors ------------------------------------------------------------------------------

    def tensor(self, name: str, transposed: bool = False) -> Value:
        """A weight as a tensor of our graph, its matrix transposed where a layer wants it."""
        key = (name, "T" if transposed else "")
        if key not in self._taken:
            weight = self.weights[name]
            if transposed:
                turned = np.ascontiguousarray(weight.integers.T)
                weight = IntTensor(weight.name, turned, weight.grid)
            self._taken[key] = self.added(weight.renamed(self._free_name(name)), "float32")
        return self._taken[key]

    def _free_name(self, wanted: str) -> str:
        """The name itself, or one after it that no tensor has."""
        while wanted in self._names:
            wanted += ".T"
        return wanted

    def raw(self, array: AnyArray, name: str = "", *, transposed: bool = False) -> Value:
        """A constant as a tensor of our graph; equal ones share it, and so do those of one name.

        Args:
            array: Its entries.
            name: What the ONNX graph calls it; none: it is made here.
            transposed: Whether the entries are the transpose of what has that name.
        """
        if array.dtype == np.float64:
            raise CaptureError(f"{name or 'a constant'!r} is float64; networks run in float32")
        if str(array.dtype) not in DTYPES:
            raise CaptureError(f"{name or 'a constant'!r} is of type {array.dtype}, which the runtime lacks")
        small = array.nbytes <= 256
        known = array.tobytes().hex() if small else name
        key = (f"{array.dtype}{array.shape}{'T' if transposed and not small else ''}", known)
        if key not in self._taken or not known:
            own = f"{name}.T" if transposed else name
            if not own or own in self._names or own.startswith("@"):
                own = self._free_name(f"@{len(self.tensors)}")
            self._taken[key] = self.added(RawTensor(own, np.asarray(array, order="C")), str(array.dtype))
            if array.shape == () and array.dtype == np.int64:
                for numbers in self._numbers:
                    numbers[self._taken[key].ref] = int(array)
        return self._taken[key]

    def added(self, tensor: Tensor, dtype: str) -> Value:
        """A new tensor of our graph."""
        self.tensors.append(tensor)
        self._names.add(tensor.name)
        return Value(tensor_ref(len(self.tensors) - 1), (tensor.shape, tensor.shape), dtype)

    # --- nodes --------------------------------------------------------------------------------

    def emit(self, op: str, *inputs: Value | None, **attrs: Attr | None) -> Value:
        """A node with one output."""
        return self.emit_all(op, *inputs, **attrs)[0]

    def emit_all(self, op: str, *inputs: Value | None, **attrs: Attr | None) -> tuple[Value, ...]:
        """A node; its outputs in order. Raises CaptureError where its inputs do not fit."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        node = make_node(op, tuple(None if v is None else v.ref for v in inputs), **attrs)
        found = []
        try:
            kinds = types_of(node, [None if v is None else v.dtype for v in inputs])
            for which, numbers in enumerate(self._numbers):
                given = tuple(None if v is None else v.shapes[which] for v in inputs)
                found.append(result_of(node, given, numbers, FreeSize(self._free, self._batch(which))))
        except (CorruptFileError, *MISFITS) as error:
            raise CaptureError(f"operation {op!r}: {error}") from error
        first = self._values
        for result, numbers in zip(found, self._numbers, strict=True):
            if result.number is not None:
                numbers[first] = result.number
        self.nodes.append(node)
        self._values += node.n_outputs
        shapes = zip(found[0].shapes, found[1].shapes, strict=True)
        return tuple(
            Value(first + k, both, kind) for k, (both, kind) in enumerate(zip(shapes, kinds, strict=True))
        )

    def _batch(self, which: int) -> int | None:
        return next(iter(self._sizes[which].values()), None) if self._free == 1 else None

    def number(self, item: int | Value) -> Value:
        """A size as an int64 without axes."""
        return item if isinstance(item, Value) else self.raw(np.array(item, np.int64))

    def shaped(self, op: str, x: Value, items: Iterable[int | Value], name: str = "shape") -> Value:
        """``reshape``, ``expand`` or ``resize`` to sizes of which some are values."""
        every = tuple(items)
        values = [item for item in every if isinstance(item, Value)]
        return self.emit(op, x, *values, **{name: tuple(-2 if isinstance(n, Value) else n for n in every)})


def _spec(port: Port) -> ValueSpec:
    kind = KINDS.get(port.kind)
    if kind not in DTYPES or port.shape is None:
        what = f"of ONNX' type {port.kind}" if kind not in DTYPES else "without a shape"
        raise CaptureError(f"input {port.name!r} is {what}, which the runtime does not take")
    sizes = [n if isinstance(n, int) and n > 0 else str(n) for n in port.shape]
    names = tuple(
        (n if n and n != "0" and n.isprintable() else f"{port.name}_{k}")
        for k, n in enumerate(sizes)
        if isinstance(n, str)
    )
    return ValueSpec(str(kind), tuple(n if isinstance(n, int) else None for n in sizes), port.name, names)


def _sizes(inputs: Sequence[ValueSpec], others: tuple[int, int], which: int) -> dict[object, int]:
    """One set of sizes of the free axes, by name: those that come first in an input are batches."""
    found: dict[object, int] = {}
    for spec in inputs:
        for axis, name in enumerate(spec.sizes):
            if isinstance(name, str):
                found.setdefault(name, (2, 3)[which] if axis == 0 else others[which])
    return found


def convert(
    model: Model, folder: Folder, weights: Mapping[str, IntTensor], rules: Mapping[str, Rule]
) -> Converted:
    """The model as a graph of our own.

    Args:
        model: An ONNX model.
        folder: Where entries in other files are.
        weights: Initialisers that were rounded.
        rules: A rule for each operator of ONNX' own domain.

    Returns:
        The graph and its tensors.

    Raises:
        CaptureError: An operator without a rule, or in a form that its rule does not cover: names the
            operator and its node.
    """
    _check(model, rules)
    failed: LaconicError | None = None
    free = any(isinstance(n, str) for p in model.inputs for n in (p.shape or ())[1:])
    for other in range(len(TRIED) if free else 1):
        try:
            return _converted(Conversion(model, folder, weights, other), rules)
        except CaptureError as error:
            failed = failed or error
    raise failed or CaptureError("nothing was tried")


def _check(model: Model, rules: Mapping[str, Rule]) -> None:
    version = model.opsets.get("", 1)
    if not OLDEST <= version <= NEWEST:
        raise CaptureError(f"its operators are of version {version}; the rules are for {OLDEST} to {NEWEST}")
    for call in model.calls:
        if call.domain or call.kind not in rules:
            raise CaptureError(f"{call.where} has no rule")
    if model.sparse:
        raise CaptureError("it has sparse initialisers, which have no rule")


def _converted(made: Conversion, rules: Mapping[str, Rule]) -> Converted:
    model = made.model
    for call in model.calls:
        try:
            found = rules[call.kind](made, call)
        except CaptureError as error:
            text = str(error)
            raise CaptureError(text if call.where in text else f"{call.where}: {text}") from error
        except MISFITS as error:
            if isinstance(error, LaconicError):
                raise
            raise CaptureError(f"{call.where}: {error}") from error
        for name, known in zip(call.outputs, found, strict=False):
            if isinstance(known, Sizes) and len(known.items) > MOST_SIZES:
                raise CaptureError(f"{call.where} gives {len(known.items)} sizes")
            if name and (name in made.known or name in model.stored):
                raise CorruptFileError(f"ONNX: {name!r} is made twice. Cure: export the network anew")
            made.known[name] = known
    outputs = []
    for port in model.outputs:
        value = made.as_value(made.get(port.name), port.name)
        outputs.append(value if value.ref >= 0 else made.emit("identity", value))
    if not outputs or len({p.name for p in model.outputs}) < len(outputs):
        raise CaptureError("its outputs have no names of their own")
    graph = Graph(
        tuple(made.inputs),
        tuple(made.nodes),
        tuple(value.ref for value in outputs),
        output_names=tuple(port.name for port in model.outputs),
    )
    return Converted(graph, tuple(made.tensors))
