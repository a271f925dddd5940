"""The rules for docstrings of public names see what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tests.helpers.docstring_rules import missing, public, violations


def complete(width: int) -> int:
    """Twice the width.

    Args:
        width: Units of a layer.

    Returns:
        As many units again.

    Raises:
        ValueError: width is negative.

    Example:
        >>> complete(2)
        4
    """
    if width < 0:
        raise ValueError(width)
    return 2 * width


def bare(width: int) -> int:
    """Twice the width, where ``width:`` stands in the text alone."""
    if width < 0:
        raise ValueError(width)
    return 2 * width


@dataclass(frozen=True)
class Facts:
    """What was counted.

    Attributes:
        macs: Multiply-accumulates of a forward pass.

    Example:
        >>> Facts(3, 4).macs
        3
    """

    macs: int
    bytes: int


class Reader(Protocol):
    """What can be read: no example shows anything."""

    def read(self) -> bytes: ...


def test_a_complete_docstring_lacks_nothing() -> None:
    assert missing(complete) == []
    assert missing(Reader) == []


def test_each_missing_part_is_named() -> None:
    assert missing(bare) == ["Args: width", "Returns", "Raises", "example"]
    assert missing(Facts) == ["Args: bytes"]


def test_public_names_are_found_in_many_rooms() -> None:
    rooms = {thing.__module__.split(".")[1] for thing in public()}
    assert {"bayes", "methods", "pack", "runtime", "tasks"} <= rooms


def test_every_public_name_is_documented() -> None:
    assert violations() == []
