"""A .lac file as a standard ONNX file."""

from __future__ import annotations

import os
from pathlib import Path

from laconic.errors import InputError, WeightsOnlyError, at
from laconic.records.limits import DEFAULT, Limits
from laconic.runtime.onnx_model.kept import kept_in, restored
from laconic.runtime.onnx_model.model import to_onnx
from laconic.runtime.precision import Precision
from laconic.runtime.reading import NO_GRAPH, read_model


def export_onnx(
    lac_path: str | os.PathLike[str],
    onnx_path: str | os.PathLike[str],
    *,
    precision: Precision = "fp32",
    limits: Limits = DEFAULT,
) -> None:
    """Write the network of a .lac file as standard ONNX (opset 20) that any runtime reads.

    A file that keeps an ONNX model (``laconic.pack_onnx``) gives that model back, with its decoded weights.

    The file is written beside its target and then renamed, so an old file stays until then.

    Args:
        lac_path: The file to read.
        onnx_path: The file to write.
        precision: "fp32", or "int8" for a calibrated network with QuantizeLinear and DequantizeLinear nodes;
            "auto" is "int8" where the file has activation ranges.
        limits: What the file may claim, and the memory and work that this may take, as for ``load``.

    Raises:
        WeightsOnlyError: For a file without a graph.
        InputError: For int8 without calibration, or above 2 GiB of weights.
        FileFormatError: For a wrong file.
        LimitError: Beyond the limits.
        ReadError: Where there is no file.
        WriteError: When the file cannot be written.

    >>> import tempfile
    >>> from laconic import pack
    >>> from laconic.records import Graph, Node, PackedModel, ValueSpec
    >>> graph = Graph((ValueSpec("float32", (None, 4)),), (Node("relu", (0,)),), (1,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     size = pack.write(f"{folder}/m.lac", PackedModel((), graph))
    ...     export_onnx(f"{folder}/m.lac", f"{folder}/m.onnx")
    ...     os.path.exists(f"{folder}/m.onnx")
    True
    """
    from laconic import pack

    with at(f"reading {os.fspath(lac_path)!r}"):
        data = Path(lac_path).read_bytes()
        try:
            model = read_model(data, limits)
        except WeightsOnlyError:
            pack.write_bytes(onnx_path, _kept(data, precision, limits))
            return
    pack.write_bytes(onnx_path, to_onnx(model, precision, limits=limits).SerializeToString())


def _kept(data: bytes, precision: Precision, limits: Limits) -> bytes:
    """The ONNX model that a file without a graph of our own keeps."""
    from laconic import pack

    model = pack.decode(data, limits=limits)
    if kept_in(model) is None:
        raise WeightsOnlyError(NO_GRAPH)
    if precision == "int8":
        raise InputError("this file keeps an ONNX model, which has no int8 ranges. Cure: precision='fp32'")
    return restored(model, limits)
