"""Device files: small TOML files; every field has a unit and is checked.

A file has five numbers, at least one ``[[memory]]`` and one ``[[arithmetic]]``. Each of these tables states
the source of its numbers in ``source``.
"""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from laconic.cost.device import Arithmetic, Content, Device, Memory
from laconic.errors import InputError

SUFFIX = ".toml"


@dataclass(frozen=True)
class _Number:
    """A field that is a number: its unit, and bounds that catch the wrong one (MHz for Hz)."""

    unit: str
    least: float
    most: float
    whole: bool = False


_DEVICE = {
    "clock_hz": _Number("hertz", 1e4, 1e11),
    "active_watts": _Number("watts", 1e-6, 1e5),
    "seconds_per_operation": _Number("seconds", 0, 1),
    "sparse_macs_per_cycle": _Number("multiply-accumulates a clock cycle, 0 for none", 0, 1e7),
}
_MEMORY = {
    "bytes": _Number("bytes", 1, 2**50, whole=True),
    "bytes_per_second": _Number("bytes a second", 1e4, 1e15),
    "fj_per_byte": _Number("femtojoules a byte", 0, 1e9, whole=True),
}
_ARITHMETIC = {
    "weight_bits": _Number("bits", 1, 64, whole=True),
    "activation_bits": _Number("bits", 1, 64, whole=True),
    "macs_per_cycle": _Number("multiply-accumulates a clock cycle", 1e-4, 1e7),
    "fj_per_mac": _Number("femtojoules a multiply-accumulate", 0, 1e9, whole=True),
}
_CONTENTS = ("weights", "activations", "both")


def device_names() -> tuple[str, ...]:
    """The devices that come with the library.

    Returns:
        Their names in alphabetical order, as :func:`read_device` takes them.

    >>> "cortex-m7" in device_names()
    True
    """
    folder = files("laconic.cost") / "devices"
    return tuple(sorted(f.name.removesuffix(SUFFIX) for f in folder.iterdir() if f.name.endswith(SUFFIX)))


def read_device(name: str | os.PathLike[str]) -> Device:
    """Read and check a device file.

    Args:
        name: The name of a shipped file, or the path of another one (anything that ends in .toml).

    Returns:
        The device, every number in the unit that its field names.

    Raises:
        InputError: There is no such file, or a field is missing, unknown, of the wrong type, or out of the
            range that its unit allows; the error names the file and the field.

    >>> read_device("cortex-m7").clock_hz
    216000000.0
    """
    text = os.fspath(name)
    if text.endswith(SUFFIX):
        return _parsed(_own_file(text), text)
    if text not in device_names():
        raise InputError(
            f"no device is called {text!r}; there are {', '.join(device_names())}. "
            "Cure: one of these, or the path of a device file of your own (FILE.toml)"
        )
    shipped = files("laconic.cost") / "devices" / f"{text}{SUFFIX}"
    return _parsed(shipped.read_bytes(), shipped.name)


def _own_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read device file {path}: {error.strerror or error}. Cure: check the path"
        ) from error


def _parsed(data: bytes, file: str) -> Device:
    try:
        parsed = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"device file {file} is not valid TOML: {error}. Cure: compare it with a shipped one"
        ) from error
    top = _Table(file, "", parsed)
    top.only({"name", "source", "memory", "arithmetic", *_DEVICE})
    name, _ = top.text("name"), top.text("source")
    numbers = {field: top.number(field, spec) for field, spec in _DEVICE.items()}
    memories = tuple(_memory(table) for table in top.tables("memory"))
    arithmetics = tuple(_arithmetic(table) for table in top.tables("arithmetic"))
    wanted: tuple[Content, ...] = ("weights", "activations")
    for content in wanted:
        if not any(m.may_hold(content) for m in memories):
            raise InputError(
                f"device file {file}: no memory holds {content}. "
                f'Cure: a [[memory]] with holds = "{content}" or "both"'
            )
    return Device(name=name, memories=memories, arithmetics=arithmetics, **numbers)


def _memory(table: _Table) -> Memory:
    table.only({"name", "source", "holds", *_MEMORY})
    holds = table.text("holds")
    if holds not in _CONTENTS:
        raise table.wrong("holds", f"must be one of {', '.join(_CONTENTS)}, got {holds!r}")
    table.text("source")
    numbers = {field: table.number(field, spec) for field, spec in _MEMORY.items()}
    return Memory(
        table.text("name"),
        cast(Content, holds),
        int(numbers["bytes"]),
        numbers["bytes_per_second"],
        int(numbers["fj_per_byte"]),
    )


def _arithmetic(table: _Table) -> Arithmetic:
    table.only({"name", "source", *_ARITHMETIC})
    table.text("source")
    numbers = {field: table.number(field, spec) for field, spec in _ARITHMETIC.items()}
    return Arithmetic(
        table.text("name"),
        int(numbers["weight_bits"]),
        int(numbers["activation_bits"]),
        numbers["macs_per_cycle"],
        int(numbers["fj_per_mac"]),
    )


@dataclass(frozen=True)
class _Table:
    """One table of a device file; every error names the file and the field."""

    file: str
    place: str
    content: Mapping[str, Any]

    def wrong(self, field: str, fact: str, cure: str = "correct that line") -> InputError:
        """The error of one field."""
        return InputError(f"device file {self.file}: field {self.place}{field} {fact}. Cure: {cure}")

    def only(self, known: set[str]) -> None:
        """Refuse unknown fields, which may be misspelt."""
        for field in self.content:
            if field not in known:
                near = difflib.get_close_matches(field, sorted(known), 1)
                cure = f"did you mean {near[0]}?" if near else f"one of {', '.join(sorted(known))}"
                raise self.wrong(field, "is unknown", cure)

    def text(self, field: str) -> str:
        """A text that is not empty."""
        if field not in self.content:
            raise self.wrong(field, "is missing", f'add {field} = "..."')
        value = self.content[field]
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(field, f"must be a text, got {value!r}")
        return value

    def number(self, field: str, spec: _Number) -> float:
        """A number in its unit, within the range that makes sense for it."""
        if field not in self.content:
            raise self.wrong(field, "is missing", f"add {field} = NUMBER, in {spec.unit}")
        value = self.content[field]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(field, f"must be a number in {spec.unit}, got {value!r}", "a plain number")
        if not math.isfinite(value) or not spec.least <= value <= spec.most:
            bounds = f"{spec.least:g} .. {spec.most:g}"
            raise self.wrong(field, f"must be in {bounds} {spec.unit}, got {value!r}", "check sign and unit")
        if spec.whole and value != int(value):
            raise self.wrong(field, f"must be a whole number in {spec.unit}, got {value!r}", "round it")
        return float(value)

    def tables(self, field: str) -> list[_Table]:
        """An array of tables with at least one row."""
        rows = self.content.get(field)
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            state = "is missing" if rows is None else "must be a list of tables"
            raise self.wrong(field, state, f"at least one table under [[{field}]]")
        return [_Table(self.file, f"{field}[{k}].", row) for k, row in enumerate(rows)]
