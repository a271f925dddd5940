"""Layers of a gated network: every tensor of a gated group is read times its gates.

A plain layer and one whose weights are drawn whole see the product under the weight's name. A layer that
draws its pre-activations from its weights' moments (local reparameterisation) sees moments given the gates.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import Tensor, nn

from laconic.bayes.layers.variational import Variational

GATING = "_laconic_gating"
NAMES = GATING + "_names"


def gated_class(plain: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    """A subclass of a layer's class in which the tensors ``names`` are multiplied by their gates."""
    members: Mapping[str, Any] = {name: _multiplied(plain, name) for name in names}
    bases = (_GatedMoments, plain) if issubclass(plain, Variational) else (plain,)
    return type(f"Gated{plain.__name__}", bases, {"__module__": plain.__module__, **members})


class _GatedMoments(Variational):
    """Mixin of layers with posteriors: given its gates z, a weight has mean z E[w], variance z^2 Var[w]."""

    def bayes_mean(self, name: str) -> Tensor:
        """The mean times the gates."""
        mean, factor = super().bayes_mean(name), self._factor(name)
        return mean if factor is None else mean * factor

    def bayes_moments(self, name: str) -> tuple[Tensor, Tensor]:
        """Both, times the gates and their squares."""
        (mean, variance), factor = super().bayes_moments(name), self._factor(name)
        return (mean, variance) if factor is None else (mean * factor, variance * factor.square())

    def bayes_std(self, name: str, pick: Callable[[Tensor], Tensor]) -> Tensor:
        """The deviations times the gates' sizes."""
        std, factor = super().bayes_std(name, pick), self._factor(name)
        return std if factor is None else std * pick(factor.abs().expand_as(self._like(name)))

    def _factor(self, name: str) -> Tensor | None:
        gated = self.__dict__.get(NAMES, {}).get(name)
        return None if gated is None else self.__dict__[GATING].factor(gated, self._like(name))

    def _like(self, name: str) -> Tensor:
        return cast(Tensor, self._parameters[name])


def _multiplied(plain: type[nn.Module], name: str) -> property:
    drawn = inspect.getattr_static(plain, name, None)  # of a layer whose weights are drawn whole

    def read(self: nn.Module) -> Tensor | None:
        tensor = self._parameters[name] if name in self._parameters else self._buffers[name]
        if isinstance(drawn, property) and drawn.fget is not None:
            tensor = drawn.fget(self)
        gating = self.__dict__.get(GATING)
        return (
            tensor if tensor is None or gating is None else gating.gated(self.__dict__[NAMES][name], tensor)
        )

    return property(read, doc=f"The tensor {name!r} times the gates of the units that it makes or reads.")
