"""A .lac file's tensors as a safetensors file."""

from __future__ import annotations

from laconic.checkpoints.safetensors import write_safetensors
from laconic.files import AnyPath, check_out
from laconic.pack import TensorFile
from laconic.pack import open as open_file
from laconic.records.limits import DEFAULT, Limits


def unpack_checkpoint(
    path: AnyPath,
    out: AnyPath,
    *,
    parent: AnyPath | TensorFile | None = None,
    limits: Limits = DEFAULT,
    threads: int | None = None,
) -> int:
    """Write the tensors of a .lac file as a safetensors file, each in its element type; shared ones twice.

    Args:
        path: The .lac file.
        out: The safetensors file; an existing one is replaced.
        parent: The file that an incremental one was stored against.
        limits: What the file may claim, and the memory and work that decoding one tensor may take.
        threads: Threads that decode a tensor; None: one per processor.

    Returns:
        Bytes of the safetensors file.

    Raises:
        ReadError: A file cannot be opened.
        InputError: The parent is missing, or not the one that is named; the output is one of the files.
        FileFormatError: The file is invalid or damaged; the message names tensor and chunk.
        WriteError: The file cannot be written; an existing one is unchanged.

    Example:
        >>> import tempfile, numpy as np
        >>> from laconic.checkpoints import pack_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = pack_checkpoint({"w": np.float32([1, 2])}, f"{folder}/w.lac", lossless=True)
        ...     unpack_checkpoint(f"{folder}/w.lac", f"{folder}/w.safetensors")
        72
    """
    check_out(out, path, "the file that is read")
    old = parent if isinstance(parent, TensorFile) or parent is None else open_file(parent, limits=limits)
    for each in () if old is None else old.lineage():
        check_out(out, each, "the parent")
    file = open_file(path, parent=old, limits=limits, threads=threads)
    rows = [(name, (info := file.info(name)).shape, info.dtype) for name in file]
    return write_safetensors(out, rows, file.elements, file.metadata)
