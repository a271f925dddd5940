"""A .lac file as a standard ONNX file."""

from __future__ import annotations

import os

from laconic.runtime.onnx_build import to_onnx


def export_onnx(lac_path: str | os.PathLike[str], onnx_path: str | os.PathLike[str]) -> None:
    """Write the network of a .lac file as standard float32 ONNX (opset 20) that any runtime reads.

    The file is written beside its target and then renamed, so an old file stands until the new one is whole.

    Raises ``WeightsOnlyError`` for a file without a graph, ``InputError`` above 2 GiB of weights,
    ``WriteError`` when the disk refuses.
    """
    from laconic import pack

    pack.write_bytes(onnx_path, to_onnx(pack.read(lac_path)).SerializeToString())
