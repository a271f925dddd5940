"""Files in the safetensors format, one tensor at a time: read and written without its package, and
without bfloat16 or 8-bit floats in NumPy.

A file is the length of its header (eight bytes), the header (JSON: type, shape, begin and end of each tensor)
and the elements, little-endian in C order. Source: https://github.com/huggingface/safetensors, 2022.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from laconic.errors import InputError
from laconic.files import AnyPath, check_is_file, replacing, unreadable
from laconic.pack.wire.headers import MAX_RANK
from laconic.records.element_types import ByteArray, element_type

TYPES = {
    "F32": "float32",
    "F16": "float16",
    "F64": "float64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "BF16": "bfloat16",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
_WORDS = {name: word for word, name in TYPES.items()}
_MOST_HEADER = 100_000_000
_CURE = "Cure: a file that safetensors wrote (model.safetensors)"


def _cure_of(path: str) -> str:
    """How a file of PyTorch's own becomes one of this format."""
    if not path.endswith((".pt", ".pth", ".bin", ".ckpt")):
        return _CURE
    return (
        "Cure: safetensors.torch.save_file(torch.load(path, weights_only=True), 'model.safetensors'), which "
        "takes a dictionary of tensors that share no memory"
    )


class Entry(NamedTuple):
    """A tensor of a file: dimensions, name of the element type, and where its bytes are."""

    shape: tuple[int, ...]
    type: str
    begin: int
    end: int


class SafetensorsFile:
    """The tensors of a file; each is read when it is asked for.

    Args:
        path: The file.

    Raises:
        ReadError: The file cannot be opened.
        InputError: It is not in the format, or has an element type that no file holds; it names the tensor.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = os.fspath(path)
        try:
            self._stream: BinaryIO = open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            self.entries, self.metadata = self._header()
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def read(self, name: str) -> ByteArray:
        """The bytes of a tensor's elements. Raises ``ReadError`` where they cannot be read."""
        entry = self.entries[name]
        out = np.empty(entry.end - entry.begin, np.uint8)
        try:
            self._stream.seek(entry.begin)
            found = self._stream.readinto(out.data)  # type: ignore[attr-defined]
        except OSError as error:
            raise unreadable(self.path, error) from error
        if found != out.size:
            raise InputError(
                f"{self.path} became shorter while it was read. Cure: run again when nothing writes to it "
                "any more"
            )
        return out

    def _header(self) -> tuple[dict[str, Entry], dict[str, str]]:
        try:
            check_is_file(self._stream)
            total = os.fstat(self._stream.fileno()).st_size
            length = int.from_bytes(self._stream.read(8), "little")
            if total < 8 or length > min(total - 8, _MOST_HEADER):
                raise InputError(f"{self.path} is no safetensors file, or not whole. {_cure_of(self.path)}")
            text = self._stream.read(length)
        except OSError as error:
            raise unreadable(self.path, error) from error
        try:
            found = json.loads(text, object_pairs_hook=_without_doubles)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{self.path} is no safetensors file: its header is no JSON ({error}). {_CURE}"
            ) from error
        if not isinstance(found, dict):
            raise InputError(f"{self.path} is no safetensors file: its header is no object. {_CURE}")
        for text in found:
            check_text(text, f"{self.path}: the name of a tensor")
        metadata = found.pop("__metadata__", None) or {}
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise InputError(f"{self.path}: its metadata are no texts. {_CURE}")
        for text in (*metadata, *metadata.values()):
            check_text(text, f"{self.path}: a text of its metadata")
        entries = {name: self._entry(name, row, 8 + length, total) for name, row in found.items()}
        start = done = 8 + length
        for name, entry in sorted(entries.items(), key=lambda one: (one[1].begin, one[1].end)):
            if entry.begin != done:
                raise InputError(
                    f"{self.path}: tensor {name!r} begins at byte {entry.begin - start}, and the one before "
                    f"it ends at {done - start}. {_CURE}"
                )
            done = entry.end
        return entries, metadata

    def _entry(self, name: str, row: Any, start: int, total: int) -> Entry:
        try:
            word, shape, (begin, end) = row["dtype"], tuple(row["shape"]), row["data_offsets"]
            numbers = (*shape, begin, end)
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(
                f"{self.path}: the header's row of tensor {name!r} is invalid. {_CURE}"
            ) from error
        if not isinstance(word, str) or word not in TYPES:
            raise InputError(
                f"{self.path}: tensor {name!r} has elements of type {ascii(word)[1:-1]:.40}, which cannot be "
                f"stored. Cure: one of {', '.join(TYPES)}"
            )
        whole = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**63 for n in numbers)
        kind = element_type(TYPES[word])
        fits = whole and len(shape) <= MAX_RANK and end - begin == math.prod(shape) * kind.bytes
        if not fits or start + end > total:
            raise InputError(
                f"{self.path}: tensor {name!r} of shape {list(shape)!r:.100} claims bytes {begin!r:.40}.."
                f"{end!r:.40} of {total - start}; dimensions may be {MAX_RANK}. {_CURE}"
            )
        return Entry(shape, kind.name, start + begin, start + end)


def check_text(text: str, what: str) -> None:
    """Raises InputError where a text has surrogates without a partner, which UTF-8 does not have."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is no valid Unicode: {text!r:.200}. {_CURE}") from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands twice")
    return found


def write_safetensors(
    path: AnyPath,
    tensors: Iterable[tuple[str, tuple[int, ...], str]],
    read: Callable[[str], ByteArray],
    metadata: Mapping[str, str],
) -> int:
    """Write a file tensor by tensor, whole or not at all.

    Args:
        path: The file; an existing one is replaced.
        tensors: Name, shape and element type of each.
        read: Gives the bytes of a tensor by its name.
        metadata: Texts in the header.

    Returns:
        Bytes of the file.

    Raises:
        InputError: An element type that the format does not have.
        WriteError: The file cannot be written; an existing one is unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = write_safetensors(f"{folder}/x", [("w", (1,), "int8")], lambda _: np.uint8([7]), {})
        ...     with SafetensorsFile(f"{folder}/x") as file:
        ...         print(size, file.read("w").tolist())
        65 [7]
    """
    rows = sorted(tensors, key=lambda row: (-element_type(row[2]).bytes, row[0]))  # elements stay aligned
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, shape, kind in rows:
        if kind not in _WORDS:
            raise InputError(
                f"tensor {name!r} is {kind}, which safetensors files cannot hold. Cure: one of "
                f"{', '.join(_WORDS)}"
            )
        size = math.prod(shape) * element_type(kind).bytes
        header[name] = {"dtype": _WORDS[kind], "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, _, _ in rows:
            out.write(read(name).data)
    return 8 + len(text) + at
