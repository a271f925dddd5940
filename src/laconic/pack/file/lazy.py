"""A file's tensors one at a time: the others are not decoded, and on disk not even read."""

from __future__ import annotations

import builtins
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from laconic.errors import ChecksumError, FileFormatError, InputError, LimitError, NotALaconicFileError, at
from laconic.files import AnyPath, check_is_file, unreadable
from laconic.pack.codecs.compiled import coder
from laconic.pack.codecs.symbols import StreamReader, StreamWriter
from laconic.pack.file.container import CRC_BYTES, Head, check_length, crc_of, decode, read_frame, read_head
from laconic.pack.file.elements import add_chunks, chunked, decode_elements, rounded_in_pieces
from laconic.pack.file.needs import kept_bytes, reading
from laconic.pack.file.tensors import TensorReader
from laconic.pack.threads import check_threads
from laconic.pack.wire.header_list import all_items, check_density, read_headers
from laconic.pack.wire.headers import Header, Item, KindHeader
from laconic.pack.wire.notes import Parent
from laconic.records import AnyArray, Tensor
from laconic.records.children import ChildTensor, SameTensor, check_parent, shiftable, shifted
from laconic.records.element_types import ByteArray, numpy_type
from laconic.records.limits import DEFAULT, Limits
from laconic.records.typed import elements_of
from laconic.varint import Reader

_PIECE = 1 << 24
_STEPS_PER_BYTE = 64  # of work that each byte of a tensor may take besides the limit
_UNBOUNDED = 2**62


class TensorInfo(NamedTuple):
    """What is known of a tensor before it is decoded: dimensions, type of the elements, bytes in the file.

    Attributes:
        shape: Its dimensions.
        dtype: The name of the element type.
        bytes: Of its header and chunks, without what is in the file's common stream.
    """

    shape: tuple[int, ...]
    dtype: str
    bytes: int


class TensorFile(Mapping[str, AnyArray]):
    """The tensors of a .lac file by name, each decoded when it is asked for (:func:`open` makes one).

    Args:
        data: The bytes of the file.
        path: Its name, for messages.
        parent: The file that an incremental one was stored against.
        limits: What the file may claim, and the memory and work that decoding one tensor may take.
        threads: Threads that decode chunks of a tensor; None: one per processor.

    Raises:
        FileFormatError: The file is invalid before its symbols.

    >>> from laconic.pack import encode
    >>> from laconic.records import PackedModel, RawTensor
    >>> data = encode(PackedModel((RawTensor("w", np.ones(2, np.float32)),)))
    >>> TensorFile(memoryview(data), "x.lac", None, DEFAULT, None)["w"].tolist()
    [1.0, 1.0]
    """

    def __init__(
        self,
        data: memoryview,
        path: str,
        parent: TensorFile | None,
        limits: Limits,
        threads: int | None,
    ) -> None:
        self.path, self._data, self._parent = path, data, parent
        check_threads(threads)
        self._limits, self._threads = limits, threads
        self._head, self._items = _headers(data, limits)
        self._whole: dict[str, Tensor] | None = None
        self._kept = kept_bytes(item for item, _ in self._items.values())

    @property
    def parent(self) -> Parent | None:
        """The file that this one is stored as a difference from: digest and name; None of a whole file."""
        return None if self._head.notes is None else self._head.notes.parent

    @property
    def metadata(self) -> dict[str, str]:
        """The texts that a checkpoint carries beside its tensors."""
        return {} if self._head.notes is None else dict(self._head.notes.metadata)

    @property
    def aliases(self) -> dict[str, str]:
        """Further names, each with the tensor that it also names."""
        return dict(self._head.aliases)

    def lineage(self) -> tuple[str, ...]:
        """Paths of this file, of its opened parent, of that one's, and so on."""
        return (self.path, *(() if self._parent is None else self._parent.lineage()))

    def digest(self) -> bytes:
        """SHA-256 of the file."""
        total = sha256()
        for start in range(0, len(self._data), _PIECE):
            total.update(self._data[start : start + _PIECE])
        return total.digest()

    def __repr__(self) -> str:
        return f"TensorFile({self.path!r}, {len(self)} tensors)"

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._whole = None

    def __len__(self) -> int:
        return len(self._items) + len(self._head.aliases)

    def __iter__(self) -> Iterator[str]:
        yield from self._items
        yield from self._head.aliases

    def __contains__(self, name: object) -> bool:
        return name in self._items or name in self._head.aliases

    def __getitem__(self, name: str) -> AnyArray:
        """A tensor's values. Raises ``KeyError`` for a name that is not there, else as :meth:`tensor`."""
        if name not in self:
            raise KeyError(name)
        item, _ = self._find(name)
        if chunked(item) is None:
            return self.tensor(name).values()
        kind = numpy_type(_type_of(item))
        return self.elements(name).view(kind).reshape(item.shape)

    def elements(self, name: str) -> ByteArray:
        """The little-endian bytes of a tensor's elements in C order; no package is needed for bfloat16.

        Raises as :meth:`tensor`. Of a tensor in chunks the integers are never in memory at once.
        """
        item, size = self._find(name)
        found = chunked(item)
        if found is None:
            return elements_of(self.tensor(name))
        if found.added:
            return rounded_in_pieces(self._sum(name, item, size, elements=True), found.kind)
        with at(f"reading {self.path!r}"):
            threads = self._check(item, size, elements=True)
            with at(f"tensor {name!r}"):
                return decode_elements(found, threads)

    def info(self, name: str) -> TensorInfo:
        """Shape, type and bytes of a tensor, not decoded. Raises ``InputError`` for an unknown name."""
        item, size = self._find(name)
        return TensorInfo(item.shape, _type_of(item), size)

    def beyond_limits(self) -> dict[str, str]:
        """The tensors that this reader refuses for the memory or work that they take: names, and why."""
        found = {}
        for name, (item, size) in self._items.items():
            own = chunked(item)
            if own is not None and own.added and isinstance(item, KindHeader):
                size += self._needed_parent(name).info(str(item.fields[0] or name)).bytes
            try:
                self._check(item, size, elements=True)
            except LimitError as error:
                found[name] = str(error)
        return found

    def tensor(self, name: str) -> Tensor:
        """One tensor as it is stored; of an incremental file as it results from the parent's.

        Raises:
            InputError: The file has no such tensor, or the parent is needed and was not given.
            FileFormatError: It is invalid; the message names the tensor, and the chunk of one in chunks.
            LimitError: It needs more than the limits allow.
        """
        item, size = self._find(name)
        own = chunked(item)
        if own is not None and own.added:
            return self._sum(name, item, size)
        with at(f"reading {self.path!r}"):
            found = self._read(name, item, size) if _alone(item) else self._from_whole(name)
        return found if not isinstance(found, ChildTensor) else self._resolved(found)

    def _read(self, name: str, item: Item, size: int) -> Tensor:
        """A tensor whose symbols are its own."""
        threads = self._check(item, size)
        with at(f"tensor {name!r}"):
            return TensorReader(_no_stream(), threads).take(name, item)

    def _sum(self, name: str, item: Item, size: int, *, elements: bool = False) -> Tensor:
        """A tensor of the parent, to whose integers those of chunks are added in place."""
        found = chunked(item)
        if found is None or not isinstance(item, KindHeader):
            raise InputError(f"tensor {name!r} is not in chunks")
        source = str(item.fields[0] or self._head.aliases.get(name, name))
        parent = self._needed_parent(name)
        with at(f"tensor {name!r} from the parent {parent.path!r}"):
            old, fresh = parent.tensor(source), parent._is_fresh(source)
            check_parent(name, item.shape, _type_of(item), source, old)
            integers = shiftable(source, old)
        with at(f"reading {self.path!r}"):
            threads = self._check(item, size + parent.info(source).bytes, elements=elements)
            with at(f"tensor {name!r}"):
                integers = integers if fresh else integers.copy()
                add_chunks(found, integers, threads)
                return shifted(name, old, integers).renamed(name)

    def _is_fresh(self, name: str) -> bool:
        """Whether an array is made for each call of ``tensor``, so that its caller may change it."""
        return chunked(self._find(name)[0]) is not None

    def _find(self, name: str) -> tuple[Item, int]:
        name = self._head.aliases.get(name, name)
        if name not in self._items:
            known = ", ".join(list(self._items)[:20])
            raise InputError(f"{self.path} has no tensor {name!r}. Cure: one of {known}")
        return self._items[name]

    def _check(self, item: Item, size: int, *, elements: bool = False) -> int | None:
        """Refuse a tensor that takes more than the limits allow; the threads that these leave room for."""
        if isinstance(item, KindHeader) and item.kind.record is SameTensor:
            return self._threads  # the parent checks its tensor
        item = item.alone if isinstance(item, KindHeader) else item
        limits = self._limits
        bytes_each = item.item_bytes if isinstance(item, KindHeader) else 4
        # An empty tensor may not claim (0, 10^12).
        extent = math.prod(max(1, length) for length in item.shape)
        limits.check("elements in one tensor", extent, limits.elements)
        limits.check("decoded bytes in one tensor", bytes_each * item.size, limits.decoded_bytes)
        check_density([item], 0, limits)
        file_bytes = len(self._data) + (0 if self._parent is None else len(self._parent._data))
        found = reading(item, limits.allowed_memory(file_bytes), self._threads, elements=elements)
        limits.check_load(found.memory + self._kept, found.work - _STEPS_PER_BYTE * size, file_bytes)
        return found.threads

    def _from_whole(self, name: str) -> Tensor:
        """A tensor whose integers are in the common stream, so that all of that stream is decoded once."""
        if self._whole is None:
            model = decode(bytes(self._data), limits=self._limits, threads=self._threads)
            self._whole = {tensor.name: tensor for tensor in model.tensors}
        return self._whole[self._head.aliases.get(name, name)].renamed(name)

    def _resolved(self, child: ChildTensor) -> Tensor:
        parent = self._needed_parent(child.name)
        with at(f"tensor {child.name!r} from the parent {parent.path!r}"):
            return child.resolve(parent.tensor(child.source))

    def _needed_parent(self, name: str) -> TensorFile:
        if self._parent is None:
            named = f" ({self.parent.name})" if self.parent is not None else ""
            raise InputError(
                f"tensor {name!r} of {self.path} is stored as what differs from its parent{named}. "
                "Cure: laconic.pack.open(path, parent=...), or laconic unpack --parent"
            )
        return self._parent


def open(
    path: AnyPath,
    *,
    parent: AnyPath | TensorFile | None = None,
    check: bool = True,
    limits: Limits = DEFAULT,
    threads: int | None = None,
) -> TensorFile:
    """The tensors of a .lac file as a mapping from names to arrays; each is decoded when it is asked for.

    The file is mapped into memory: of a tensor that is not asked for only the header is read. An array of
    bfloat16 becomes a torch tensor by ``torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)``.

    Args:
        path: The file.
        parent: The file that an incremental one was stored against, or that file opened.
        check: Whether to read the file once for its checksum (about half a second a GB). Without it damage
            is still found in a tensor's chunks when that tensor is read, but not in its header.
        limits: What the file may claim, and the memory and work that decoding one tensor may take.
        threads: Threads that decode chunks of a tensor; None: as many as there are processors.

    Returns:
        The mapping; ``tensor(name)`` gives the integers and grids, ``info(name)`` shape and type.

    Raises:
        ReadError: The file cannot be opened.
        InputError: The parent is not the file that is named.
        FileFormatError: The file is invalid, damaged or not whole; the message names the tensor, and the
            chunk of one in chunks.

    Example:
        >>> import tempfile
        >>> from laconic.pack import write
        >>> from laconic.records import IntTensor, PackedModel, UniformGrid
        >>> tensor = IntTensor("fc.weight", np.array([[0, 1, -3]], np.int32), UniformGrid(0.5))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = write(f"{folder}/w.lac", PackedModel((tensor,)))
        ...     weights = open(f"{folder}/w.lac")
        ...     print(list(weights), weights["fc.weight"].tolist())
        ['fc.weight'] [[0.0, 0.5, -1.5]]
    """
    name = os.fspath(path)
    data = _mapped(path)
    own = parent if isinstance(parent, TensorFile) or parent is None else open(parent, limits=limits)
    with at(f"reading {name!r}"):
        source, length = read_frame(data)
        if length > source.left:
            _name_missing(data, limits)
        check_length(source, length)
        damaged = check and crc_of(data[:-CRC_BYTES]) != int.from_bytes(data[-CRC_BYTES:], "little")
        if damaged:
            _name_damaged(data, name, limits, threads)
        found = TensorFile(data, str(name), own, limits, threads)
    if own is not None:
        _check_parent(found, own)
    return found


def _mapped(path: AnyPath) -> memoryview:
    try:
        with builtins.open(path, "rb") as stream:
            check_is_file(stream)
            if os.fstat(stream.fileno()).st_size == 0:
                raise NotALaconicFileError(f"{os.fspath(path)} is empty. Cure: a .lac file")
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise unreadable(path, error) from error


def _headers(data: memoryview, limits: Limits) -> tuple[Head, dict[str, tuple[Item, int]]]:
    """All before the symbols. Tensors are decoded one at a time, so their sum is not limited."""
    source, length = read_frame(data)
    body = Reader(data[source.at : source.at + max(0, length - CRC_BYTES)], "the file")
    each = replace(
        limits,
        elements=_UNBOUNDED,
        decoded_bytes=_UNBOUNDED,
        constants=_UNBOUNDED,
        lines=_UNBOUNDED,
    )
    head = read_head(body, limits)
    headers = read_headers(body, head.names, each)
    return head, dict(zip(head.names, headers, strict=True))


def _name_missing(data: memoryview, limits: Limits) -> None:
    """Raise the error of the first tensor, or chunk, that leaves a file which is not whole."""
    with at("the file is not whole"):
        _headers(data, limits)


def _name_damaged(data: memoryview, path: str, limits: Limits, threads: int | None) -> None:
    """Raise an error that names the first damaged chunk, or the file where none is."""
    file = TensorFile(data, path, None, limits, threads)
    for name, (item, _) in file._items.items():
        if _alone(item):
            try:
                own = file._check(item, 0)
                TensorReader(_no_stream(), own).take(name, item)
            except LimitError:
                continue
            except FileFormatError as error:
                raise type(error)(f"the file is damaged: tensor {name!r}: {error}") from error
    raise ChecksumError("the file's checksum is not that of its content: it is damaged")


def _check_parent(file: TensorFile, parent: TensorFile) -> None:
    named = file.parent
    if named is None:
        raise InputError(f"{file.path} is whole and needs no parent. Cure: leave the parent out")
    digest = parent.digest()
    if digest != named.digest:
        raise InputError(
            f"{parent.path} is not the parent of {file.path}: its SHA-256 is {digest.hex()}, the parent, "
            f"which was called {named.name!r}, has {named.digest.hex()}. Cure: that file"
        )


def _alone(item: Item) -> bool:
    """Whether a tensor is decoded without the common stream."""
    return all(one.chunks is not None for one in all_items([item]) if isinstance(one, Header))


def _no_stream() -> StreamReader:  # for tensors that read none
    return StreamReader(StreamWriter(coder()).finish(0), None, coder())


def _type_of(item: Item) -> str:
    if isinstance(item, np.ndarray):
        return item.dtype.name
    if isinstance(item, Header):
        return "float32"
    return item.kind.type_name(item.fields)
