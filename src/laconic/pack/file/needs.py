"""Upper bounds on the memory and work of decoding a file's tensors, computed before any is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from laconic.pack.codecs.layouts import matrix_shape
from laconic.pack.codecs.settings import Mix
from laconic.pack.file.elements import Chunked, chunked
from laconic.pack.threads import workers
from laconic.pack.wire.header_list import all_items
from laconic.pack.wire.headers import Header, Item, KindHeader
from laconic.records.grids import UniformGrid

if TYPE_CHECKING:
    from laconic.pack.file.container import Parts

DECODED_BYTES = 4  # of an entry: its integer
VALUE_BYTES = 4  # of an entry: its value in float32
SCRATCH_BYTES = 16  # of an entry of the largest tensor, while it is decoded
PIECE_BYTES = 24  # of an entry of a chunk, while it is decoded, and its value computed and rounded
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


class Reading(NamedTuple):
    """Upper bounds to read one tensor (see ``Needs``), and the threads that they allow for."""

    memory: int
    work: int
    threads: int | None


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
    items = [item for item, _ in parts.headers]
    memory = file_memory(parts, file_bytes) + sum(map(_held, items)) + max(map(_scratch, items), default=0)
    every = list(all_items(items))
    memory += TENSOR_BYTES * len(every)
    return Needs(memory, ENTRY_STEPS * sum(item.size for item in every) + of_kinds(items).work)


def listing(parts: Parts, file_bytes: int, room: int) -> Reading:
    """Memory and work to decode all tensors one after the other, and the threads that there is room for.

    >>> import numpy as np
    >>> from laconic.pack.file.container import encode, take_apart
    >>> from laconic.records.limits import Limits
    >>> from laconic.records import PackedModel, RawTensor
    >>> two = tuple(RawTensor(name, np.ones(1000, np.float32)) for name in "vw")
    >>> listing(take_apart(encode(PackedModel(two)), Limits()), 0, 2**20)
    Reading(memory=16016, work=30000, threads=None)
    """
    items = [item for item, _ in parts.headers]
    held = file_memory(parts, file_bytes) + TENSOR_BYTES * len(items) + kept_bytes(items)
    found = [reading(item, room - held, None, elements=False) for item in items]
    counted = [VALUE_BYTES * item.size * (not _is_uniform(item)) for item in items]
    memory = max((one.memory + more for one, more in zip(found, counted, strict=True)), default=0)
    most = min((one.threads for one in found if one.threads is not None), default=None)
    return Reading(held + memory, sum(one.work for one in found), most)


def kept_bytes(items: Iterable[Item]) -> int:
    """Bytes that stay in memory when tensors were read one after the other, while their file is open."""
    every = all_items(items)
    return sum(item.kind.kept_bytes(item.fields) for item in every if isinstance(item, KindHeader))


def _is_uniform(item: Item) -> bool:
    """Whether the zeros of a tensor are counted without its values."""
    return all(isinstance(one.grid, UniformGrid) for one in all_items([item]) if isinstance(one, Header))


def _held(item: Item) -> int:
    """Bytes of a tensor in memory, its values included."""
    found = chunked(item)
    if found is not None:
        return (DECODED_BYTES + found.kind.bytes) * found.header.size
    made = of_kinds([item]).memory - of_mixing(all_items([item])).memory
    return (DECODED_BYTES + VALUE_BYTES) * sum(one.size for one in all_items([item])) + made


def _scratch(item: Item) -> int:
    """Bytes that decoding a tensor takes beside the result; chunks are in work in any number of threads."""
    most = max((one.size for one in all_items([item])), default=0)
    return SCRATCH_BYTES * most + of_mixing(all_items([item])).memory


def of_kinds(items: Iterable[Item]) -> Needs:
    """Additional memory and work of what takes more than an entry's share.

    These are chunks, tensors under the mixing model, and tensors that are neither integers nor raw elements.
    Parts count, and values as often as loading computes them; each chunk has a constant overhead.
    """
    every = list(all_items(items))
    made = [item for item in every if isinstance(item, KindHeader)]
    memory = sum((DECODED_BYTES + VALUE_BYTES) * part.size for item in made for part in item.parts)
    memory += sum(max(0, item.item_bytes - VALUE_BYTES) * item.size for item in made)
    memory += sum(item.kind.extra_bytes(item.fields) for item in made)
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


def reading(item: Item, room: int, threads: int | None, *, elements: bool) -> Reading:
    """What one tensor takes that is read without the others.

    Of one in chunks these are the result, and the chunks in work: as many at once as there are threads and
    room for.

    Args:
        item: Its header.
        room: Bytes of memory that it should not take more than.
        threads: The most threads; None: one per processor.
        elements: Whether its elements are asked for, not the integers.

    Returns:
        Memory, work, and threads.

    >>> import numpy as np
    >>> reading(np.ones(10, np.float32), 2**20, 1, elements=True)
    Reading(memory=80, work=150, threads=1)
    """
    found = chunked(item)
    if found is None:
        return _reading_whole(item, threads)
    size = found.header.size
    held = found.kind.bytes * size if elements else 0
    if found.added or not elements:
        held += DECODED_BYTES * size
    one = _chunk_memory(found)
    most = workers(len(found.chunks.lengths), threads)
    used = max(1, min(most, (room - held) // max(1, one)))
    steps = ENTRY_STEPS * (2 if found.added else 1) + MIXED_STEPS * isinstance(found.header.model, Mix)
    return Reading(held + used * one, steps * size + CHUNK_STEPS * len(found.chunks.lengths), used)


def _reading_whole(item: Item, threads: int | None) -> Reading:
    """A tensor that is decoded whole: integers and values of all of its parts are counted."""
    entries = sum(one.size for one in all_items([item]))
    more = of_kinds([item])
    most = max((one.size for one in all_items([item]) if isinstance(one, Header)), default=0)
    memory = (DECODED_BYTES + VALUE_BYTES) * entries + SCRATCH_BYTES * most + more.memory
    return Reading(memory, ENTRY_STEPS * entries + more.work, threads)


def _chunk_memory(found: Chunked) -> int:
    """Bytes of a chunk in work."""
    memory = PIECE_BYTES * found.chunk_entries
    if isinstance(found.header.model, Mix):
        lines = sum(matrix_shape(found.chunks.shape(0, found.header.shape)))
        memory += MIXED_BYTES * found.chunk_entries + MIXED_LINE_BYTES * lines + MIXED_TABLES
    return memory
