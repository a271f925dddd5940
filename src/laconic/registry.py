"""Objects by name: those of this library, of installed packages, and ``package.module:name``. No torch.

What the library brings is listed without importing it: names come from a row in each file of a room
(``METHOD = MethodEntry("sparse-vd", ...)``, its first argument a literal), or from a table. So a misspelt
name is told before torch is imported. An installed package adds names in its pyproject.toml::

    [project.entry-points."laconic.methods"]
    my-pruning = "my_package.pruning:MyPruning"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laconic.errors import InputError
from laconic.own import did_you_mean, own_object

if TYPE_CHECKING:
    import ast

LIBRARY = Path(__file__).parent

__all__ = ["Entry", "Registry", "described", "rows_of", "settings_of"]


@dataclass(frozen=True)
class Entry:
    """A registered class and what is said of it.

    Args:
        name: Its name in a run file and at the command line.
        kind: The class.

    >>> Entry("entry", Entry).help
    'A registered class and what is said of it.'
    """

    name: str
    kind: Any

    @property
    def help(self) -> str:
        """The first line of the class's docstring."""
        return plain_words((self.kind.__doc__ or "").strip().partition("\n")[0])

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of its settings; none for a class that is no dataclass."""
        return tuple(f.name for f in fields(self.kind)) if is_dataclass(self.kind) else ()


@dataclass(frozen=True)
class Registry:
    """Names of one kind of object, and where each object is.

    Args:
        what: What errors call such an object, as "method".
        group: The entry points of installed packages.
        known: A function that returns where the library's own objects are, ``module:name`` by name.
        base: The class that every registered class must have as its base, as ``module:name``; empty where a
            function of the right signature will do.
        factory: Whether a registered class or function is itself what is wanted (an optimiser's class, which
            is called with parameters later), so that it is not called without arguments.

    >>> NUMBERS = Registry("number", "laconic.numbers", lambda: {"circle": "math:pi"})
    >>> NUMBERS.find("circle")
    3.141592653589793
    >>> NUMBERS.find("cirkle")
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: there is no number 'cirkle'. Cure: did you mean circle?
    """

    what: str
    group: str
    known: Callable[[], Mapping[str, str]] = field(repr=False)
    base: str = ""
    factory: bool = False

    def names(self) -> tuple[str, ...]:
        """All registered names, in order. Imports none of the objects.

        Raises:
            InputError: A name that is taken twice.
        """
        return tuple(sorted(self._places()))

    def place(self, name: str) -> str:
        """Where the object of a registered name is, as ``module:name``."""
        return self._places()[name]

    def check(self, text: str) -> None:
        """Raises InputError for a text that is neither a registered name nor ``package.module:name``."""
        if ":" in text:
            module, _, name = text.partition(":")
            if not module or not name:
                raise InputError(f"{self.what} {text!r} should read package.module:name")
            return
        places = self._places()
        if text not in places:
            raise InputError(f"there is no {self.what} {text!r}. Cure: {did_you_mean(text, places)}")

    def find(self, text: str) -> Any:
        """The object of this name.

        Args:
            text: A registered name, or a module, a colon and a name in it.

        Raises:
            InputError: No such object, with the name that may have been meant, or one of another kind.
        """
        self.check(text)
        if ":" in text:
            return self._checked(own_object(text, self.what), text)
        place = self._places()[text]
        named = text if place.startswith("laconic.") else f"{text}, {place}"
        return self._checked(own_object(place, f"{self.what} {text},"), named)

    def _checked(self, found: Any, text: str) -> Any:
        kind = found.kind if isinstance(found, Entry) else found
        if not self.base:
            return found
        base = own_object(self.base, self.what)
        if not (isinstance(kind, type) and issubclass(kind, base)):
            raise InputError(
                f"{self.what} {text} is of type {type(kind).__name__}, and no {self.what}. "
                f"Cure: a frozen dataclass with the base {base.__module__.rpartition('.')[0]}.{base.__name__}"
            )
        return found

    def _places(self) -> dict[str, str]:
        """Where the object of each name is."""
        from importlib.metadata import entry_points  # twenty milliseconds, which not every start needs

        places = dict(self.known())
        for point in entry_points(group=self.group):
            if places.get(point.name, point.value) != point.value:
                raise InputError(
                    f"the {self.what} {point.name!r} is registered twice, by "
                    f"{places[point.name].partition(':')[0]} and by {point.value}. "
                    "Cure: another name in the package of your own, or uninstall one of them"
                )
            places[point.name] = point.value
        return places


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
            raise InputError(f"{room}: {name!r} is registered twice, by {found[name]} and by {stem}.py")
        found[name] = f"{room}.{stem}:{variable}"
    return found


def room(name: str, variable: str) -> Callable[[], Mapping[str, str]]:
    """:func:`rows_of` as a registry's ``known``."""
    return partial(rows_of, name, variable)


def table(**places: str) -> Callable[[], Mapping[str, str]]:
    """A registry's ``known`` from a table; names are written with underscores for hyphens.

    >>> table(one_shot="laconic.sparsify.timetables:OneShot")()
    {'one-shot': 'laconic.sparsify.timetables:OneShot'}
    """
    named = {name.replace("_", "-"): place for name, place in places.items()}
    return lambda: named


def described(place: str) -> str:
    """The first line of the docstring of a class of this library, read from its file without importing it.

    Args:
        place: Where its row is, as :func:`rows_of` says.

    >>> described("laconic.tasks.regression:TASK")[:10]
    'Quantities'
    """
    import ast

    entry = _row_call(_source(place), place.partition(":")[2])
    node = _class_of(_source(place), entry.args[1]) if entry is not None and len(entry.args) > 1 else None
    first = ("" if node is None else ast.get_docstring(node) or "").partition("\n")[0]
    return plain_words(first)


def plain_words(text: str) -> str:
    """A docstring's line without its markup.

    >>> plain_words("As :class:`Task`, with ``memory``.")
    'As Task, with memory.'
    """
    return re.sub(r"(?::\w+:)?`+~?([^`]*)`+", r"\1", text)


def row_keyword(place: str, keyword: str) -> Any:
    """A literal keyword argument of a row, read without importing its file; None where it is none."""
    import ast

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
    module, _, name = place.partition(":")
    entry = _row_call(_source(place), name)
    if entry is not None and len(entry.args) > 1 and isinstance(entry.args[1], ast.Name):
        name = entry.args[1].id
    found = _fields(module, name)
    return None if found is None else tuple(dict.fromkeys(found))


@cache
def _fields(module: str, name: str) -> tuple[str, ...] | None:
    """Fields of a class in a module of this library, bases first."""
    import ast

    tree = ast.parse(_source(f"{module}:"))
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    node = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)
    if node is None:
        return None
    own = [
        n.target.id
        for n in node.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and not _is_class_variable(n)
    ]
    if not any("dataclass" in ast.unparse(d) for d in node.decorator_list):
        own = []
    before: list[str] = []
    for base in node.bases:
        if not isinstance(base, ast.Name):
            return None
        if base.id in ("ABC", "Protocol"):
            continue
        where, called = imported.get(base.id, (module, base.id))
        found = _fields(where, called) if where.startswith("laconic.") else None
        if found is None:
            return None
        before += found
    return (*before, *own)


def _is_class_variable(node: ast.AnnAssign) -> bool:
    import ast

    return "ClassVar" in ast.unparse(node.annotation)


def _class_of(source: str, node: ast.expr) -> ast.ClassDef | None:
    import ast

    if not isinstance(node, ast.Name):
        return None
    tree = ast.parse(source)
    return next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == node.id), None)


def _row(source: str, variable: str) -> str | None:
    """The name in a file's row; None where it has none."""
    import ast

    entry = _row_call(source, variable)
    if entry is None or not entry.args or not isinstance(entry.args[0], ast.Constant):
        return None
    return str(entry.args[0].value)


def _row_call(source: str, variable: str) -> ast.Call | None:
    """The call on the right of ``VARIABLE = Entry(...)``; only what follows it is parsed."""
    import ast

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


METHODS = Registry(
    "method", "laconic.methods", room("laconic.methods", "METHOD"), "laconic.methods.contract:Method"
)
TASKS = Registry("task", "laconic.tasks", room("laconic.tasks", "TASK"), "laconic.tasks.task:Task")
NETWORKS = Registry("network", "laconic.networks", room("laconic.zoo", "NETWORK"))
PRIORS = Registry(
    "prior",
    "laconic.priors",
    table(
        log_uniform="laconic.bayes.priors.log_uniform:LogUniform",
        normal="laconic.bayes.priors.normal:Normal",
    ),
)
SCHEDULES = Registry(
    "schedule",
    "laconic.schedules",
    table(
        one_shot="laconic.sparsify.timetables:OneShot",
        iterative="laconic.sparsify.timetables:Iterative",
        cubic="laconic.sparsify.timetables:Cubic",
    ),
)
OPTIMIZERS = Registry(
    "optimizer",
    "laconic.optimizers",
    table(adam="laconic.train.optimizers:Adam", sgd="laconic.train.optimizers:SGD"),
    factory=True,
)
RATE_SCHEDULES = Registry(
    "learning-rate schedule",
    "laconic.rate_schedules",
    table(linear="laconic.train.optimizers:LinearDecay"),
    factory=True,
)
