"""The entries of an ONNX tensor as an array: in the file, or in another one in its folder."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from laconic.errors import CorruptFileError, InputError, TruncatedFileError
from laconic.files import unreadable
from laconic.onnx_in.messages import Stored
from laconic.records import AnyArray
from laconic.runtime.onnx_model.wire import fields, varint

_CURE = "Cure: export the network again, into one folder"

KINDS = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip
"""ONNX' numbers of the types that are read; bfloat16 becomes float32."""

OTHERS = {
    8: "string", 14: "complex64", 15: "complex128", 17: "float8e4m3fn", 18: "float8e4m3fnuz",
    19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1", 24: "float8e8m0",
    25: "uint2", 26: "int2",
}  # fmt: skip
"""Those that are kept as they are, and not read."""

_FIELD_OF = {4: "float32", 7: "int64", 10: "float64", 11: "uint64", 5: "int32"}
"""Fields that hold entries one by one, and their types in the message."""


def kind_name(kind: int) -> str:
    """The name of a type.

    Raises CorruptFileError for a number that ONNX does not define.

    >>> kind_name(16), kind_name(22)
    ('bfloat16', 'int4')
    """
    name = KINDS.get(kind) or OTHERS.get(kind)
    if name is None:
        raise CorruptFileError(f"ONNX: data type {kind} is not defined. Cure: export the network anew")
    return name


class Folder(NamedTuple):
    """Where an ONNX file lies; None: it has no folder, so no entries in other files."""

    path: Path | None

    def file_of(self, tensor: Stored) -> Path:
        """The file that holds a tensor's entries.

        Raises InputError for one that is missing, or that does not lie in the folder: by an absolute path, by
        "..", or by a link.
        """
        location = tensor.location["location"]
        what = f"ONNX: initialiser {tensor.name!r} is in the file {location!r:.200}"
        parts = location.replace("\\", "/").split("/")
        if not location or "\0" in location or ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise InputError(f"{what}, which is not in the folder of the model. {_CURE}")
        if self.path is None:
            raise InputError(f"{what}, and the model was given without a folder. Cure: its path")
        path = self.path.joinpath(*parts)
        try:
            inside = path.resolve().is_relative_to(self.path.resolve())
            found = path.exists() and stat.S_ISREG(path.stat().st_mode)
        except (OSError, RuntimeError, UnicodeError) as error:  # a name too long, a circle of links
            raise InputError(f"{what}, which cannot be opened ({type(error).__name__}). {_CURE}") from error
        if not inside:
            raise InputError(f"{what}, a link that leads out of the folder of the model. Cure: a copy there")
        if not found:
            raise InputError(f"{what}, which is missing. Cure: copy it to {self.path}")
        return path


def raw_bytes(tensor: Stored, folder: Folder) -> bytes | memoryview | None:
    """The little-endian bytes of a tensor's entries; None where they are listed one by one."""
    if tensor.location:
        return _from_file(tensor, folder)
    found = [field.data for field in fields(tensor.data, "a tensor") if field.number == 9]
    return found[-1] if found else None


def _from_file(tensor: Stored, folder: Folder) -> bytes:
    path = folder.file_of(tensor)
    offset, length = (_number(tensor, key) for key in ("offset", "length"))
    size = path.stat().st_size
    start = offset or 0
    wanted = size - start if length is None else length
    if start + wanted > size or wanted < 0:
        raise TruncatedFileError(
            f"ONNX: initialiser {tensor.name!r} is said to be at {start} to {start + wanted} of {path.name}, "
            f"which has {size} bytes. Cure: copy it anew"
        )
    try:
        with open(path, "rb") as stream:
            stream.seek(start)
            return stream.read(wanted)
    except OSError as error:
        raise unreadable(path, error) from error


def _number(tensor: Stored, key: str) -> int | None:
    text = tensor.location.get(key)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise CorruptFileError(f"ONNX: initialiser {tensor.name!r} has the {key} {text[:40]!r}")
    return int(text)


def array_of(tensor: Stored, folder: Folder) -> AnyArray:
    """The entries of a tensor.

    Args:
        tensor: Of a type in ``KINDS``.
        folder: Where other files may be.

    Returns:
        The array; bfloat16 as float32.

    Raises:
        InputError: A type that is not read, or another file that is missing or out of the folder.
        CorruptFileError: More or fewer entries than the shape has.
        TruncatedFileError: The other file is too short.
    """
    name = kind_name(tensor.kind)
    if tensor.kind not in KINDS:
        raise InputError(f"ONNX: initialiser {tensor.name!r} is of type {name}. Cure: a model in float32")
    count = math.prod(tensor.shape)
    raw = raw_bytes(tensor, folder)
    if raw is None:
        return _listed(tensor, name, count)
    width = 2 if name == "bfloat16" else np.dtype(name).itemsize
    if len(raw) != count * width:
        raise _wrong_count(tensor, f"{len(raw)} bytes", f"{count * width}")
    if name == "bfloat16":
        return _widened(np.frombuffer(raw, "<u2")).reshape(tensor.shape)
    if name == "bool":
        return np.not_equal(np.frombuffer(raw, np.uint8), 0, dtype=bool).reshape(tensor.shape)
    values: AnyArray = np.frombuffer(raw, np.dtype(name).newbyteorder("<")).astype(name)
    return values.reshape(tensor.shape)


def _widened(bits: AnyArray) -> AnyArray:
    wide: AnyArray = (bits.astype(np.uint32) << 16).view(np.float32)
    return wide


def _listed(tensor: Stored, name: str, count: int) -> AnyArray:
    """Entries that are listed one by one; those of 16 bits and fewer stand among the int32."""
    values: AnyArray = np.zeros(0, name if name != "bfloat16" else np.float32)
    for field in fields(tensor.data, "a tensor"):
        listed = _FIELD_OF.get(field.number)
        if listed is None:
            continue
        found = _entries(field.value, listed)
        if name in ("float16", "bfloat16"):
            bits = found.astype(np.uint16)
            found = bits.view(np.float16) if name == "float16" else _widened(bits)
        values = np.concatenate([values, found.astype(values.dtype)])
        if len(values) > count:
            break
    if len(values) != count:
        raise _wrong_count(tensor, f"{len(values)} entries", str(count))
    return values.reshape(tensor.shape)


def _entries(value: int | memoryview, listed: str) -> AnyArray:
    if isinstance(value, int):
        return np.array([value], np.uint64).view(np.int64)
    if listed.startswith("float"):
        width = np.dtype(listed).itemsize
        return np.frombuffer(value[: len(value) // width * width], np.dtype(listed).newbyteorder("<"))
    found, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        found.append(number)
    return np.array(found, np.uint64).view(np.int64 if listed != "uint64" else np.uint64)


def _wrong_count(tensor: Stored, got: str, wanted: str) -> CorruptFileError:
    return CorruptFileError(
        f"ONNX: initialiser {tensor.name!r} of shape {tensor.shape} has {got}, not {wanted}. "
        "Cure: copy the file anew"
    )
