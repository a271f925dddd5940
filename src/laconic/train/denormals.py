"""Denormal floats counted as zero: weights that training draws to zero, and Adam's moments of them, end among
denormal floats, with which a processor's step takes several times as long.

A processor flag of each thread says so. Threads take it from the one that starts them, so it is set before
torch starts its own, by the command alone: in a program of the user's that has torch's threads already, only
one of them would have it, and sums would depend on which.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def are_zero() -> bool:
    """Whether this thread counts denormal floats as zero."""
    return bool((torch.full((), 1e-40) * 1.0) == 0)


@contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Count them as zero within the block, where the processor can, and put the flag back afterwards.

    >>> with denormals_as_zero():
    ...     float(torch.full((), 1e-40) * 1.0)
    0.0
    """
    before = are_zero()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
