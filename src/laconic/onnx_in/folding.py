"""Weights that an ONNX graph computes from constants become initialisers, so that they can be compressed.

Exporters write a weight as a scaled, moved or cut constant, quantisers as integers with a scale, the
parametrisations of PyTorch as a product. What a layer reads as a weight is followed to its constants, and
computed by NumPy (``constants.py``). Nodes that nothing reads any more are left out, and so are initialisers.
All else of the file stays as it is, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import numpy as np

from laconic.errors import InputError
from laconic.onnx_in.arrays import KINDS, Folder, array_of
from laconic.onnx_in.constants import RULES, bytes_of
from laconic.onnx_in.messages import Call, Model, Stored, model_of, tensor_of
from laconic.onnx_in.weights import FEWEST, MOVES, READ
from laconic.patterns import matching
from laconic.records import AnyArray
from laconic.runtime.onnx_model.kept import GRAPH, INITIALISER, put
from laconic.runtime.onnx_model.wire import fields
from laconic.varint import Writer

FOLDED, FOLDED_PER_BYTE = 2**28, 4
"""Bytes that computed constants may take in all, and how many more for each byte of the initialisers."""
_NODE = 1
_CODES = {name: code for code, name in KINDS.items()}
_NUMBERS = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}


def folded(data: bytes, folder: Folder, keep: Iterable[str] = ()) -> bytes:
    """A serialised ``ModelProto`` in which layers read their weights from initialisers.

    Args:
        data: The model.
        folder: Where entries in other files are.
        keep: Initialisers that stay as they are, and so does what is computed from them.

    Returns:
        The model with computed weights as initialisers; the same bytes where there is none.

    Raises:
        FileFormatError: The bytes are no model.
        InputError: A file of entries that is missing or lies elsewhere.
    """
    model = model_of(memoryview(data))
    made = _Constants(model, folder, _kept(model, keep)).weights()
    return _rewritten(data, model, made) if made else data


def _kept(model: Model, keep: Iterable[str]) -> frozenset[str]:
    """The initialisers that are to stay; a name that none has may be one of a computed weight."""
    found: set[str] = set()
    for name in keep:
        with suppress(InputError):
            found |= matching((name,), model.stored, "initialiser")
    return frozenset(found)


class _Constants:
    """Values that are computed from constants, each once, within a number of bytes in all."""

    def __init__(self, model: Model, folder: Folder, kept: frozenset[str]) -> None:
        self._model, self._folder = model, folder
        self._makers = {name: call for call in model.calls for name in call.outputs if name}
        # An initialiser that is an input, too, is a default that the caller may replace.
        unknown = {*kept, *(port.name for port in model.inputs)}
        self._known: dict[str, AnyArray | None] = dict.fromkeys(unknown)
        self._left = FOLDED + FOLDED_PER_BYTE * _file_bytes(model, folder)

    def weights(self) -> dict[str, AnyArray]:
        """What layers read as weights and nodes compute from constants, by name."""
        given = {port.name for port in (*self._model.inputs, *self._model.outputs)}
        found: dict[str, AnyArray] = {}
        constants = set(self._model.stored)
        for call in self._model.calls:
            if _is_constant(call) and constants.issuperset(name for name in call.inputs if name):
                constants.update(call.outputs)  # a step on the way to a weight, no layer
                continue
            for name in (call.inputs[k] for k in READ.get(call.kind, ()) if k < len(call.inputs)):
                if name in given or name in found or self._is_moved(name):
                    continue
                value = self._value(name)
                if value is not None and value.ndim >= 2 and value.size >= FEWEST and value.dtype.kind == "f":
                    found[name] = np.ascontiguousarray(value)
        return found

    def _is_moved(self, name: str) -> bool:
        """Whether it is an initialiser, moved perhaps: such a weight is found as it is."""
        for _ in range(len(self._makers) + 1):
            call = self._makers.get(name)
            if call is None:
                stored = self._model.stored.get(name)
                return stored is None or stored.kind in _FLOAT_CODES
            if call.kind not in MOVES or not call.inputs:
                return False
            name = call.inputs[0]
        return True

    def _value(self, wanted: str) -> AnyArray | None:
        """The value of a name, without recursion; None where it is no constant or too large."""
        waiting, opened = [wanted], set()
        while waiting:
            name = waiting[-1]
            call = self._makers.get(name)
            missing: list[str] = []
            if name in self._known:
                pass
            elif call is None or not _computed(call):
                self._known[name] = self._entries(name, call)
            else:
                missing = [each for each in call.inputs if each and each not in self._known]
                if not missing or name in opened:  # seen before, so a circle: its inputs are missing for ever
                    self._known[name] = None if missing else self._result(call)
                    missing = []
            if missing:
                opened.add(name)
                waiting.extend(missing)
            else:
                waiting.pop()
        return self._known[wanted]

    def _entries(self, name: str, call: Call | None) -> AnyArray | None:
        """Those of an initialiser or of a constant's node."""
        stored: object = self._model.stored.get(name)
        if call is not None:
            stored = None
            if call.kind == "Constant" and call.domain == "":
                kind, stored = next(iter(call.attrs.items()), ("", None))
                if kind in _NUMBERS:
                    return np.array(stored, _NUMBERS[kind])
        if not isinstance(stored, Stored) or KINDS.get(stored.kind, "bfloat16") == "bfloat16":
            return None
        if stored.location and call is not None:
            return None
        return array_of(stored, self._folder) if self._takes(8 * math.prod(stored.shape)) else None

    def _result(self, call: Call) -> AnyArray | None:
        operands = [self._known[name] if name else None for name in call.inputs]
        if any(value is None for name, value in zip(call.inputs, operands, strict=True) if name):
            return None
        try:
            with np.errstate(all="ignore"):
                return RULES[call.kind](call, operands) if self._takes(bytes_of(call, operands)) else None
        # Inputs that do not fit: ONNX Runtime says why.
        except (ValueError, TypeError, IndexError, OverflowError):
            return None

    def _takes(self, size: int) -> bool:
        if size > self._left:
            return False
        self._left -= size
        return True


def _computed(call: Call) -> bool:
    return call.kind in RULES and call.domain == "" and len(call.outputs) == 1


_FLOAT_CODES = frozenset(_CODES[name] for name in ("float32", "float16", "float64", "bfloat16"))


def _file_bytes(model: Model, folder: Folder) -> int:
    files = {folder.file_of(each) for each in model.stored.values() if each.location}
    return sum(len(each.data) for each in model.stored.values()) + sum(path.stat().st_size for path in files)


def _rewritten(data: bytes, model: Model, made: Mapping[str, AnyArray]) -> bytes:
    """The model with these initialisers, without what only they were computed from."""
    outputs = {port.name for port in model.outputs}
    before = _used(model.calls) | outputs
    used, stays = set(outputs), []
    for call in reversed(model.calls):  # a node stands before those that read it
        read = any(name in used or name not in before for name in call.outputs)
        stay = not any(name in made for name in call.outputs) and (read or not _is_constant(call))
        stays.append(stay)
        if stay:
            used |= _used([call])
    inputs = {port.name for port in model.inputs}
    gone = {name for name in model.stored if name in before - used and name not in inputs}
    return _with_graph(data, lambda graph: _graph(graph, stays[::-1], gone, made))


def _is_constant(call: Call) -> bool:
    return _computed(call) or call.kind == "Constant"


def _used(calls: Iterable[Call]) -> set[str]:
    """Names that nodes read, also in graphs within them."""
    return {name for call in calls for name in (*call.inputs, *call.outer)}


def _with_graph(data: bytes, change: Callable[[memoryview], bytes]) -> bytes:
    out = Writer()
    for field in fields(memoryview(data), "the model"):
        if field.number == GRAPH:
            put(out, GRAPH, change(field.data))
        else:
            out.raw(memoryview(data)[field.start : field.end])
    return bytes(out.data)


def _graph(data: memoryview, stays: list[bool], gone: set[str], made: Mapping[str, AnyArray]) -> bytes:
    """The graph's message: nodes that stay, initialisers that something reads, and the new ones last."""
    out, number = Writer(), 0
    for field in fields(data, "the graph"):
        if field.number == _NODE:
            number += 1
            if not stays[number - 1]:
                continue
        elif field.number == INITIALISER and _name_of(field.data) in gone:
            continue
        out.raw(data[field.start : field.end])
    for name, value in made.items():
        put(out, INITIALISER, _tensor(name, value))
    return bytes(out.data)


def _name_of(tensor: memoryview) -> str:
    return tensor_of(tensor).name


def _tensor(name: str, value: AnyArray) -> bytes:
    """A ``TensorProto``: dimensions, type, name, little-endian bytes."""
    out = Writer()
    for size in value.shape:
        out.varint(1 << 3)
        out.varint(size)
    out.varint(2 << 3)
    out.varint(_CODES[value.dtype.name])
    put(out, 8, name.encode())
    put(out, 9, value.astype(value.dtype.newbyteorder("<")).tobytes())
    return bytes(out.data)
