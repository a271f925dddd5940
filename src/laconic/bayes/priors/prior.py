"""The protocol of a prior."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Prior(Protocol):
    """A prior of weights: its parameters, and ``improper``.

    ``improper`` says that it has no normaliser: its KL is known up to a constant, and is no code length. The
    rule of a pair of posterior and prior stands under :func:`laconic.bayes.register_kl`.

    >>> from laconic.bayes.priors import Normal
    >>> isinstance(Normal(), Prior)
    True
    """

    @property
    def improper(self) -> bool:
        """Whether the prior has no normaliser."""
