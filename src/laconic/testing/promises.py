"""How a broken promise is told."""

from __future__ import annotations


def promise(kept: object, text: str) -> None:
    """Raises AssertionError with the promise, unless it is kept.

    Args:
        kept: Whether it is; its truth value counts.
        text: The promise, with what was found instead.

    Raises:
        AssertionError: It is not kept.

    >>> promise(1 + 1 == 2, "sums are right")
    >>> promise(1 + 1 == 3, "sums are right")
    Traceback (most recent call last):
    ...
    AssertionError: broken promise: sums are right
    """
    if not kept:
        raise AssertionError(f"broken promise: {text}")
