"""The error of a property that does not hold."""

from __future__ import annotations


def require(holds: object, text: str) -> None:
    """Raises AssertionError with the property's text, unless it holds.

    Args:
        holds: Whether it does; its truth value counts.
        text: The property, with what was found instead.

    Raises:
        AssertionError: It does not hold.

    >>> require(1 + 1 == 2, "sums are right")
    >>> require(1 + 1 == 3, "sums are right")
    Traceback (most recent call last):
    ...
    AssertionError: does not hold: sums are right
    """
    if not holds:
        raise AssertionError(f"does not hold: {text}")
