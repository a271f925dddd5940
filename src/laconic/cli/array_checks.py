"""What a file of arrays is refused for by the shapes and types of its arrays. No torch."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from laconic.errors import DataError, InputError


def check_file(name: str) -> None:
    """Refuse a .npy or .npz file by the heads of its arrays, which are all that is read.

    Args:
        name: The file; one that is not whole, or of another kind, is left to who reads it.

    Raises:
        InputError, DataError: As :func:`check_examples` and :func:`check_type` do.
    """
    heads = _heads(name)
    if not heads:
        return
    for key, (_, kind) in heads.items():
        if kind.kind != "O":
            check_type(name, f"array {key!r}" if key else "the array", kind)
    check_examples(name, {key: shape for key, (shape, _) in heads.items()})


def array_names(name: str) -> list[str]:
    """Names of the arrays of a .npz file; none of one that is not whole, or of another kind."""
    return list(_heads(name)) if name.endswith(".npz") else []


@contextmanager
def told_types(text: str | None) -> Iterator[None]:
    """Errors on whole numbers within the block name the file and the types that its arrays have there.

    Args:
        text: What ``--calibrate`` was given; for anything but a file of arrays errors stay as they are.
    """
    try:
        yield
    except InputError as error:
        kinds = sorted({str(kind) for _, kind in _heads(text or "").values() if kind.kind in "iu"})
        told = re.sub(
            r"the example holds whole numbers \([^)]*\)", f"{text} is of type {', '.join(kinds)}", str(error)
        )
        if kinds and told != str(error):
            error.args = (told, *error.args[1:])
        raise


def _heads(name: str) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shapes and types by name; none of a file that is not whole, or of another kind."""
    heads: dict[str, tuple[tuple[int, ...], Any]] = {}
    with suppress(OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError):
        if name.endswith(".npy"):
            with open(name, "rb") as file:
                heads = {"": _head(file)}
        elif name.endswith(".npz"):
            with zipfile.ZipFile(name) as archive:
                for member in archive.namelist():
                    with archive.open(member) as file:
                        heads[member.removesuffix(".npy")] = _head(file)
    return heads


def _head(file: Any) -> tuple[tuple[int, ...], Any]:
    """Shape and type of an array that ``numpy.save`` wrote; raises ValueError where it did not."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind


def check_type(name: str, what: str, kind: Any) -> None:
    """Refuse an array that holds no real numbers or booleans.

    >>> check_type("x.npy", "the array", np.dtype("<U1"))
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: --calibrate x.npy: the array is of type <U1. Cure: numbers or booleans,
    array.astype('float32')
    """
    if kind.kind not in "fiub":
        raise InputError(
            f"--calibrate {name}: {what} is of type {kind}. Cure: numbers or booleans, "
            "array.astype('float32')"
        )


def check_examples(name: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of examples, which all arrays have along their first axis.

    Raises:
        DataError: No array, one without an example, or arrays with different numbers of examples.

    >>> check_examples("x.npz", {"a": (3, 2), "b": (3,)})
    3
    """
    if not shapes:
        raise DataError(f"--calibrate {name} holds no array. Cure: one for each input of the network")
    counts = {key: shape[0] if shape else 0 for key, shape in shapes.items()}
    key, count = next(iter(counts.items()))
    if not all(counts.values()):
        empty = next(k for k, n in counts.items() if not n)
        raise DataError(
            f"--calibrate {name}: array {empty or name!r} of shape {shapes[empty]} holds no "
            "example. Cure: some hundred examples along the first axis"
        )
    other = next((k for k, n in counts.items() if n != count), None)
    if other is not None:
        raise DataError(
            f"--calibrate {name}: {count} examples in {key!r} and {counts[other]} in {other!r}. "
            "Cure: the same examples, along the first axis of each"
        )
    return count
