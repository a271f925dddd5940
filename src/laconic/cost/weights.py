"""How many bytes a tensor takes in memory: as float32, in few bits, and as a sparse matrix."""

from __future__ import annotations

from laconic.records import TensorFacts

_ROW_POINTER_BYTES = 4
_NARROW_COLUMNS = 2**16


def dense_bytes(tensor: TensorFacts) -> int:
    """Bytes in float32 (wider types in their own width): the uncompressed tensor.

    >>> dense_bytes(TensorFacts("w", (3, 5), 4, 2, 2, 4))
    60
    """
    return tensor.entries * max(4, tensor.bits // 8)


def few_bit_bytes(tensor: TensorFacts) -> int:
    """Bytes of all codes, packed at ``bits`` each, and of the grid's table.

    >>> few_bit_bytes(TensorFacts("w", (3, 5), 4, 2, 2, 4))  # 30 bits, and a step
    8
    """
    return -(-tensor.entries * tensor.bits // 8) + tensor.table_bytes


def sparse_bytes(tensor: TensorFacts) -> int | None:
    """Bytes in compressed sparse rows: index and code per non-zero, pointer per row; None for a vector.

    Indices take 16 bits up to 65,536 columns, else 32.

    >>> sparse_bytes(TensorFacts("w", (3, 5), 4, 32, 32))
    40
    """
    if len(tensor.shape) < 2:
        return None
    rows = tensor.shape[0]
    columns = tensor.entries // rows if rows else 0
    index_bits = 16 if columns <= _NARROW_COLUMNS else 32
    codes = -(-tensor.nonzeros * (index_bits + tensor.bits) // 8)
    return codes + _ROW_POINTER_BYTES * (rows + 1) + tensor.table_bytes


def stored_bytes(tensor: TensorFacts) -> int:
    """The smaller of the few-bit and the sparse form: bytes in memory, not in the entropy-coded file."""
    sparse = sparse_bytes(tensor)
    few = few_bit_bytes(tensor)
    return few if sparse is None else min(few, sparse)
