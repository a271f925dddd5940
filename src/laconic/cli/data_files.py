"""``--data FILE.npz``: labelled examples by name, as in mnist.npz. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from laconic.cli.array_checks import array_names
from laconic.errors import DataError, InputError
from laconic.records import AnyArray

NAMES = "x_train, y_train, x_test, y_test (and x_val, y_val), or x and y alone"
"""What a file of labelled examples holds."""
SHARE = 7
"""One example of so many is taken out where a validation or a test set is not given."""
MOST = 5000
"""The most examples of a validation set that is taken out."""
_ENDS = {"train": ("_train",), "validation": ("_val", "_valid", "_validation"), "test": ("_test",)}


class Examples(NamedTuple):
    """Inputs, with the examples along their first axis, and as many targets."""

    inputs: AnyArray
    targets: AnyArray


def check_names(name: str) -> None:
    """Refuse a file whose arrays have other names, by their heads, which are all that is read.

    Raises:
        InputError: Names the file, its arrays, and what it must hold.
    """
    found = array_names(name)
    if found:
        _pairs(name, found)


def parts_of(name: str, arrays: Mapping[str, AnyArray], seed: int) -> dict[str, Examples]:
    """Training, validation and test examples of a file.

    Args:
        name: The file's name.
        arrays: Its arrays: ``x_train``, ``y_train``, ``x_test``, ``y_test``, and ``x_val``, ``y_val`` if
            there are any; or ``x`` and ``y`` alone.
        seed: Which examples are taken out for validation, and for the test where there is none.

    Returns:
        ``train``, ``validation`` and, if there are any, ``test``.

    Raises:
        InputError: Arrays of other names, or images in bytes.
        DataError: Inputs without examples, or another number of targets; too few to take any out.
    """
    pairs = _pairs(name, list(arrays))
    found = {part: _examples(name, arrays, *names) for part, names in pairs.items()}
    generator = np.random.Generator(np.random.PCG64(seed))
    if "all" in found:
        found["train"] = found.pop("all")
        found["train"], found["test"] = _taken_out(name, found["train"], generator)
    if "validation" not in found:
        found["train"], found["validation"] = _taken_out(name, found["train"], generator)
    return found


def test_part(name: str, arrays: Mapping[str, AnyArray]) -> tuple[str, Examples]:
    """The test examples of a file, and what they are called: ``x_test`` and ``y_test``, or all of x and y."""
    pairs = _pairs(name, list(arrays), training=False)
    part = "test" if "test" in pairs else "all"
    if part not in pairs:
        raise InputError(f"--data {name} holds no test examples. Cure: x_test and y_test, or x and y alone")
    return ("test" if part == "test" else "x, y:"), _examples(name, arrays, *pairs[part])


def _pairs(name: str, there: Sequence[str], *, training: bool = True) -> dict[str, tuple[str, str]]:
    """By part the names of its two arrays; ``all`` for x and y alone."""
    ends = {part: [e for e in every if {f"x{e}", f"y{e}"} <= set(there)] for part, every in _ENDS.items()}
    pairs = {part: (f"x{found[0]}", f"y{found[0]}") for part, found in ends.items() if found}
    if {"x", "y"} <= set(there) and not pairs:
        pairs = {"all": ("x", "y")}
    if not pairs or (training and not {"train", "all"} & set(pairs)):
        held = ", ".join(sorted(there)[:8]) or "no array"
        raise InputError(
            f"--data {name} holds {held}, and no labelled training examples. Cure: numpy.savez with the "
            f"names {NAMES}; inputs without labels go to --calibrate"
        )
    return pairs


def _examples(name: str, arrays: Mapping[str, AnyArray], inputs: str, targets: str) -> Examples:
    x, y = arrays[inputs], arrays[targets]
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or not len(x):
        raise DataError(
            f"--data {name}: {inputs} has the shape {x.shape}, {targets} the shape {y.shape}. "
            "Cure: one target for each example, along the first axes"
        )
    for what, array in ((inputs, x), (targets, y)):
        if array.dtype.kind not in "fiub":
            raise InputError(f"--data {name}: {what} is of type {array.dtype}. Cure: numbers")
    if x.dtype == np.uint8:
        raise InputError(
            f"--data {name}: {inputs} is of type uint8, and a network takes its inputs as floating-point "
            f"numbers, scaled as in training. Cure: {inputs}=images.astype('float32') / 255, with channels "
            "first: (N, C, H, W)"
        )
    return Examples(_as(x), _as(y))


def _as(array: AnyArray) -> AnyArray:
    """Floats as float32, integers as int64, booleans as they are."""
    kinds: dict[str, Any] = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}
    return np.asarray(array, kinds[array.dtype.kind], order="C")


def _taken_out(name: str, whole: Examples, generator: np.random.Generator) -> tuple[Examples, Examples]:
    """What is left of some examples, and a random share of them."""
    count = min(MOST, len(whole.inputs) // SHARE)
    if count < 1:
        raise DataError(
            f"--data {name}: {len(whole.inputs)} examples are too few to take one of {SHARE} out. "
            f"Cure: more, or all of {NAMES}"
        )
    order = generator.permutation(len(whole.inputs))
    out, left = np.sort(order[:count]), np.sort(order[count:])
    return tuple(Examples(whole.inputs[k], whole.targets[k]) for k in (left, out))  # type: ignore[return-value]
