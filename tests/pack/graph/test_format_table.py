"""FORMAT.md's table of operations is the code's: codes, inputs, outputs, attributes and their defaults."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from laconic.pack.graph.ops import OPS, AttrSpec, OpSpec

TEXT = (Path(__file__).parents[3] / "FORMAT.md").read_text(encoding="utf-8")
ROWS = {m[1]: m[0] for m in re.finditer(r"^\| \d+ \| `(\w+)` \|.*$", TEXT, re.M)}


def agrees(written: str, attribute: AttrSpec) -> bool:
    """Whether an attribute's text in the table says its kind, choices and default."""
    if attribute.kind == "flag":
        return written == f"{attribute.name}?"
    if attribute.kind == "choice":
        return written == f"{attribute.name}: {'/'.join(attribute.choices)}"
    head, _, default = written.partition(" = ")
    if head != f"{attribute.name}: {attribute.kind}":
        return False
    if isinstance(attribute.default, tuple):
        return default == f"({','.join(map(str, attribute.default))})"
    known = {"absent": None, "2^63-1": 2**63 - 1}
    if default in known or attribute.kind != "float":
        return str(known.get(default, default)) == str(attribute.default)
    return float(np.float32(default)) == attribute.default


def row(spec: OpSpec) -> str:
    """The start of an operation's row: all but its attributes."""
    most = "any" if spec.most is None else str(spec.most)
    inputs = most if most == str(spec.least) else f"{spec.least}-{most}"
    return f"| {spec.code} | `{spec.name}` | {spec.pattern} | {inputs} | {spec.n_outputs} |"


def test_no_row_of_an_operation_that_is_not_there() -> None:
    assert set(ROWS) == {spec.name for spec in OPS}


@pytest.mark.parametrize("spec", OPS, ids=lambda spec: spec.name)
def test_every_operation_is_in_the_format(spec: OpSpec) -> None:
    written = ROWS[spec.name]
    assert written.startswith(row(spec))
    cells = written.removeprefix(row(spec)).strip(" |").split(", ")
    names = [re.split(r"[?:]", cell)[0] for cell in cells if cell.strip()]
    assert names == [attribute.name for attribute in spec.attrs]
    assert all(agrees(cell, attribute) for cell, attribute in zip(cells, spec.attrs, strict=False))
