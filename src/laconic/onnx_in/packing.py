"""From an ONNX file to a .lac file: weights on grids, the graph as our own.

Where the runtime lacks an operator, the ONNX graph is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from laconic.errors import CaptureError, InputError, at
from laconic.files import check_out, read_input, write_bytes
from laconic.onnx_in.arrays import Folder, array_of, kind_name, raw_bytes
from laconic.onnx_in.checking import disagreement
from laconic.onnx_in.conversion import convert
from laconic.onnx_in.folding import folded
from laconic.onnx_in.messages import Model, Stored, model_of, tensor_of
from laconic.onnx_in.rules import RULES
from laconic.onnx_in.weights import Grids, rounded, unread_bytes, weight_names
from laconic.pack.file.container import encode
from laconic.records import AnyArray, IntTensor, PackedModel
from laconic.runtime.onnx_model.kept import keep as kept_tensor
from laconic.runtime.onnx_model.kept import with_entries, with_initialisers, without_entries
from laconic.runtime.reading import loading_note
from laconic.text import size_text

_OTHER_EXPORTER = (
    "Cure: the other exporter (torch.onnx.export with dynamo=True for attention, with dynamo=False for "
    "recurrences)"
)
_FEW_BYTES = 4096
_INSIDE = (
    "{} of weights are computed with before a layer reads them, and not compressed. Cure: "
    "torch.onnx.export(..., dynamo=False), or a graph whose constants are folded"
)


class Packed(NamedTuple):
    """What became of an ONNX file.

    Attributes:
        length: Bytes of the .lac file.
        original: Bytes of the ONNX file, with those of the other files that hold its entries.
        weights: How many numbers were rounded.
        tensors: Of how many initialisers.
        bits: Bits of the whole file for each of them.
        runs: Whether ``laconic.runtime.load`` runs the file; otherwise it keeps the ONNX graph.
        notes: Why it does not run, and what was done that was not asked for.
        needs_trust: Whether loading or exporting it takes more than readers allow who do not know it.

    >>> Packed(length=100, original=800, weights=200, tensors=1, bits=4.0, runs=True, notes=()).bits
    4.0
    """

    length: int
    original: int
    weights: int
    tensors: int
    bits: float
    runs: bool
    notes: tuple[str, ...]
    needs_trust: bool = False


def pack_onnx(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    bits: float | None = None,
    step: float | None = None,
    keep: str | Iterable[str] = (),
    keep_graph: bool = False,
) -> Packed:
    """Compress the weights of an ONNX file into a .lac file, from which ``export_onnx`` makes ONNX again.

    The weights of layers are rounded to grids; biases, norms and all other constants stay exact. Where the
    runtime has all operators, and computes what ONNX Runtime computes, the file runs by itself; otherwise it
    keeps the ONNX graph as it is, byte for byte.

    Args:
        path: The ONNX file; entries in other files of its folder are read, too.
        out: The .lac file.
        bits: Mean bits of a weight, by the entropy of its integers (see :class:`laconic.onnx_in.Grids`).
        step: The step of all grids, in the weights' unit, in place of ``bits``.
        keep: Initialisers that stay exact: names, layers, or patterns with ``*``.
        keep_graph: Keep the ONNX graph also where the runtime has all of its operators.

    Returns:
        Lengths and notes.

    Raises:
        InputError: The output is a file that is read, no weights of floating-point numbers, weights that are
            NaN, entries in a file that is missing or not in the folder, a name in ``keep`` that no
            initialiser has.
        FileFormatError: A file that is no ONNX, or ends early.
        ReadError, WriteError: A file that cannot be read or written; an old file still stands.

    >>> import tempfile
    >>> import numpy as np
    >>> from onnx import TensorProto, helper, numpy_helper, save
    >>> w = numpy_helper.from_array(np.ones((8, 16), np.float32), "w")
    >>> x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])
    >>> y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])
    >>> graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [w])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), f"{folder}/m.onnx")
    ...     found = pack_onnx(f"{folder}/m.onnx", f"{folder}/m.lac", step=0.5)
    >>> found.weights, found.runs
    (128, True)
    """
    grids = Grids(bits, step)
    names = (keep,) if isinstance(keep, str) else tuple(keep)
    data = read_input(path)
    folder = Folder(Path(path).parent)
    with at(f"reading {os.fspath(path)!r}"):
        model = model_of(memoryview(data))
        _check(model)
        _check_out(out, path, model, folder)
        size = len(data) + _elsewhere(model, folder)
        data = folded(data, folder, names)
        model = model_of(memoryview(data))
        chosen = weight_names(model, names)
        if not chosen:
            raise _nothing(model)
        arrays = {name: array_of(model.stored[name], folder) for name in chosen}
        weights = rounded(arrays, grids)
        packed, notes = _packed(data, model, folder, weights, keep_graph)
    length = write_bytes(out, encode(packed))
    count = sum(array.size for array in arrays.values())
    large = loading_note(out)
    inside = unread_bytes(model, chosen, names)
    if inside > _FEW_BYTES and inside > sum(array.nbytes for array in arrays.values()) / 16:
        notes = (*notes, _INSIDE.format(size_text(inside)))
    notes = (*_overridable(model), *notes, *(() if large is None else (large,)))
    runs = packed.graph is not None
    return Packed(length, size, count, len(chosen), 8 * length / count, runs, notes, large is not None)


def _packed(
    data: bytes, model: Model, folder: Folder, weights: Mapping[str, IntTensor], keep_graph: bool
) -> tuple[PackedModel, tuple[str, ...]]:
    """The file's content, with a graph of our own where that computes the same."""
    if not keep_graph:
        try:
            found = convert(model, folder, weights, RULES)
            made = PackedModel(found.tensors, found.graph)
            whole = _decoded(data, folder, {name: tensor.values() for name, tensor in weights.items()})
            problem = disagreement(made, whole)
            if problem is None:
                return made, ()
            note = f"the ONNX graph is kept: {problem}"
        except CaptureError as error:
            note = f"the ONNX graph is kept, since the runtime does not run it: {error}. {_OTHER_EXPORTER}"
    else:
        note = "the ONNX graph is kept, as was asked for"
    kept = kept_tensor(with_initialisers(memoryview(data), lambda t: _bare(t, folder, weights)))
    return PackedModel((*weights.values(), kept)), (note,)


def _bare(data: memoryview, folder: Folder, weights: Mapping[str, IntTensor]) -> bytes | memoryview:
    """An initialiser without entries where these are weights; with those of another file in it."""
    tensor = tensor_of(data)
    if tensor.name in weights:
        return without_entries(data)
    return data if not tensor.location else with_entries(data, bytes(raw_bytes(tensor, folder) or b""))


def _decoded(data: bytes, folder: Folder, values: Mapping[str, AnyArray]) -> bytes:
    """The ONNX model with decoded weights in it; they are float32, since the graph was converted."""

    def filled(each: memoryview) -> bytes | memoryview:
        tensor = tensor_of(each)
        if tensor.name in values:
            return with_entries(each, values[tensor.name].astype("<f4").tobytes())
        return _bare(each, folder, {})

    return with_initialisers(memoryview(data), filled)


def _check(model: Model) -> None:
    """Refuse types that ONNX does not define, and constants of nodes in other files."""
    for tensor in model.stored.values():
        kind_name(tensor.kind)
    for call in model.calls:
        for value in call.attrs.values():
            if isinstance(value, Stored) and value.location:
                raise InputError(
                    f"ONNX: {call.where} holds a constant in the file {value.location['location']!r}. "
                    "Cure: export the network with such constants as initialisers"
                )


def _check_out(
    out: str | os.PathLike[str], path: str | os.PathLike[str], model: Model, folder: Folder
) -> None:
    """Refuse an output that is one of the files that are read."""
    check_out(out, path, "the ONNX file that is read")
    for location, tensor in {t.location["location"]: t for t in model.stored.values() if t.location}.items():
        check_out(out, folder.file_of(tensor), f"the file {location!r} that holds entries of the ONNX file")


def _nothing(model: Model) -> InputError:
    """The error for a model without a weight that can be rounded: which types there are instead."""
    kinds = sorted({kind_name(t.kind) for t in model.stored.values() if len(t.shape) >= 2})
    other = [kind for kind in kinds if not kind.startswith(("float16", "float32", "float64", "bfloat16"))]
    what = f"its matrices are of type {', '.join(other)}" if other else "no layer reads an initialiser"
    return InputError(
        f"ONNX: there are no weights of floating-point numbers to compress: {what}. "
        "Cure: the model before it was quantised, with its weights as initialisers"
    )


def _overridable(model: Model) -> tuple[str, ...]:
    """A note where an initialiser is an input, too: a default that a call could replace."""
    both = [port.name for port in model.inputs if port.name in model.stored]
    if not both:
        return ()
    many = f"{len(both)} initialisers, the first {both[0]!r}, are" if len(both) > 1 else f"{both[0]!r} is"
    return (f"{many} also inputs of the graph: their stored values count, as constants",)


def _elsewhere(model: Model, folder: Folder) -> int:
    files = {folder.file_of(tensor) for tensor in model.stored.values() if tensor.location}
    return sum(path.stat().st_size for path in files)
