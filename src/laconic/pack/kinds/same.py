"""A tensor of the parent file as it is (FORMAT.md, "Other kinds", code 6)."""

from __future__ import annotations

from typing import Any

from laconic.errors import CorruptFileError
from laconic.pack.kinds import Kind, Part, Shape
from laconic.pack.kinds.pieces import get_type, put_type
from laconic.records.children import ChildTensor, SameTensor
from laconic.records.element_types import element_type
from laconic.varint import Reader, Writer

_MAX_NAME = 1 << 12


def put_source(out: Writer, tensor: ChildTensor) -> None:
    """The name of the parent's tensor; no bytes where it is the tensor's own."""
    out.block(b"" if tensor.source == tensor.name else tensor.source.encode())


def get_source(source: Reader) -> str:
    """The name that :func:`put_source` wrote; empty for the tensor's own."""
    data = source.block("letters of a name")
    if len(data) > _MAX_NAME:
        raise CorruptFileError(f"the name of a parent's tensor has {len(data)} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CorruptFileError("the name of a parent's tensor is not UTF-8") from error


class Same(Kind):
    """Fields: the parent's tensor, type. No parts."""

    code = 6
    name = "of the parent"
    record = SameTensor
    part_names = ()
    without_graph = True

    def put(self, out: Writer, tensor: SameTensor) -> None:
        """Name and type."""
        put_source(out, tensor)
        put_type(out, element_type(tensor.type))

    def get(self, source: Reader, shape: Shape) -> tuple[object, ...]:
        """Name and type."""
        return get_source(source), get_type(source)

    def parts(self, tensor: SameTensor) -> tuple[Part, ...]:
        """None."""
        return ()

    def steps(self, shape: Shape, fields: tuple[Any, ...], parts: tuple[Shape, ...]) -> int:
        """None: the parent's tensor counts in the parent."""
        return 0

    def type_name(self, fields: tuple[Any, ...]) -> str:
        """The type in the fields."""
        name: str = fields[1].name
        return name

    def item_bytes(self, fields: tuple[Any, ...]) -> int:
        """Bytes of an element."""
        size: int = fields[1].bytes
        return size

    def build(self, name: str, shape: Shape, fields: tuple[Any, ...], parts: tuple[Part, ...]) -> SameTensor:
        """The tensor."""
        return SameTensor(name, shape, fields[1].name, fields[0] or name)


KIND = Same()
