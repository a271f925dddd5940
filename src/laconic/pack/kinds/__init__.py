"""Kinds of stored tensors beside integers and raw elements: one file each (FORMAT.md, "Other kinds").

A module of this folder is found by its ``KIND``. A user's package registers its kinds in its pyproject.toml,
under the name that is then written in files::

    [project.entry-points."laconic.kinds"]
    lattice = "my_package.lattice:KIND"

These modules are imported when the first tensor of such a kind is read or written.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

from laconic.errors import CorruptFileError, InputError, UnsupportedVersionError
from laconic.records import IntTensor, RawTensor, Tensor
from laconic.varint import Reader, Writer

GROUP = "laconic.kinds"
NAMED = 63
"""The code of a kind of a user's own: its name follows."""
MAX_NAME = 255

Part = IntTensor | RawTensor
Shape = tuple[int, ...]


class Kind(ABC):
    """How a file holds one kind of stored tensor: fields, then parts, which are integer or raw tensors.

    A user's kind leaves ``code`` at :data:`NAMED`; its name is the one that it is registered under.
    The package that writes a file and the one that reads it must both have the kind.
    """

    code: ClassVar[int] = NAMED
    name: str
    record: ClassVar[type[Tensor]]
    part_names: ClassVar[tuple[str, ...]]
    without_graph: ClassVar[bool] = False
    """Whether a file with a graph may hold none: the elements are not float32."""

    @abstractmethod
    def put(self, out: Writer, tensor: Any) -> None:
        """Write the fields of a tensor; its shape is written already."""

    @abstractmethod
    def get(self, source: Reader, shape: Shape) -> tuple[object, ...]:
        """Read the fields of a tensor of this shape. Raises ``CorruptFileError`` for values out of range."""

    @abstractmethod
    def parts(self, tensor: Any) -> tuple[Part, ...]:
        """The tensors that it is computed from, in the order of ``part_names``."""

    @abstractmethod
    def steps(self, shape: Shape, fields: tuple[Any, ...], parts: tuple[Shape, ...]) -> int:
        """Upper bound on the steps (about a nanosecond each) of its values, known before decoding."""

    def for_file(self) -> Kind:
        """The kind as the reader or the writer of one file uses it: a kind whose tensors refer to earlier
        tensors of the file returns an object that remembers them. Default: the kind itself.
        """
        return self

    def alone(self, fields: tuple[Any, ...]) -> tuple[Any, ...]:
        """The fields as they count where this tensor is read without the others of its file: what several
        share counts for each. Default: the fields.
        """
        return fields

    def item_bytes(self, fields: tuple[Any, ...]) -> int:
        """Bytes of a decoded entry."""
        return 4

    def extra_bytes(self, fields: tuple[Any, ...]) -> int:
        """Bytes that decoding takes beside the entries and the parts."""
        return 0

    def kept_bytes(self, fields: tuple[Any, ...]) -> int:
        """Bytes that stay in memory when the tensor was read and is gone, while its file is open."""
        return 0

    def type_name(self, fields: tuple[Any, ...]) -> str:
        """The name of the type of its elements."""
        return "float32"

    def told(self, fields: tuple[Any, ...]) -> str:
        """What a table of a file's tensors calls it. Default: its name."""
        return self.name

    def coded_bytes(self, fields: tuple[Any, ...]) -> int:
        """Bytes among the fields that hold entries, as the symbol stream does."""
        return 0

    def build_in(
        self,
        name: str,
        shape: Shape,
        fields: tuple[Any, ...],
        parts: tuple[Part, ...],
        threads: int | None,
    ) -> Tensor:
        """:meth:`build` in so many threads (None: one per processor), for a kind that can use them."""
        return self.build(name, shape, fields, parts)

    @abstractmethod
    def build(self, name: str, shape: Shape, fields: tuple[Any, ...], parts: tuple[Part, ...]) -> Tensor:
        """The tensor. Raises ``InputError`` for fields and parts that do not fit each other."""


class Kinds:
    """The kinds that the tensors of one file have; each is looked up once."""

    def __init__(self) -> None:
        self._by_record: dict[type[Tensor], Kind] = {}
        self._by_name: dict[str, Kind] = {}
        self._own: dict[int, Kind] = {}

    def of(self, record: type[Tensor]) -> Kind:
        """The kind whose tensors are of this class.

        Raises:
            InputError: No registered kind has them; the message says how to register one.
        """
        if record not in self._by_record:
            self._by_record[record] = self.own(kind_of(record))
        return self._by_record[record]

    def own(self, kind: Kind) -> Kind:
        """The kind as this file uses it (:meth:`Kind.for_file`)."""
        if id(kind) not in self._own:
            self._own[id(kind)] = kind.for_file()
        return self._own[id(kind)]

    def named(self, name: str) -> Kind:
        """A user's own kind. Raises ``UnsupportedVersionError`` where no package registers it."""
        if name not in self._by_name:
            self._by_name[name] = self.own(_registered(name))
        return self._by_name[name]


def kind_of(record: type[Tensor]) -> Kind:
    """The kind whose tensors are of this class; see :meth:`Kinds.of`."""
    for kind in _of_this_folder():
        if kind.record is record:
            return kind
    for point in entry_points(group=GROUP):
        kind = _loaded(point)
        if kind.record is record:
            return kind
    raise InputError(
        f"a file cannot hold tensors of the kind {record.__name__}. Cure: register the kind in a package: "
        f'[project.entry-points."{GROUP}"] in its pyproject.toml, with a laconic.pack.kinds.Kind '
        f"whose record is {record.__name__}"
    )


def put_kind(out: Writer, kind: Kind) -> None:
    """The first byte of a tensor of this kind, and the name of one of a user's own."""
    out.byte(3 | kind.code << 2)
    if kind.code == NAMED:
        out.block(kind.name.encode())


def get_kind(source: Reader, kinds: Kinds) -> Kind:
    """The kind of a first byte whose two low bits are set.

    Raises:
        UnsupportedVersionError: A kind of a later version, or a user's kind that is not installed.
        CorruptFileError: An invalid name.
    """
    code = source.byte() >> 2
    if code == NAMED:
        return kinds.named(_name(source.block("letters of a kind's name")))
    for kind in _of_this_folder():
        if kind.code == code:
            return kinds.own(kind)
    from laconic import __version__

    raise UnsupportedVersionError(
        f"a tensor is of the kind with code {code}, which laconic {__version__} does not know. "
        "Cure: pip install --upgrade laconic, if a later version wrote the file"
    )


def _name(data: bytes) -> str:
    try:
        name = data.decode()
    except UnicodeDecodeError as error:
        raise CorruptFileError("the name of a tensor's kind is not UTF-8") from error
    if not name.isprintable() or not 1 <= len(data) <= MAX_NAME:
        raise CorruptFileError("the name of a tensor's kind is empty, too long or not printable")
    return name


def _registered(name: str) -> Kind:
    for point in entry_points(group=GROUP, name=name):
        return _loaded(point)
    raise UnsupportedVersionError(
        f"a tensor is of the kind {name!r}, which no package installed here registers. "
        f"Cure: install the package that wrote the file (entry points of the group {GROUP})"
    )


@cache
def _of_this_folder() -> tuple[Kind, ...]:
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    return tuple(module.KIND for module in modules if hasattr(module, "KIND"))


def _loaded(point: EntryPoint) -> Kind:
    try:
        kind = point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"kind {point.name}, {point.value}: {error}. Cure: install its package again"
        ) from error
    if not isinstance(kind, Kind) or kind.code != NAMED:
        raise InputError(
            f"kind {point.name}: {point.value} is no laconic.pack.kinds.Kind of a user's own. "
            f"Cure: an instance of a subclass, with code = {NAMED}"
        )
    kind.name = point.name
    return kind
