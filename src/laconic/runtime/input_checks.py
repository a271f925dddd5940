"""Arrays that a network does not take: what is wrong with them, and the cure.

Imported when an array is not as expected: a call that runs does without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from laconic.errors import InputError
from laconic.records import AnyArray, ValueSpec, default_name
from laconic.text import counted


def check(inputs: Sequence[ValueSpec], arrays: Sequence[AnyArray]) -> None:
    """Refuse arrays that are not the inputs of a network, in order.

    Checked are number, type, rank and fixed sizes, and that free dimensions of one name have one size.

    Raises:
        InputError: It names the input, what was expected, what came, and the cure.
    """
    if len(arrays) != len(inputs):
        names = ", ".join(spec.name for spec in inputs)
        raise InputError(
            f"the network takes {counted(len(inputs), 'input')} ({names}), got {len(arrays)}. "
            "Cure: all of them, in this order"
        )
    sizes: dict[str, tuple[int, str]] = {}  # of each free axis, and the first input that has it
    for k, (spec, array) in enumerate(zip(inputs, arrays, strict=True)):
        named = spec.name != default_name("input", k, len(inputs))
        who = f"input {spec.name!r}" if named else f"input {k}"
        if not isinstance(array, np.ndarray):
            raise InputError(f"{who} must be a NumPy array, got {type(array).__name__}. Cure: numpy.asarray")
        if str(array.dtype) != spec.dtype:
            raise InputError(f"{who} must be {spec.dtype}, got {array.dtype}. Cure: x.astype('{spec.dtype}')")
        for size, dim in zip(array.shape, spec.sizes, strict=False):
            if isinstance(dim, str):
                sizes.setdefault(dim, (size, who))
        wanted = tuple(sizes[d][0] if isinstance(d, str) and d in sizes else d for d in spec.sizes)
        if array.shape != wanted:
            raise InputError(
                f"{who} must have shape {shape_text(spec)}, got "
                f"({', '.join(map(str, array.shape))}){_known(spec, array.shape, sizes)}. "
                f"Cure: {_cure(spec.shape, array.shape)}"
            )


def _known(spec: ValueSpec, got: tuple[int, ...], sizes: Mapping[str, tuple[int, str]]) -> str:
    """The axes whose size another input says otherwise, in words."""
    others = [
        f"{dim} is {sizes[dim][0]} in {sizes[dim][1]}"
        for dim, size in zip(spec.sizes, got, strict=False)
        if isinstance(dim, str) and sizes[dim][0] != size
    ]
    return f" ({', '.join(others)})" if others else ""


def shape_text(spec: ValueSpec) -> str:
    """The shape of an input as text, each free dimension by its name.

    >>> shape_text(ValueSpec("float32", (None, 3)))
    '(any, 3)'
    """
    shape = spec.sizes if spec.axes else spec.shape
    return "(" + ", ".join("any" if d is None else str(d) for d in shape) + ")"


def _cure(expected: tuple[int | None, ...], got: tuple[int, ...]) -> str:
    rest = zip(expected[1:], got, strict=False)
    if len(got) == len(expected) - 1 and expected[:1] == (None,) and all(e in (None, g) for e, g in rest):
        return "add the batch dimension: x[None]"
    if expected.count(None) > 0 and len(got) == len(expected):
        return "give arrays of the sizes the network was captured with, and one size for each free axis"
    return "reshape the array, or capture the network again with an example of this shape"
