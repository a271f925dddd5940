"""A file's bytes to a model that may be run: its claims are held against the limits before it is decoded."""

from __future__ import annotations

import os

import numpy as np

from laconic.errors import InputError, WeightsOnlyError
from laconic.files import read_input
from laconic.pack.file.container import KEPT_ONNX, Parts, decode_tensors, decoded_graph, take_apart
from laconic.pack.file.needs import Needs, decoding, file_memory, of_kinds
from laconic.records import Graph, PackedModel, RawTensor
from laconic.records.limits import DEFAULT, Limits
from laconic.runtime.graph.sizes import NODE_STEPS, Form, claims, form_of

NO_GRAPH = (
    "this file holds weights without a graph, so it cannot run by itself. "
    "Cure: fill a module of the same architecture with laconic.restore(path, into=module), "
    "or laconic.unpack_checkpoint(path, 'model.safetensors')"
)

KEEPS_ONNX = (
    "this file keeps an ONNX graph, which this runtime does not run. "
    "Cure: laconic.export_onnx(path, 'model.onnx'), and a runtime of ONNX"
)

_LOAD = "laconic.runtime.load(path"


def needs(data: bytes) -> Needs:
    """What ``laconic.runtime.load`` will need for a file, to be held against a reader's ``Limits``.

    A file without a graph is not run, so it needs nothing. Raises ``FileFormatError`` for a wrong file.

    >>> import numpy as np
    >>> from laconic.pack import encode
    >>> from laconic.records import Node, RawTensor, ValueSpec
    >>> graph = Graph((ValueSpec("float32", (None, 2)),), (Node("linear", (0, -1)),), (1,))
    >>> needs(encode(PackedModel((RawTensor("w", np.ones((2, 2), np.float32)),), graph))).memory < 2**24
    True
    """
    return _needs_of(take_apart(data, Limits.trusted()), len(data))


def _needs_of(parts: Parts, file_bytes: int) -> Needs:
    limits = Limits.trusted()
    graph = decoded_graph(parts, limits)
    return Needs(0, 0) if graph is None else _needs(parts, graph, file_bytes, limits)


def loading_note(path: str | os.PathLike[str]) -> str | None:
    """How a file is loaded, or exported, that needs more than the default limits allow; None for another."""
    data = bytes_of(path)
    parts = take_apart(data, Limits.trusted())
    kept = not parts.graph and KEPT_ONNX in parts.names
    memory, work = decoding(parts, len(data)) if kept else _needs_of(parts, len(data))
    allowed = DEFAULT.allowed_memory(len(data))
    if memory <= allowed and work <= DEFAULT.work:
        return None
    what, call = ("exporting", "laconic.export_onnx(path, 'model.onnx'") if kept else ("loading", _LOAD)
    return (
        f"{what} this file takes up to {memory} bytes of memory and {work} steps of work, more than readers "
        f"allow who do not know it ({allowed} and {DEFAULT.work}). It is done with "
        f"{call}, limits=laconic.pack.Limits.trusted()), at the command line with --trusted"
    )


def bytes_of(source: str | os.PathLike[str] | bytes) -> bytes:
    """The bytes of a file: of the one at a path, or those that were handed in.

    Raises ``ReadError`` for a path that cannot be read, ``InputError`` for anything else.
    """
    if not isinstance(source, str | os.PathLike | bytes):
        raise InputError(f"load: {source!r} is no .lac file. Cure: a path, or the file's bytes")
    return source if isinstance(source, bytes) else read_input(source)


def read_model(data: bytes, limits: Limits = DEFAULT, threads: int | None = None) -> PackedModel:
    """The model that a file's bytes hold.

    Args:
        data: The file.
        limits: What it may claim, and the memory and work that loading it may take.
        threads: The most threads that decode the chunks of large tensors (None: one a processor).

    Returns:
        The decoded tensors and the graph.

    Raises:
        WeightsOnlyError: For a file without a graph.
        FileFormatError: For a wrong file.
        LimitError: For one that takes more memory or work than the limits allow.
    """
    parts = take_apart(data, limits)
    graph = decoded_graph(parts, limits)
    if graph is None:
        raise WeightsOnlyError(KEEPS_ONNX if KEPT_ONNX in parts.names else NO_GRAPH)
    limits.check_load(*_needs(parts, graph, len(data), limits), len(data))
    return PackedModel(
        tuple(d.tensor for d in decode_tensors(parts, limits, len(data), threads)), graph, parts.aliases
    )


def _needs(parts: Parts, graph: Graph, file_bytes: int, limits: Limits) -> Needs:
    forms = [
        form_of(RawTensor("", item)) if isinstance(item, np.ndarray) else Form(item.shape, "float32")
        for item, _ in parts.headers
    ]
    parts_of_graph = len(graph.inputs) + len(graph.nodes) + len(graph.outputs)
    limits.check_load(0, NODE_STEPS * parts_of_graph, file_bytes)  # before their shapes are followed
    found = claims(graph, forms, limits)
    made = of_kinds(item for item, _ in parts.headers)
    memory = found.memory + file_memory(parts, file_bytes) + made.memory
    return Needs(memory, found.work + made.work)
