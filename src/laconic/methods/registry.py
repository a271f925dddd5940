"""A method's row: its name, its class, how long it trains as a rule, and its paper. No torch of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from laconic.errors import InputError
from laconic.own import did_you_mean
from laconic.registry import METHODS, Entry

__all__ = ["MethodEntry", "Settings", "find_method", "method_names"]

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class MethodEntry(Entry):
    """A method's row: what the command line, the help, run files and the documentation read.

    Args:
        name: Its name in a run file and at the command line.
        kind: Its class, a frozen dataclass.
        presets: Dotted settings by preset ("full", "demo") and by network; "" is any other network. Fields
            of the method stand under their names, those of its training under ``fit.``, those of a built-in
            network's own training under ``reference.``.
        paper: Authors, title, venue and year.

    >>> find_method("sparse-vd").preset("full", "lenet5")["fit.epochs"]
    90
    """

    presets: Mapping[str, Mapping[str, Settings]] = field(default_factory=dict)
    paper: str = ""

    def preset(self, name: str, network: str | None = None) -> dict[str, Any]:
        """The dotted settings of a preset for one network; nothing where the method has no presets at all.

        Raises:
            InputError: No such preset.
        """
        if not self.presets:
            return {}
        if name not in self.presets:
            raise InputError(
                f"method {self.name} has no preset {name!r}. Cure: {did_you_mean(name, self.presets)}"
            )
        table = self.presets[name]
        return dict(table.get(network or "", table.get("", {})))


def method_names() -> tuple[str, ...]:
    """All registered names, in order; no method is imported.

    Returns:
        Names as at the command line.

    >>> "sparse-vd" in method_names()
    True
    """
    return METHODS.names()


def find_method(text: str) -> MethodEntry:
    """The method of this name, or that ``package.module:Class`` names.

    Args:
        text: A registered name, or a module, a colon and a class that is a :class:`laconic.methods.Method`.

    Returns:
        The method's row; of a class of one's own a row without presets.

    Raises:
        InputError: No such method, with the name that may have been meant.

    >>> find_method("sparse-vb")
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: there is no method 'sparse-vb'. Cure: did you mean sparse-vd?
    """
    found = METHODS.find(text)
    entry: MethodEntry = MethodEntry(text, found) if isinstance(found, type) else found
    return entry
