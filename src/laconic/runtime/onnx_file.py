"""A .lac file as a standard ONNX file."""

from __future__ import annotations

import os

from laconic.runtime.onnx_build import to_onnx
from laconic.runtime.precision import Precision


def export_onnx(
    lac_path: str | os.PathLike[str], onnx_path: str | os.PathLike[str], *, precision: Precision = "fp32"
) -> None:
    """Write the network of a .lac file as standard ONNX (opset 20) that any runtime reads.

    ``precision`` "int8" writes a calibrated network with QuantizeLinear and DequantizeLinear nodes.

    The file is written beside its target and then renamed, so an old file stands until the new one is whole.

    Raises ``WeightsOnlyError`` for a file without a graph, ``InputError`` for int8 without calibration or
    above 2 GiB of weights, ``WriteError`` when the disk refuses.
    """
    from laconic import pack

    pack.write_bytes(onnx_path, to_onnx(pack.read(lac_path), precision).SerializeToString())
