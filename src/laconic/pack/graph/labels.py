"""Names of axes, inputs and outputs in the graph section (FORMAT.md, "Names").

They are between the outputs and the activation ranges, and begin with a zero where a list of ranges has its
count, which is never zero. A graph without names stores no byte for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from laconic.errors import CorruptFileError, InputError
from laconic.records import BATCH, Graph, ValueSpec, default_name
from laconic.records.limits import DEFAULT, Limits
from laconic.varint import Field, Reader

MAX_NAME_BYTES = 255
_AXES, _INPUTS, _OUTPUTS, _KEYED = 1, 2, 4, 8


def label_fields(graph: Graph) -> list[Field]:
    """A zero, flags, then the fields that the flags announce; nothing for a graph without names.

    Raises ``InputError`` for names that are empty, too long, not printable, or given twice.
    """
    axes, inputs, outputs = graph.free_axes, graph.input_names, graph.result_names
    if graph.output_names not in ((), outputs):
        raise InputError(
            f"the graph has {len(graph.outputs)} outputs and the names {graph.output_names}. Cure: one name "
            "for each output"
        )
    flags = _AXES if axes not in ((), (BATCH,)) else 0
    flags |= _INPUTS if inputs != _defaults("input", len(inputs)) else 0
    flags |= _OUTPUTS if outputs != _defaults("output", len(outputs)) else 0
    flags |= _KEYED if graph.keyed else 0
    if not flags:
        return []
    fields: list[Field] = [0, bytes([flags])]
    if flags & _AXES:
        places = {axis: k for k, axis in enumerate(axes)}
        for spec in graph.inputs:
            for size in spec.sizes:
                if isinstance(size, str):
                    fields.append(places[size])
        fields += _name_fields(axes, "axes")
    if flags & _INPUTS:
        fields += _name_fields(inputs, "inputs")
    if flags & _OUTPUTS:
        fields += _name_fields(outputs, "outputs")
    return fields


def _defaults(stem: str, count: int) -> tuple[str, ...]:
    return tuple(default_name(stem, k, count) for k in range(count))


def _name_fields(names: Sequence[str], what: str) -> list[Field]:
    fields: list[Field] = []
    taken: set[str] = set()
    for name in names:
        data = name.encode("utf-8", "replace")
        if not (0 < len(data) <= MAX_NAME_BYTES and name.isprintable()):
            raise InputError(
                f"the {what} of a graph have names of 1 to {MAX_NAME_BYTES} printable bytes, got "
                f"{name[:80]!r}. Cure: a shorter name of printable characters"
            )
        if name in taken:
            raise InputError(f"two of the graph's {what} are called {name!r}. Cure: rename one")
        taken.add(name)
        fields += [len(data), data]
    return fields


def get_labels(source: Reader, graph: Graph, limits: Limits = DEFAULT) -> Graph:
    """The graph with the names that follow, if any do; the inverse of :func:`label_fields`.

    Raises ``CorruptFileError`` for flags, axes or names that no writer produces, ``LimitError`` for more axes
    than the graph may have nodes.
    """
    if not source.left or source.peek() != 0:
        return graph
    source.byte()
    flags = source.byte() if source.left else 0
    if not 0 < flags < 16:
        raise CorruptFileError(f"graph section: a zero and flags {flags} follow its end; these are no names")
    inputs = _get_axes(source, graph.inputs, limits) if flags & _AXES else graph.inputs
    if flags & _INPUTS:
        names = _get_names(source, len(inputs), "inputs")
        inputs = tuple(replace(spec, name=name) for spec, name in zip(inputs, names, strict=True))
    outputs = _get_names(source, len(graph.outputs), "outputs") if flags & _OUTPUTS else ()
    return replace(graph, inputs=inputs, output_names=outputs, keyed=bool(flags & _KEYED))


def _get_axes(source: Reader, inputs: Sequence[ValueSpec], limits: Limits) -> tuple[ValueSpec, ...]:
    numbers: list[int] = []
    count = 0
    for _ in range(sum(spec.shape.count(None) for spec in inputs)):
        number = source.varint()
        if number > count:
            raise CorruptFileError(f"graph section: axis {number} comes before axis {number - 1}")
        numbers.append(number)
        if number == count:
            count += 1
            limits.check("named axes of the graph", count, limits.nodes)
    if not numbers:
        raise CorruptFileError("graph section: axes are named and no dimension is free")
    names = _get_names(source, count, "axes")
    given = iter([names[number] for number in numbers])
    return tuple(replace(spec, axes=tuple(next(given) for d in spec.shape if d is None)) for spec in inputs)


def _get_names(source: Reader, count: int, what: str) -> tuple[str, ...]:
    names: list[str] = []
    for _ in range(count):
        raw = source.block("letters")
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CorruptFileError(f"graph section: the name of one of the {what} is not UTF-8") from error
        if not (0 < len(raw) <= MAX_NAME_BYTES and name.isprintable()):
            raise CorruptFileError(f"graph section: one of the {what} is called {name[:80]!r}")
        names.append(name)
    if len(set(names)) != len(names):
        raise CorruptFileError(f"graph section: two of the {what} have one name")
    return tuple(names)
