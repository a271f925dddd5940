"""Upper bounds on the memory and work of decoding a file's tensors, computed before any is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from laconic.pack.codecs.layouts import matrix_shape
from laconic.pack.codecs.settings import Mix
from laconic.pack.wire.header_list import all_items
from laconic.pack.wire.headers import Header, Item, KindHeader

if TYPE_CHECKING:
    from laconic.pack.file.container import Parts

DECODED_BYTES = 4  # of an entry: its integer
VALUE_BYTES = 4  # of an entry: its value in float32
SCRATCH_BYTES = 16  # of an entry of the largest tensor, while it is decoded
MIXED_BYTES = 64  # more of an entry under the mixing model (counts, probabilities), while it is decoded
MIXED_LINE_BYTES = 256  # of a row or column under the mixing model
MIXED_TABLES = 1 << 20  # bytes of the tables of that model
TENSOR_BYTES = 4_000  # records, header and initialiser of one tensor
ENTRY_STEPS = 15  # of an entry that is decoded, copied or packed
MIXED_STEPS = 30  # more of an entry under the mixing model
CHUNK_STEPS = 200_000  # of a chunk, however small: a coder and a thread's task are made
FILE_COPIES = 6  # of the file's bytes, while it is parsed and decoded
VALUE_READS = 3  # times that loading computes the values of a tensor of another kind
LETTER_BYTES = 8  # of a name: text in up to four bytes a letter, and its encoded form


class Needs(NamedTuple):
    """Upper bounds: bytes of memory and steps of work (see ``Limits``)."""

    memory: int
    work: int


def file_memory(parts: Parts, file_bytes: int) -> int:
    """Bytes held for a file of this length besides its tensors: copies of the file, and names."""
    return FILE_COPIES * file_bytes + LETTER_BYTES * sum(map(len, (*parts.names, *parts.aliases)))


def decoding(parts: Parts, file_bytes: int) -> Needs:
    """Memory and work to decode all tensors and hold their integers and values at once.

    >>> import numpy as np
    >>> from laconic.pack.file.container import encode, take_apart
    >>> from laconic.records.limits import Limits
    >>> from laconic.records import PackedModel, RawTensor
    >>> data = encode(PackedModel((RawTensor("w", np.ones(1000, np.float32)),)))
    >>> decoding(take_apart(data, Limits()), 0)
    Needs(memory=28008, work=15000)
    """
    items = list(all_items(item for item, _ in parts.headers))
    sizes = [item.size for item in items]
    memory = (DECODED_BYTES + VALUE_BYTES) * sum(sizes) + SCRATCH_BYTES * max(sizes, default=0)
    memory += TENSOR_BYTES * len(sizes) + file_memory(parts, file_bytes) + of_mixing(items).memory
    return Needs(memory, ENTRY_STEPS * sum(sizes) + of_kinds(item for item, _ in parts.headers).work)


def of_kinds(items: Iterable[Item]) -> Needs:
    """Additional memory and work of what takes more than an entry's share.

    These are chunks, tensors under the mixing model, and tensors that are neither integers nor raw elements.
    Parts count, and values as often as loading computes them; each chunk has a constant overhead.
    """
    every = list(all_items(items))
    made = [item for item in every if isinstance(item, KindHeader)]
    memory = sum((DECODED_BYTES + VALUE_BYTES) * part.size for item in made for part in item.parts)
    memory += sum(max(0, item.item_bytes - VALUE_BYTES) * item.size for item in made)
    chunks = [item.chunks for item in every if isinstance(item, Header) and item.chunks is not None]
    work = CHUNK_STEPS * sum(len(own.lengths) for own in chunks)
    mixed = of_mixing(every)
    memory, work = memory + mixed.memory, work + mixed.work
    return Needs(memory, VALUE_READS * sum(item.steps for item in made) + work)


def of_mixing(items: Iterable[Item]) -> Needs:
    """Additional memory and work of tensors under the mixing model; memory of one at a time."""
    mixed = [item for item in items if isinstance(item, Header) and isinstance(item.model, Mix)]
    memory = [MIXED_BYTES * m.size + MIXED_LINE_BYTES * sum(matrix_shape(m.shape)) for m in mixed]
    work = MIXED_STEPS * sum(m.size for m in mixed)
    return Needs(max(memory) + MIXED_TABLES if memory else 0, work)
