"""Registered rows of this library's files, read without importing them: names, fields, literals. No torch.

A row is an assignment at the end of a file, as ``METHOD = MethodEntry("sparse-vd", SparseVD, ...)``. Its
first argument is a literal, its second the class. A package may need torch; reading its rows does not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from laconic.errors import InputError
from laconic.text import plain_words

__all__ = ["Annotated", "annotations_of", "described", "row_keyword", "rows_of", "settings_of"]

LIBRARY = Path(__file__).parent


@cache
def rows_of(room: str, variable: str) -> Mapping[str, str]:
    """Where each registered object of a room is, by name, read from its files without importing them.

    Args:
        room: A package of this library, as "laconic.methods".
        variable: What a row is called, as "METHOD".

    >>> rows_of("laconic.tasks", "TASK")["regression"]
    'laconic.tasks.regression:TASK'
    """
    found: dict[str, str] = {}
    for stem, source in _sources(room):
        name = _row(source, variable)
        if name is None:
            continue
        if name in found:
            raise InputError(
                f"{room}: {name!r} is registered twice, by {found[name]} and by {stem}.py. Cure: rename one"
            )
        found[name] = f"{room}.{stem}:{variable}"
    return found


def described(place: str) -> str:
    """The first line of the docstring of a class of this library, read from its file without importing it.

    Args:
        place: Where it is, or its row, as ``module:name``.

    Returns:
        The line, without markup.

    >>> described("laconic.tasks.regression:TASK")[:10]
    'Quantities'
    """
    source, name = _source(place), place.partition(":")[2]
    entry = _row_call(source, name)
    kind = entry.args[1] if entry is not None and len(entry.args) > 1 else ast.Name(name)
    node = _class_of(source, kind)
    first = ("" if node is None else ast.get_docstring(node) or "").partition("\n")[0]
    return plain_words(first)


def row_keyword(place: str, keyword: str) -> Any:
    """A literal keyword argument of a row, read without importing its file.

    Args:
        place: The row, as ``module:name``.
        keyword: The argument's name.

    Returns:
        The argument; None where the row does not have it, or it is no literal.

    >>> row_keyword("laconic.zoo.digits_cnn:NETWORK", "data")
    'digits'
    """
    entry = _row_call(_source(place), place.partition(":")[2])
    for argument in entry.keywords if entry is not None else ():
        if argument.arg == keyword:
            try:
                return ast.literal_eval(argument.value)
            except ValueError:
                return None
    return None


def settings_of(place: str) -> tuple[str, ...] | None:
    """Names of the fields of a dataclass of this library, read without importing it.

    Args:
        place: Where it is, or its row, as ``module:name``.

    Returns:
        The names, those of base classes first; None where a base class is not of this library.

    >>> settings_of("laconic.methods.random_pruning:METHOD")[:2]
    ('macs', 'schedule')
    """
    found = annotations_of(place)
    return None if found is None else tuple(found)


class Annotated(NamedTuple):
    """A field's annotation, and the module whose names it uses.

    Args:
        module: The module's name.
        annotation: The annotation's syntax tree.

    >>> annotations_of("laconic.methods.post_training:METHOD")["fold"].module
    'laconic.methods.post_training'
    """

    module: str
    annotation: ast.expr

    @property
    def place(self) -> str | None:
        """Where the class is that the annotation names, as ``module:name``; None where it names none of this
        library.
        """
        return _home(self.module, self.annotation.id) if isinstance(self.annotation, ast.Name) else None


def annotations_of(place: str) -> Mapping[str, Annotated] | None:
    """The annotations of the fields that :func:`settings_of` names.

    Args:
        place: ``module:NAME`` of a row, or of a class.

    Returns:
        By the field's name; None where the source does not tell them.

    >>> annotations_of("laconic.methods.post_training:METHOD")["refine"].place
    'laconic.methods.layerwise.refining:Refine'
    """
    module, _, name = place.partition(":")
    entry = _row_call(_source(place), name)
    if entry is not None and len(entry.args) > 1 and isinstance(entry.args[1], ast.Name):
        name = entry.args[1].id
    return _fields(module, name)


def _home(module: str, name: str) -> str | None:
    """Where a name of a module is defined, through the imports of this library."""
    path = LIBRARY.joinpath(*module.split(".")[1:])
    path = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    if not module.startswith("laconic.") or not path.exists():
        return None
    tree = ast.parse(path.read_text("utf-8"))
    if any(isinstance(node, ast.ClassDef) and node.name == name for node in tree.body):
        return f"{module}:{name}"
    found = _imported(tree).get(name)
    return None if found is None else _home(*found)


def _imported(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """What a module imports by ``from``: the module and the name there, by the name here."""
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


@cache
def _fields(module: str, name: str) -> Mapping[str, Annotated] | None:
    """Fields of a class in a module of this library, bases first."""
    tree = ast.parse(_source(f"{module}:"))
    imported = _imported(tree)
    node = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)
    if node is None:
        return None
    own = {
        n.target.id: Annotated(module, n.annotation)
        for n in node.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and not _is_class_variable(n)
    }
    fixed = {ast.unparse(n.target) for n in node.body if isinstance(n, ast.AnnAssign) and _is_fixed(n)}
    if not any("dataclass" in ast.unparse(d) for d in node.decorator_list):
        own, fixed = {}, set()
    before: dict[str, Annotated] = {}
    for base in node.bases:
        if not isinstance(base, ast.Name):
            return None
        if base.id in ("ABC", "Protocol"):
            continue
        where, called = imported.get(base.id, (module, base.id))
        found = _fields(where, called) if where.startswith("laconic.") else None
        if found is None:
            return None
        before |= found
    return {name: found for name, found in (before | own).items() if name not in fixed}


def _is_class_variable(node: ast.AnnAssign) -> bool:
    return "ClassVar" in ast.unparse(node.annotation)


def _is_fixed(node: ast.AnnAssign) -> bool:
    """Whether it is a dataclass's field that is no argument, ``field(init=False)``."""
    words = node.value.keywords if isinstance(node.value, ast.Call) else ()
    return any(w.arg == "init" and isinstance(w.value, ast.Constant) and not w.value.value for w in words)


def _class_of(source: str, node: ast.expr) -> ast.ClassDef | None:
    if not isinstance(node, ast.Name):
        return None
    tree = ast.parse(source)
    return next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == node.id), None)


def _row(source: str, variable: str) -> str | None:
    """The name in a file's row; None where it has none."""
    entry = _row_call(source, variable)
    if entry is None or not entry.args or not isinstance(entry.args[0], ast.Constant):
        return None
    return str(entry.args[0].value)


def _row_call(source: str, variable: str) -> ast.Call | None:
    """The call on the right of ``VARIABLE = Entry(...)``; only what follows it is parsed."""
    start = re.search(rf"^{variable} = ", source, re.MULTILINE)
    if start is None:
        return None
    for node in ast.parse(source[start.start() :]).body[:1]:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            return node.value
    return None


def _source(place: str) -> str:
    *rooms, last = place.partition(":")[0].removeprefix("laconic.").split(".")
    return LIBRARY.joinpath(*rooms, f"{last}.py").read_text("utf-8")


def _sources(room: str) -> list[tuple[str, str]]:
    folder = LIBRARY.joinpath(*room.split(".")[1:])
    return [(path.stem, path.read_text("utf-8")) for path in sorted(folder.glob("*.py"))]
