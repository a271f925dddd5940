"""Text for tables: names shortened to a column, sizes in bytes. No torch."""

from __future__ import annotations

import re
import textwrap

WIDTH = 80
"""Columns of a terminal that all tables fit."""


def shortened(name: str, width: int) -> str:
    """A name in at most ``width`` characters; what does not fit is left out in the middle.

    >>> shortened("encoder.blocks.11.attention.query.weight", 20), shortened("fc1.weight", 20)
    ('encoder.b…ery.weight', 'fc1.weight')
    """
    if len(name) <= width:
        return name
    front = (width - 1) // 2
    return f"{name[:front]}…{name[len(name) - (width - 1 - front) :]}"


def size_text(count: float) -> str:
    """A number of bytes in three digits or so.

    >>> size_text(512), size_text(43990), size_text(1723360)
    ('512 B', '44.0 kB', '1.72 MB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            value = count / factor
            return f"{value:.2f} {unit}" if value < 10 else f"{value:.1f} {unit}"
    return f"{count:.0f} B"


def ratio_text(before: int, after: int, whose: str = "its") -> str:
    """How many times smaller a file is, and than what.

    >>> ratio_text(43990, 3956)
    '11.1x smaller than its 44.0 kB of float32'
    """
    return f"{before / max(1, after):.1f}x smaller than {whose} {size_text(before)} of float32"


def value_text(value: float, unit: str) -> str:
    """A metric's value with its unit: two decimals of a percentage, four digits of any other number.

    >>> value_text(0.8, "%"), value_text(0.123456, "mm"), value_text(0.97, "")
    ('0.80 %', '0.1235 mm', '0.97')
    """
    return f"{value:.2f} %" if unit == "%" else f"{value:.4g} {unit}".rstrip()


def wrapped(text: str, indent: int = 0) -> str:
    """Text in lines of at most 80 characters, each indented; a name with hyphens stays whole."""
    space = " " * indent
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=space,
        subsequent_indent=space,
        break_long_words=False,
        break_on_hyphens=False,
    )


def plain_words(text: str) -> str:
    """A docstring's line without its markup.

    >>> plain_words("As :class:`Task`, with ``memory``.")
    'As Task, with memory.'
    """
    return re.sub(r"(?::\w+:)?`+~?([^`]*)`+", r"\1", text)


def counted(number: float, noun: str) -> str:
    """A number and its noun, which takes an s unless there is one of it.

    >>> counted(1, "input"), counted(2, "input")
    ('1 input', '2 inputs')
    """
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
