"""``--trusted``: a file's limits at the command line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laconic.pack import Limits

_WORDS = "any memory and time (default: 64 MiB + 16x the file, a second)"


def limits_of(trusted: bool) -> Limits:
    """The default limits, or none for a file that the user trusts."""
    from laconic.pack import Limits

    return Limits.trusted() if trusted else Limits()


def add_trusted(parser: argparse.ArgumentParser, words: str = _WORDS) -> None:
    """The option, on a command that reads a file."""
    parser.add_argument("--trusted", action="store_true", help=words)
