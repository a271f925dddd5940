"""Distributions over parameters that a network holds: by which names, and how they are built again.

A network holds only parameters: copies, state dicts and optimisers then work as in any other network. The
distribution (a posterior of weights, a gate of units) is built from them whenever it is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Parametric:
    """A frozen dataclass whose tensors are a network's parameters; other fields are plain settings.

    ``weight`` names the field that is the network's own weight tensor (None where there is none).
    """

    weight: ClassVar[str | None] = None

    def parameters(self) -> dict[str, Tensor]:
        """The tensors by suffix: ``_`` and the field's name, or an empty suffix for the weight itself.

        A network holds the parameter of suffix ``_log_var`` of ``fc.weight`` as ``fc.weight_log_var``.
        """
        return {self._suffix(name): value for name, value in self._tensors()}

    def with_parameters(self, given: Mapping[str, Tensor]) -> Self:
        """The same distribution over other tensors.

        Args:
            given: A tensor for each suffix of :meth:`parameters`.
        """
        return dataclasses.replace(self, **{name: given[self._suffix(name)] for name, _ in self._tensors()})

    def _suffix(self, name: str) -> str:
        return "" if name == self.weight else f"_{name}"

    def _tensors(self) -> list[tuple[str, Tensor]]:
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return [(name, value) for name, value in values if isinstance(value, Tensor)]
