"""A .lac file as a standard ONNX file."""

from __future__ import annotations

import os
from pathlib import Path

from laconic.errors import at
from laconic.pack.wire.limits import DEFAULT, Limits
from laconic.runtime.int8.precision import Precision
from laconic.runtime.loading.reading import read_model
from laconic.runtime.onnx_model.model import to_onnx


def export_onnx(
    lac_path: str | os.PathLike[str],
    onnx_path: str | os.PathLike[str],
    *,
    precision: Precision = "fp32",
    limits: Limits = DEFAULT,
) -> None:
    """Write the network of a .lac file as standard ONNX (opset 20) that any runtime reads.

    ``precision`` "int8" writes a calibrated network with QuantizeLinear and DequantizeLinear nodes.
    ``limits`` bounds what the file may claim, and the memory and work that this may take, as for ``load``.

    The file is written beside its target and then renamed, so an old file stands until the new one is whole.

    Raises ``WeightsOnlyError`` for a file without a graph, ``InputError`` for int8 without calibration or
    above 2 GiB of weights, ``FileFormatError`` for a wrong file, ``LimitError`` beyond the limits,
    ``WriteError`` when the disk refuses.
    """
    from laconic import pack

    with at(f"reading {os.fspath(lac_path)!r}"):
        model = read_model(Path(lac_path).read_bytes(), limits)
    pack.write_bytes(onnx_path, to_onnx(model, precision, limits=limits).SerializeToString())
