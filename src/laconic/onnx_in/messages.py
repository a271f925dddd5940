"""An ONNX file's messages as plain records: nodes, attributes, tensors, inputs and outputs.

The fields' numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from laconic.errors import CorruptFileError
from laconic.runtime.onnx_model.wire import Field, fields

MOST_NODES = 2**16
"""Nodes of a graph; a file of our own holds no more."""


class Stored(NamedTuple):
    """A tensor: its name, ONNX' number of its type, its shape, and its message.

    ``location``: where its entries are in another file, by key; empty where they are in the message.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    data: memoryview
    location: Mapping[str, str]


Value = int | float | str | Stored | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | None
"""An attribute's value; None for a kind that no rule reads, as a graph within the graph."""


class Call(NamedTuple):
    """A node: operator, domain, its own name, the names of its inputs and outputs, its attributes.

    ``outer``: names that graphs within it read; some of them may be of the graph around it.
    """

    kind: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Value]
    outer: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The node in words, for messages."""
        kind = f"{self.domain}.{self.kind}" if self.domain not in ("", "ai.onnx") else self.kind
        return f"operator {kind} (node {self.name or ', '.join(self.outputs)!r})"


class Port(NamedTuple):
    """An input or output: its name, ONNX' number of its type, and its sizes: a number, a name, or ""."""

    name: str
    kind: int
    shape: tuple[int | str, ...] | None


class Model(NamedTuple):
    """A model: its main graph, and the version of its operators by domain."""

    calls: tuple[Call, ...]
    stored: Mapping[str, Stored]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    opsets: Mapping[str, int]
    sparse: bool


def model_of(data: memoryview) -> Model:
    """The model that a serialised ``ModelProto`` holds.

    Raises:
        TruncatedFileError: The bytes end early.
        CorruptFileError: They are no model, hold two tensors of one name, or too many nodes.

    >>> model_of(memoryview(b""))
    Traceback (most recent call last):
    ...
    laconic.errors.CorruptFileError: ONNX: the file holds no graph. Cure: a file in ONNX's format
    """
    graphs, opsets = [], {}
    for field in fields(data, "the model"):
        if field.number == 7:
            graphs.append(field.data)
        elif field.number == 8:
            domain, version = _opset(field)
            opsets[domain] = version
    if len(graphs) != 1:
        many = "no graph" if not graphs else "several graphs"
        raise CorruptFileError(f"ONNX: the file holds {many}. Cure: a file in ONNX's format")
    calls, inputs, outputs = [], [], []
    stored: dict[str, Stored] = {}
    sparse = False
    for field in fields(graphs[0], "the graph"):
        if field.number == 1:
            calls.append(_call(field.data))
            if len(calls) > MOST_NODES:
                raise CorruptFileError(f"ONNX: the graph has over {MOST_NODES} nodes")
        elif field.number == 5:
            tensor = tensor_of(field.data)
            if tensor.name in stored or not tensor.name:
                what = f"two initialisers called {tensor.name!r}" if tensor.name else "one without a name"
                raise CorruptFileError(f"ONNX: the graph has {what}. Cure: export the network anew")
            stored[tensor.name] = tensor
        elif field.number == 11:
            inputs.append(_port(field.data))
        elif field.number == 12:
            outputs.append(_port(field.data))
        sparse = sparse or field.number == 15
    return Model(tuple(calls), stored, tuple(inputs), tuple(outputs), opsets, sparse)


def _opset(field: Field) -> tuple[str, int]:
    domain, version = "", 1
    for each in fields(field.data, "an opset"):
        if each.number == 1:
            domain = each.text
        elif each.number == 2:
            version = each.whole
    return ("" if domain == "ai.onnx" else domain), version


def tensor_of(data: memoryview) -> Stored:
    """The name, type, shape and place of a ``TensorProto``; its entries are not read."""
    name, kind, elsewhere = "", 0, False
    shape: list[int] = []
    location: dict[str, str] = {}
    for field in fields(data, "a tensor"):
        if field.number == 1:
            shape.extend(field.wholes)
        elif field.number == 2:
            kind = field.whole
        elif field.number == 8:
            name = field.text
        elif field.number == 13:
            key, value = _entry(field.data)
            location[key] = value
        elif field.number == 14:
            elsewhere = field.whole == 1
    if elsewhere and "location" not in location:
        raise CorruptFileError(
            f"ONNX: initialiser {name!r} is said to be in another file, which is not named"
        )
    if min(shape, default=0) < 0:
        raise CorruptFileError(f"ONNX: initialiser {name!r} has the shape {tuple(shape)}")
    return Stored(name, kind, tuple(shape), data, location if elsewhere else {})


def _entry(data: memoryview) -> tuple[str, str]:
    texts = {field.number: field.text for field in fields(data, "an entry") if field.number in (1, 2)}
    return texts.get(1, ""), texts.get(2, "")


def _call(data: memoryview) -> Call:
    inputs, outputs, outer = [], [], []
    texts = {3: "", 4: "", 7: ""}
    attrs: dict[str, Value] = {}
    for field in fields(data, "a node"):
        if field.number == 1:
            inputs.append(field.text)
        elif field.number == 2:
            outputs.append(field.text)
        elif field.number in texts:
            texts[field.number] = field.text
        elif field.number == 5:
            name, value = _attribute(field.data)
            attrs[name] = value
            outer.extend(_read_within(field.data))
    domain = "" if texts[7] == "ai.onnx" else texts[7]
    return Call(texts[4], domain, texts[3], tuple(inputs), tuple(outputs), attrs, tuple(outer))


def _read_within(attribute: memoryview) -> list[str]:
    """Names that nodes and outputs of an attribute's graphs read, also in graphs within these."""
    names: list[str] = []
    waiting = [attribute]
    while waiting:
        graphs = [each.data for each in fields(waiting.pop(), "an attribute") if each.number in (6, 11)]
        for field in (each for graph in graphs for each in fields(graph, "a graph")):
            if field.number == 12:
                names.append(_port(field.data).name)
            elif field.number == 1:
                for each in fields(field.data, "a node"):
                    if each.number == 1:
                        names.append(each.text)
                    elif each.number == 5:
                        waiting.append(each.data)
    return names


def _attribute(data: memoryview) -> tuple[str, Value]:
    """Name and value; lists without an entry are lists of integers."""
    name, kind = "", 0
    found: dict[int, list[Field]] = {}
    for field in fields(data, "an attribute"):
        if field.number == 1:
            name = field.text
        elif field.number == 20:
            kind = field.whole
        else:
            found.setdefault(field.number, []).append(field)
    last = {number: some[-1] for number, some in found.items()}
    if kind == 1:
        return name, last[2].real if 2 in last else 0.0
    if kind == 2:
        return name, last[3].whole if 3 in last else 0
    if kind == 3:
        return name, str(last[4].data, "utf-8", "replace") if 4 in last else ""
    if kind == 4 and 5 in last:
        return name, tensor_of(last[5].data)
    if kind == 6:
        return name, tuple(real for field in found.get(7, ()) for real in _reals(field))
    if kind == 7:
        return name, tuple(whole for field in found.get(8, ()) for whole in field.wholes)
    if kind == 8:
        return name, tuple(str(field.data, "utf-8", "replace") for field in found.get(9, ()))
    return name, None


def _reals(field: Field) -> list[float]:
    data = field.data
    if len(data) % 4:
        raise CorruptFileError("ONNX: a list of numbers has no whole number of float32")
    return [float(x) for x in memoryview(bytes(data)).cast("f")]


def _port(data: memoryview) -> Port:
    name, kind = "", 0
    shape: tuple[int | str, ...] | None = None
    for field in fields(data, "an input or output"):
        if field.number == 1:
            name = field.text
        elif field.number == 2:
            for each in fields(field.data, "a type"):
                if each.number == 1:
                    kind, shape = _tensor_type(each.data)
    return Port(name, kind, shape)


def _tensor_type(data: memoryview) -> tuple[int, tuple[int | str, ...] | None]:
    kind = 0
    shape: tuple[int | str, ...] | None = None
    for field in fields(data, "a tensor's type"):
        if field.number == 1:
            kind = field.whole
        elif field.number == 2:
            shape = tuple(_size(each.data) for each in fields(field.data, "a shape") if each.number == 1)
    return kind, shape


def _size(data: memoryview) -> int | str:
    size: int | str = ""
    for field in fields(data, "a size"):
        if field.number == 1:
            size = field.whole
        elif field.number == 2:
            size = field.text
    return size
