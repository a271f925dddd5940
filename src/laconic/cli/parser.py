"""The parser of arguments: errors offer the nearest name, help lists registered names. No torch."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help texts as they are written, in at most 100 columns.

    The width is given: argparse would import ``shutil`` for it, 8 of the 50 ms that a help text takes.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=max(40, min(100, _columns() - 2)))


def _columns() -> int:
    """Columns of the terminal: the environment's, the terminal's own, or 80."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size().columns or 80
    except OSError:  # no terminal
        return 80


class Parser(argparse.ArgumentParser):
    """A parser whose errors offer the nearest name; its help lists registered names when it is shown."""

    registries: Mapping[str, str] = {}
    """What NAMES stands for in the help of an argument: a registry of laconic.registry."""

    def format_help(self) -> str:
        """The help text; NAMES in the help of an argument becomes the names of its registry."""
        for action in self._actions:
            if action.dest in self.registries and action.help:
                from laconic import registry  # half of what the start of a help text would take

                names = ", ".join(getattr(registry, self.registries[action.dest]).names())
                action.help = action.help.replace("NAMES", names)
        return super().format_help()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The arguments; an unknown option is an error that says which was meant."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            from laconic.own import did_you_mean

            parser = getattr(found, "parser", self)
            known = [text for action in parser._actions for text in action.option_strings]
            option = unknown[0].partition("=")[0]
            cure = did_you_mean(option, known) if option.startswith("-") else f"laconic {parser.prog} --help"
            parser.error(f"unknown argument {unknown[0]}. Cure: {cure}")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            from laconic.own import did_you_mean

            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action, f"there is no {value!r}. Cure: {did_you_mean(str(value), known)}"
            )


def add_command(commands: argparse._SubParsersAction[Any], name: str, summary: str, epilog: str) -> Parser:
    """A command of the parser, with its summary and examples."""
    made: Parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=epilog,
        formatter_class=HelpFormatter,
    )
    return made
