"""A .lac file as a standard ONNX file."""

from __future__ import annotations

import os
from pathlib import Path

from laconic.errors import WriteError
from laconic.runtime.onnx_build import to_onnx


def export_onnx(lac_path: str | os.PathLike[str], onnx_path: str | os.PathLike[str]) -> None:
    """Write the network of a .lac file as standard float32 ONNX (opset 20) that any runtime reads.

    The file is written beside its target and then renamed, so an old file stands until the new one is whole.

    Raises ``WeightsOnlyError`` for a file without a graph, ``InputError`` above 2 GiB of weights,
    ``WriteError`` when the disk refuses.
    """
    from laconic import pack

    data = to_onnx(pack.read(Path(lac_path))).SerializeToString()
    target = Path(onnx_path)
    sibling = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        sibling.write_bytes(data)
        os.replace(sibling, target)
    except OSError as error:
        raise WriteError(f"cannot write {target}: {error}") from error
    finally:
        sibling.unlink(missing_ok=True)
