"""Some rows of one tensor, without decoding the rest of the file."""

from __future__ import annotations

import numpy as np

from laconic.errors import CorruptFileError, InputError, at
from laconic.pack.file.chunks import decode_chunks
from laconic.pack.file.container import Parts, decode, take_apart
from laconic.pack.file.needs import DECODED_BYTES, ENTRY_STEPS, SCRATCH_BYTES, VALUE_BYTES, file_memory
from laconic.pack.wire.headers import Header
from laconic.records import IntTensor, Tensor
from laconic.records.limits import DEFAULT, Limits


def decode_rows(
    data: bytes,
    name: str,
    first: int,
    last: int,
    *,
    limits: Limits = DEFAULT,
    threads: int | None = None,
) -> Tensor:
    """Some indices of one tensor's first dimension, as ``decode`` and ``Tensor.take`` give them.

    Of a tensor in chunks (FORMAT.md, "Chunks") only the chunks that hold these rows are decoded. For another
    tensor the whole file is decoded.

    Args:
        data: The bytes of a .lac file.
        name: The tensor's name, or an alias.
        first: The first row, from 0.
        last: The index after the last row, at most the first dimension.
        limits: What the file may claim, and the memory and work that decoding the rows may take.
        threads: Threads that decode chunks; None: as many as there are processors.

    Returns:
        A tensor of shape (last - first, ...) with the file's name of it.

    Raises:
        InputError: The file has no such tensor, or the tensor no such rows.
        FileFormatError: The file is invalid; see ``decode``.
        LimitError: The rows need more than the limits allow.

    Example:
        >>> from laconic.pack import encode
        >>> from laconic.records import PackedModel, UniformGrid
        >>> tensor = IntTensor("w", np.array([[0, 1], [2, 0], [-3, 0]], np.int32), UniformGrid(0.5))
        >>> decode_rows(encode(PackedModel((tensor,))), "w", 1, 3).values().tolist()
        [[1.0, 0.0], [-1.5, 0.0]]
    """
    parts = take_apart(data, limits)
    name = parts.aliases.get(name, name)
    if name not in parts.names:
        raise InputError(f"the file has no tensor {name!r}. Cure: one of {', '.join(parts.names[:20])}")
    item = parts.headers[parts.names.index(name)][0]
    whole_numbers = all(isinstance(n, int | np.integer) for n in (first, last))
    if not item.shape or not whole_numbers or not 0 <= first < last <= item.shape[0]:
        cure = f"whole numbers 0 <= first < last <= {item.shape[0]}" if item.shape else "decode"
        raise InputError(
            f"tensor {name!r} of shape {item.shape} has no rows {first!r}..{last!r}. Cure: {cure}"
        )
    if isinstance(item, Header) and item.chunks is not None:
        return _from_chunks(parts, item, name, range(first, last), limits, len(data), threads)
    whole = {t.name: t for t in decode(data, limits=limits, threads=threads).tensors}[name]
    return whole.take(0, np.arange(first, last))


def _from_chunks(
    parts: Parts,
    header: Header,
    name: str,
    rows: range,
    limits: Limits,
    file_bytes: int,
    threads: int | None,
) -> IntTensor:
    chunks = header.chunks
    if chunks is None:
        raise InputError(f"tensor {name!r} is not in chunks")
    numbers = range(rows.start // chunks.rows, -(-rows.stop // chunks.rows))
    entries = len(numbers) * chunks.rows * (header.size // header.shape[0])
    each = DECODED_BYTES + VALUE_BYTES + SCRATCH_BYTES
    limits.check_load(each * entries + file_memory(parts, file_bytes), ENTRY_STEPS * entries, file_bytes)
    with at(f"tensor {name!r}"):
        integers = decode_chunks(header, chunks, numbers, threads).integers
        start = numbers.start * chunks.rows
        own = np.ascontiguousarray(integers[rows.start - start : rows.stop - start])
        grid = header.grid.take(0, np.arange(rows.start, rows.stop))
        why = grid.problem(own, int(own.min(initial=0)), int(own.max(initial=0)))
        if why is not None:
            raise CorruptFileError(why)
    return IntTensor(name, own, grid)
