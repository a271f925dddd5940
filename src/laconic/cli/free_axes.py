"""``--dynamic``: the axes of a network's inputs that are free in its file. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from laconic.errors import InputError

CURE = "Cure: --dynamic INPUT=AXIS:NAME, as x=0:batch,1:time"


def parse_dynamic(texts: Sequence[str]) -> Any:
    """The free axes of ``--dynamic INPUT=AXIS:NAME,...``, given once for each input.

    Without INPUT= they are those of the inputs in order.

    Args:
        texts: The values of the option.

    Returns:
        What a run file's ``dynamic`` holds: a table by input, or a list of tables.

    Raises:
        InputError: A text of another form, inputs that are named in part, or an input that is given twice.

    >>> parse_dynamic(["ids=0:batch,1:time", "mask=0:batch,1:time"])
    {'ids': {'0': 'batch', '1': 'time'}, 'mask': {'0': 'batch', '1': 'time'}}
    >>> parse_dynamic(["0:batch,1:time"])
    [{'0': 'batch', '1': 'time'}]
    """
    named: dict[str, dict[str, str]] = {}
    in_order: list[dict[str, str]] = []
    for text in texts:
        name, equals, axes = text.rpartition("=")
        if not equals:
            in_order.append(_axes(text, axes))
        elif name in named:
            raise InputError(f"--dynamic {text}: the input {name!r} is given twice. {CURE}")
        else:
            named[name] = _axes(text, axes)
    if named and in_order:
        raise InputError(f"--dynamic: inputs are named in part. {CURE}, for each input")
    return named or in_order


def _axes(text: str, axes: str) -> dict[str, str]:
    """``0:batch,1:time`` by axis."""
    found: dict[str, str] = {}
    for part in axes.split(","):
        axis, colon, name = part.strip().partition(":")
        if not colon or not axis.isdecimal() or not name:
            raise InputError(f"--dynamic {text!r} names no axis by number and name. {CURE}")
        found[axis] = name
    return found


def free_axes(given: Any) -> Any:
    """The free axes in the form that ``laconic.save`` takes.

    Args:
        given: What a run file's ``dynamic`` holds, or None.

    Returns:
        The same with axes as numbers; None for None.

    Raises:
        InputError: Anything but a table by input of a table by axis, or a list of such tables.

    >>> free_axes({"x": {"0": "batch", "1": "time"}})
    {'x': {0: 'batch', 1: 'time'}}
    """
    if given is None:
        return None
    if isinstance(given, Mapping) and given:
        return {str(name): _numbered(axes) for name, axes in given.items()}
    if isinstance(given, list) and given:
        return tuple(_numbered(axes) for axes in given)
    raise _wrong(given)


def _numbered(axes: Any) -> dict[int, str]:
    if not isinstance(axes, Mapping):
        raise _wrong(axes)
    if not all(str(axis).isdecimal() and isinstance(name, str) and name for axis, name in axes.items()):
        raise _wrong(axes)
    return {int(axis): name for axis, name in axes.items()}


def _wrong(given: Any) -> InputError:
    return InputError(
        f"dynamic: {given!r} does not say which axes are free. "
        'Cure: --dynamic x=0:batch,1:time, or in a run file dynamic.x = {0 = "batch", 1 = "time"}'
    )
