"""Inputs by their names, and outputs by theirs: what a call of a network takes and returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from laconic.errors import InputError
from laconic.records import AnyArray

Returned = AnyArray | tuple[AnyArray, ...] | dict[str, AnyArray]


def in_order(
    names: Sequence[str], arrays: Sequence[AnyArray], named: Mapping[str, AnyArray]
) -> tuple[AnyArray, ...]:
    """The inputs in the network's order: those given by position, then those given by name.

    Raises ``InputError`` for a name that no input has, or has already been given by position.
    """
    if names == ["input"] and "x" in named:  # the other name that stands in no file
        named = {"input" if name == "x" else name: array for name, array in named.items()}
    rest = names[len(arrays) :]
    for name in named:
        if name not in rest:
            reason = "was given by position already" if name in names else "is no input"
            told = f"{name!r} {reason}; the network's inputs are, in order: {', '.join(names)}"
            raise InputError(f"{told}. Cure: {_cure(name, names, rest)}")
    missing = [name for name in rest if name not in named]
    if missing:
        raise InputError(
            f"input {missing[0]!r} is missing; the inputs are, in order: {', '.join(names)}. "
            f"Cure: {missing[0]}=array"
        )
    return (*arrays, *(named[name] for name in rest))


def _cure(name: str, names: Sequence[str], rest: Sequence[str]) -> str:
    """What to do with a name that does not fit: leave it out, or one of those that are free."""
    return f"leave {name!r} out" if name in names or not rest else f"{rest[0]}=array, or leave {name!r} out"


def returned(keys: Sequence[str], results: Sequence[AnyArray]) -> Returned:
    """The outputs as the module returned them: by their names for a dictionary, else alone or as a tuple.

    >>> returned((), ["y"]), returned(("a", "b"), [1, 2])
    ('y', {'a': 1, 'b': 2})
    """
    if keys:
        return dict(zip(keys, results, strict=True))
    return results[0] if len(results) == 1 else tuple(results)
