"""What a prior's fields may hold: one clear error in place of a wrong number or a foreign traceback."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from laconic.errors import InputError

WIDTHS = (1e-15, 1e15)
"""Between which deviations and scales lie, in the weights' unit: float32 holds their squares."""


def is_number(value: object) -> bool:
    """Whether a value is a real number, and no truth value.

    >>> is_number(0.5), is_number(True), is_number("0.5")
    (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def check_numbers(prior: object, **usual: float) -> None:
    """Raises InputError for a field that is no number; NaN and bounds are the prior's own matter.

    Args:
        prior: The prior.
        **usual: By field, what the cure says.
    """
    for name, cure in usual.items():
        if not is_number(value := getattr(prior, name)):
            raise _wrong(prior, name, "a number", value, f"{cure:g}")


def check_widths(prior: object, **usual: float) -> None:
    """Raises InputError for a deviation or scale whose square float32 does not hold."""
    for name, cure in usual.items():
        if not WIDTHS[0] <= (value := getattr(prior, name)) <= WIDTHS[1]:
            wanted = f"within [{WIDTHS[0]:g}, {WIDTHS[1]:g}], in the weights' unit,"
            raise _wrong(prior, name, wanted, value, f"{cure:g}")


def check_flags(prior: object, *names: str) -> None:
    """Raises InputError for a field that is neither True nor False."""
    for name in names:
        if not isinstance(value := getattr(prior, name), bool):
            raise _wrong(prior, name, "True or False", value, "False")


def check_tuples(prior: object, **usual: str) -> None:
    """Raises InputError for a field that is no tuple of numbers; a tensor or None passes.

    Args:
        prior: The prior.
        **usual: By field, what the cure says.
    """
    for name, cure in usual.items():
        value = getattr(prior, name)
        if value is None or isinstance(value, Tensor):
            continue
        if not isinstance(value, Sequence) or not all(map(is_number, value)):
            raise _wrong(prior, name, "a tuple of numbers", value, cure)


def check_kind(prior: object, name: str, kind: type | tuple[type, ...], told: str, cure: str) -> None:
    """Raises InputError for a field that is of no such kind."""
    if not isinstance(value := getattr(prior, name), kind):
        raise _wrong(prior, name, told, value, cure)


def _wrong(prior: object, name: str, told: str, value: Any, cure: str) -> InputError:
    got = value.__name__ if isinstance(value, type) else f"{value!r:.60}"
    return InputError(f"{type(prior).__name__}.{name} must be {told}, got {got}. Cure: {name}={cure}")
