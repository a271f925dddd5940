"""The graph section: a network's arithmetic in a few bytes (FORMAT.md, "Graph section").

Most nodes take the previous value and the next tensors of the file, with default attributes:
such a node is one byte. Other nodes have a bit mask of the fields that differ. All counts are
checked against the bytes that are left before anything is allocated.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import replace

from laconic.errors import CorruptFileError, InputError, LimitError
from laconic.pack.graph.labels import get_labels, label_fields
from laconic.pack.graph.ops import BY_CODE, DTYPES, MAX_INTS, MAX_RANK, AttrSpec, OpSpec, spec_of
from laconic.pack.graph.ranges import get_ranges, range_fields
from laconic.records import Attr, Graph, Node, ValueSpec, tensor_index, tensor_ref
from laconic.records.limits import DEFAULT, Limits
from laconic.varint import Field, Reader, Writer, zigzag

MAX_INPUTS = 4096
MAX_ALL_INPUTS = 2**18
_EXPLICIT_BIT = 0x80
_PARTS = "inputs, nodes and outputs of the graph"
_PATTERN, _SHORT, _LISTED, _LONG = range(4)  # the four forms in which a node's inputs are written


# --- input references -----------------------------------------------------------------------


class _Cursor:
    """The "previous value" and the "next tensor" at one position of the node list."""

    def __init__(self, values: int) -> None:
        self.values = values
        self.previous = self.tensor = 0

    def follow(self, inputs: Sequence[int | None]) -> None:
        for ref in inputs:
            if ref is not None and ref < 0:
                self.tensor = tensor_index(ref) + 1

    def advance(self, n_outputs: int) -> None:
        self.previous = self.values
        self.values += n_outputs

    def expand(self, pattern: str) -> tuple[int | None, ...]:
        """Default inputs as references: x, t and - resolved at this position of the node list."""
        refs: list[int | None] = []
        tensor = self.tensor
        for letter in pattern:
            if letter == "t":
                refs.append(tensor_ref(tensor))
                tensor += 1
            else:
                refs.append(self.previous if letter == "x" else None)
        return tuple(refs)


def _ref_codes(inputs: Sequence[int | None], cursor: _Cursor) -> list[int]:
    """0 absent, 1 next tensor, 2 + 2d the value d before the newest, 3 + 2k tensor k."""
    codes: list[int] = []
    tensor = cursor.tensor
    for ref in inputs:
        if ref is None:
            codes.append(0)
        elif ref >= 0:
            codes.append(2 + 2 * (cursor.values - 1 - ref))
        else:
            index = tensor_index(ref)
            codes.append(1 if index == tensor else 3 + 2 * index)
            tensor = index + 1
    return codes


def _get_refs(source: Reader, count: int, cursor: _Cursor) -> tuple[int | None, ...]:
    refs: list[int | None] = []
    tensor = cursor.tensor
    for _ in range(count):
        code = source.varint()
        if code == 0:
            refs.append(None)
        elif code == 1 or code % 2:
            index = tensor if code == 1 else (code - 3) // 2
            refs.append(tensor_ref(index))
            tensor = index + 1
        else:
            back = (code - 2) // 2
            if back >= cursor.values:
                raise CorruptFileError(f"graph section: an input lies {back} values back of {cursor.values}")
            refs.append(cursor.values - 1 - back)
    return tuple(refs)


def _input_form(node: Node, spec: OpSpec, cursor: _Cursor) -> int:
    """The shortest of the four ways to write a node's inputs."""
    default = cursor.expand(spec.pattern)
    if node.inputs == default:
        return _PATTERN
    if node.inputs == default[:-1]:
        return _SHORT
    more = len(node.inputs) - len(default)
    if more > 0 and node.inputs == cursor.expand(spec.pattern + "t" * more):
        return _LONG
    return _LISTED


# --- attributes -----------------------------------------------------------------------------


_EQUATION = r"_(,_)*(->_)?".replace("_", r"[A-Za-z ]*(\.\.\.[A-Za-z ]*)?")


def is_equation(text: str) -> bool:
    """Whether a text is an einsum equation; ONNX Runtime hangs on some that are not.

    >>> is_equation("bij, ...k -> b...k"), is_equation("a\\0"), is_equation("a->b->c")
    (True, False, False)
    """
    return len(text) <= 1024 and re.fullmatch(_EQUATION, text) is not None


def _attr_fields(spec: AttrSpec, value: Attr) -> list[Field]:
    if spec.kind == "int" and isinstance(value, int) and spec.least <= value <= spec.most:
        return [zigzag(value)]
    if spec.kind == "ints" and isinstance(value, tuple) and len(value) <= MAX_INTS:
        return [len(value), *map(zigzag, value)]
    if spec.kind == "float" and isinstance(value, (int, float)):
        return [_exact_float32(spec.name, float(value))]
    if spec.kind == "choice" and value in spec.choices:
        return [spec.choices.index(str(value))]
    if spec.kind == "text" and isinstance(value, str) and is_equation(value):
        return [len(value), value.encode("ascii")]
    if spec.kind == "flag" and isinstance(value, bool):
        return []
    raise InputError(
        f"attribute {spec.name!r} cannot hold {value!r}: it is of kind {spec.kind!r}. Cure: a value that its "
        "row of laconic.pack.graph.ops.OPS allows"
    )


def _exact_float32(name: str, value: float) -> bytes:
    try:
        packed = struct.pack("<f", value)
    except OverflowError:
        packed = b""
    if not packed or struct.unpack("<f", packed)[0] != value:
        raise InputError(
            f"attribute {name!r} must be a float32, got {value!r}. Cure: float(numpy.float32(x))"
        )
    return packed


def _get_attr(source: Reader, spec: AttrSpec) -> Attr:
    match spec.kind:
        case "flag":
            return True
        case "int":
            whole = source.signed()
            if not spec.least <= whole <= spec.most:
                raise CorruptFileError(f"graph section: attribute {spec.name!r} is {whole}")
            return whole
        case "ints":
            count = source.count("integers")
            if count > MAX_INTS:
                raise CorruptFileError(f"graph section: attribute {spec.name!r} claims {count} integers")
            return tuple(source.signed() for _ in range(count))
        case "float":
            value: float = struct.unpack("<f", source.raw(4))[0]
            if math.isnan(value):
                raise CorruptFileError(f"graph section: attribute {spec.name!r} is NaN")
            return value
        case "choice":
            index = source.varint()
            if index >= len(spec.choices):
                raise CorruptFileError(f"graph section: attribute {spec.name!r} has no choice {index}")
            return spec.choices[index]
        case "text":
            raw = source.block("letters")
            if not raw.isascii():
                raise CorruptFileError(f"graph section: attribute {spec.name!r} is not ASCII")
            text = raw.decode("ascii")
            if not is_equation(text):
                raise CorruptFileError(f"graph section: attribute {spec.name!r} is {text[:80]!r}")
            return text


# --- nodes ----------------------------------------------------------------------------------


def _misfit(node: Node, spec: OpSpec) -> str | None:
    """What is wrong with the numbers of inputs and outputs, or with the first input; None for nothing."""
    count = len(node.inputs)
    if count < spec.least or (spec.most is not None and count > spec.most):
        return f"operation {node.op!r} takes {spec.least} to {spec.most or 'any'} inputs, got {count}"
    if count == 0 or node.inputs[0] is None:
        return f"operation {node.op!r} has no first input"
    if node.n_outputs != spec.n_outputs:
        return f"operation {node.op!r} has {spec.n_outputs} outputs, got {node.n_outputs}"
    return None


def _node_fields(node: Node, cursor: _Cursor) -> list[Field]:
    spec = spec_of(node.op)
    misfit = _misfit(node, spec)
    if misfit is not None:
        raise InputError(f"{misfit}. Cure: inputs and outputs as in laconic.pack.graph.ops.OPS")
    unknown = set(node.attrs) - {a.name for a in spec.attrs}
    if unknown:
        raise InputError(f"operation {node.op!r} has no attribute {min(unknown)!r}. Cure: leave it out")
    given = [a for a in spec.attrs if node.attrs.get(a.name, a.default) != a.default]
    form = _input_form(node, spec, cursor)
    mask = form | sum(1 << (2 + spec.attrs.index(a)) for a in given)
    fields: list[Field] = [bytes([spec.code | (_EXPLICIT_BIT if mask else 0)])]
    if mask:
        fields.append(mask)
    if form in (_LISTED, _LONG):
        fields.append(len(node.inputs))
    if form == _LISTED:
        fields += _ref_codes(node.inputs, cursor)
    for attribute in given:
        fields += _attr_fields(attribute, node.attrs[attribute.name])
    return fields


def _get_inputs(
    source: Reader, spec: OpSpec, form: int, cursor: _Cursor, n_tensors: int
) -> tuple[int | None, ...]:
    if form == _PATTERN:
        return cursor.expand(spec.pattern)
    if form == _SHORT:
        return cursor.expand(spec.pattern)[:-1]
    if form == _LISTED:
        return _get_refs(source, source.count("inputs"), cursor)
    count = source.varint()
    if not len(spec.pattern) < count <= min(MAX_INPUTS, len(spec.pattern) + n_tensors):
        raise CorruptFileError(f"graph section: {spec.name!r} claims {count} inputs")
    return cursor.expand(spec.pattern + "t" * (count - len(spec.pattern)))


def _get_node(source: Reader, cursor: _Cursor, n_tensors: int) -> Node:
    head = source.byte()
    spec = BY_CODE.get(head & ~_EXPLICIT_BIT)
    if spec is None:
        raise CorruptFileError(f"graph section: no operation has code {head & ~_EXPLICIT_BIT}")
    mask = source.varint() if head & _EXPLICIT_BIT else 0
    if mask >> (2 + len(spec.attrs)):
        raise CorruptFileError(f"graph section: {spec.name!r} claims attributes that it does not have")
    inputs = _get_inputs(source, spec, mask & 3, cursor, n_tensors)
    given = [a for k, a in enumerate(spec.attrs) if mask >> (2 + k) & 1]
    node = Node(spec.name, inputs, {a.name: _get_attr(source, a) for a in given}, spec.n_outputs)
    misfit = _misfit(node, spec)
    if misfit is not None:
        raise CorruptFileError(misfit)
    if any(ref is not None and not -n_tensors <= ref < cursor.values for ref in inputs):
        raise CorruptFileError(
            f"graph section: {spec.name!r} refers to a tensor or value that does not exist"
        )
    return node


# --- inputs and the whole ---------------------------------------------------------------------


def _spec_fields(spec: ValueSpec) -> list[Field]:
    """One byte of dtype and rank, then 0 for a free dimension and d + 1 for a fixed one."""
    if spec.dtype not in DTYPES or len(spec.shape) > MAX_RANK - 1:
        raise InputError(
            f"a graph input of {spec.dtype} and rank {len(spec.shape)} cannot be written. Cure: one of "
            f"{', '.join(DTYPES)}, and at most {MAX_RANK - 1} dimensions"
        )
    head = DTYPES.index(spec.dtype) << 4 | len(spec.shape)
    return [bytes([head]), *(0 if dim is None else dim + 1 for dim in spec.shape)]


def _get_spec(source: Reader) -> ValueSpec:
    head = source.byte()
    if head >> 4 >= len(DTYPES):
        raise CorruptFileError(f"graph section: no input type has code {head >> 4}")
    dims = [source.varint() for _ in range(head & 15)]
    if any(d > 2**48 for d in dims):
        raise CorruptFileError(f"graph section: an input claims a dimension of {max(dims) - 1}")
    return ValueSpec(DTYPES[head >> 4], tuple(None if d == 0 else d - 1 for d in dims))


def encode_graph(graph: Graph) -> bytes:
    """A graph as bytes: counts, input specs, nodes, outputs, names, ranges. Equal graphs give equal bytes.

    A convolution, its pooling and a linear layer in default form are one byte each. Attributes
    that equal their default are dropped: the decoded graph is the normal form of ``graph``.

    Raises ``InputError`` for an operation, attribute or reference that the table does not allow.

    >>> from laconic.records import Graph, Node, ValueSpec
    >>> nodes = (Node("linear", (0, -1, -2)), Node("relu", (1,)))
    >>> graph = Graph((ValueSpec("float32", (None, 4)),), nodes, (2,))
    >>> encode_graph(graph).hex(), decode_graph(encode_graph(graph), n_tensors=2) == graph
    ('0102000502014000', True)
    """
    fields: list[Field] = [len(graph.inputs)]
    for spec in graph.inputs:
        fields += _spec_fields(spec)
    fields.append(len(graph.nodes))
    cursor = _Cursor(len(graph.inputs))
    for node in graph.nodes:
        for ref in node.inputs:
            if ref is not None and ref >= cursor.values:
                raise InputError(
                    f"operation {node.op!r} refers to value {ref} before it exists. Cure: nodes in the order "
                    "in which they run"
                )
        fields += _node_fields(node, cursor)
        cursor.follow(node.inputs)
        cursor.advance(node.n_outputs)
    default = graph.outputs == (cursor.previous,)
    fields.append(0 if default else len(graph.outputs))
    if not default:
        if not graph.outputs or not all(0 <= ref < cursor.values for ref in graph.outputs):
            raise InputError(
                f"graph outputs {graph.outputs} are not all values of the graph. Cure: one or more of "
                f"0..{cursor.values - 1}"
            )
        fields += [cursor.values - 1 - ref for ref in graph.outputs]
    fields += label_fields(graph)
    fields += range_fields(graph.ranges, cursor.values)
    out = Writer()
    out.fields(fields)
    return bytes(out.data)


def decode_graph(data: bytes, n_tensors: int, limits: Limits = DEFAULT) -> Graph:
    """Bytes -> graph, refusing every reference, code or count that no writer produces.

    ``n_tensors`` is the number of tensors in the file: references beyond it are refused.

    Raises ``TruncatedFileError`` when the bytes end before what they claim, ``LimitError`` for more inputs,
    nodes and outputs than the limits allow, ``CorruptFileError`` otherwise.
    """
    source = Reader(data, "graph section")
    n_inputs = source.count("inputs")
    limits.check(_PARTS, n_inputs, limits.nodes)
    inputs = tuple(_get_spec(source) for _ in range(n_inputs))
    cursor = _Cursor(len(inputs))
    nodes, references = [], 0
    n_nodes = source.count("nodes")
    limits.check(_PARTS, n_inputs + n_nodes, limits.nodes)
    for _ in range(n_nodes):
        node = _get_node(source, cursor, n_tensors)
        nodes.append(node)
        references += len(node.inputs)
        if references > MAX_ALL_INPUTS:
            raise LimitError(f"graph section: its nodes claim over {MAX_ALL_INPUTS} inputs")
        cursor.follow(node.inputs)
        cursor.advance(node.n_outputs)
    outputs = _get_outputs(source, cursor)
    limits.check(_PARTS, n_inputs + n_nodes + len(outputs), limits.nodes)
    graph = get_labels(source, Graph(inputs, tuple(nodes), outputs), limits)
    ranges = get_ranges(source, cursor.values)
    return replace(graph, ranges=ranges) if ranges else graph


def _get_outputs(source: Reader, cursor: _Cursor) -> tuple[int, ...]:
    count = source.count("outputs")
    refs = tuple(cursor.values - 1 - source.varint() for _ in range(count)) or (cursor.previous,)
    if any(ref < 0 for ref in refs) or not cursor.values:
        raise CorruptFileError("graph section: an output is a value that does not exist")
    return refs
