"""What the docstring of a public name must have: arguments, result, errors, a runnable example, a source.

A public name is one in the ``__all__`` of a module of ``laconic``, where it is a class or a function that
laconic itself defines. Run as a script it prints what is missing: ``python tests/helpers/docstring_rules.py
[PART OF A MODULE'S NAME]``.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, get_type_hints

import laconic

# Rooms of published formulas: a name or its file says from which paper, by its year.
SOURCED = (
    *(f"laconic.bayes.{room}." for room in ("gates", "kl.rules", "posteriors", "priors")),
    *(f"laconic.{room}." for room in ("methods", "quantize", "sparsify.scores")),
)
NOT_SOURCED = (".contract.", ".common.", ".registry.")
_YEAR = re.compile(r"\b(19|20)\d\d\b")


def missing(thing: Any) -> list[str]:
    """What the docstring of a class or a function lacks.

    A class says its constructor's arguments under ``Args:`` (a dataclass its fields, under ``Attributes:`` if
    it is a result); a function also its result, unless that is None, and the errors of its own ``raise``
    statements. Protocols, abstract classes, errors and enums need no example.
    """
    words = inspect.getdoc(thing) or ""
    said = _section(words, "Args") + "\n" + _section(words, "Attributes")
    lacking = [f"Args: {name}" for name in _arguments(thing) if not re.search(rf"^\W*{name}\b", said, re.M)]
    if inspect.isfunction(thing):
        if _returns(thing) and not (_section(words, "Returns") or _section(words, "Yields")):
            lacking.append("Returns")
        if _raises(thing) and not _section(words, "Raises"):
            lacking.append("Raises")
    if ">>>" not in words and not _only_a_form(thing):
        lacking.append("example")
    if _needs_source(thing) and not _YEAR.search(words + (sys.modules[thing.__module__].__doc__ or "")):
        lacking.append("source")
    return lacking


def public() -> Iterator[Any]:
    """Each class and function that some ``__all__`` of the library names, once."""
    seen: set[int] = set()
    for info in pkgutil.walk_packages(laconic.__path__, "laconic."):
        if info.name.endswith("__main__") or info.name.rpartition(".")[2].startswith("_"):
            continue
        module = importlib.import_module(info.name)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            ours = getattr(thing, "__module__", "").startswith("laconic")
            if ours and (inspect.isclass(thing) or inspect.isfunction(thing)) and id(thing) not in seen:
                seen.add(id(thing))
                yield thing
    for name in laconic.__all__:
        thing = getattr(laconic, name)
        if inspect.isfunction(thing) and id(thing) not in seen:
            seen.add(id(thing))
            yield thing


def violations(part: str = "") -> list[str]:
    """``module.name: what is missing`` for each public name whose module's name has that part."""
    found = ((f"{thing.__module__}.{thing.__qualname__}", missing(thing)) for thing in public())
    return [f"{name}: {', '.join(lacking)}" for name, lacking in found if lacking and part in name]


def _section(words: str, title: str) -> str:
    """The lines below ``Title:`` up to the next line that is not indented."""
    lines = words.splitlines()
    starts = [i for i, line in enumerate(lines) if line.rstrip() == f"{title}:"]
    if not starts:
        return ""
    body = []
    for line in lines[starts[0] + 1 :]:
        if line and not line.startswith(" "):
            break
        body.append(line)
    return "\n".join(body).strip("\n")


def _arguments(thing: Any) -> list[str]:
    """Names of the arguments that a caller gives; none for enums, protocols and what has no signature."""
    if inspect.isclass(thing) and (getattr(thing, "_is_protocol", False) or issubclass(thing, BaseException)):
        return []
    if inspect.isclass(thing) and hasattr(thing, "__members__"):
        return []
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return []
    rest = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.kind not in rest and not p.name.startswith("_")]


def _returns(function: Any) -> bool:
    try:
        return get_type_hints(function).get("return", object) is not type(None)
    except (NameError, TypeError, AttributeError):
        return inspect.signature(function).return_annotation not in ("None", None)


def _raises(function: Any) -> bool:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(tree))


def _only_a_form(thing: Any) -> bool:
    """A protocol, an abstract class, an error or an enum: an example shows nothing."""
    if not inspect.isclass(thing):
        return False
    form = getattr(thing, "_is_protocol", False) or inspect.isabstract(thing)
    return form or issubclass(thing, BaseException) or hasattr(thing, "__members__")


def _needs_source(thing: Any) -> bool:
    module = thing.__module__ + "."
    return (
        module.startswith(SOURCED)
        and not _only_a_form(thing)
        and not any(part in module for part in NOT_SOURCED)
    )


def main() -> int:
    """Print what is missing."""
    found = violations(*sys.argv[1:2])
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
