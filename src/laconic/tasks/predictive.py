r"""How targets are distributed given a network's outputs, and the Hessian of their negative log-likelihood.

The Hessian in the outputs z depends on no target, :math:`H = S S^\top`, and equals the Fisher information,
:math:`\mathbb{E}_{y \sim p(y|z)}[\nabla \log p\, \nabla \log p^\top]`. A random :math:`S \varepsilon` with
independent signs :math:`\varepsilon` has the same second moment as the gradient at a drawn label, and less
variance: labels that an overconfident network draws are almost always its own prediction, where the gradient
vanishes.

Sources: Martens, New Insights and Perspectives on the Natural Gradient Method, JMLR 2020, sections 8 and 9;
Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (temperature).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from laconic.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Bernoulli", "Categorical", "Gaussian", "Predictive"]


@dataclass(frozen=True)
class Predictive(ABC):
    """The distribution of a target given outputs, term by term.

    Args:
        temperature: T > 0: logits are divided by it, a standard deviation is multiplied.

    Raises:
        InputError: A temperature that is not positive and finite.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise InputError(
                f"temperature must be finite and > 0, got {self.temperature}. Cure: temperature=1"
            )

    def at(self, temperature: float) -> Predictive:
        """The same distribution at another temperature."""
        return replace(self, temperature=temperature)

    @abstractmethod
    def root(self, outputs: Tensor, directions: Tensor) -> Tensor:
        """S times directions of the outputs' shape, for all terms at once; S S^T is the Hessian."""

    def positions(self, outputs: Tensor) -> int:
        """The number of terms of a batch of which none is ignored: here, the number of outputs."""
        return outputs.numel()

    def masked(self, vectors: Tensor, counted: Tensor | None) -> Tensor:
        """Vectors of the outputs' shape with zeros at the positions of a target that are no terms."""
        return vectors if counted is None else vectors * counted.reshape(vectors.shape).to(vectors)


@dataclass(frozen=True)
class Categorical(Predictive):
    r"""One of C classes: :math:`H = (\operatorname{diag} p - p p^\top) / T^2`, p = softmax(z / T).

    .. math:: S = (\operatorname{diag}\sqrt p - p \sqrt p^{\,\top}) / T

    Args:
        temperature: Divides the logits.
        axis: The axis of the classes.

    >>> import torch
    >>> one = Categorical(axis=1)
    >>> columns = [one.root(torch.zeros(1, 2), e[None])[0] for e in torch.eye(2)]
    >>> sum(torch.outer(c, c) for c in columns).round(decimals=4).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """

    axis: int = 1

    def root(self, outputs: Tensor, directions: Tensor) -> Tensor:
        """S times directions of the outputs' shape."""
        p = (outputs.detach() / self.temperature).softmax(self.axis)
        r = p.sqrt()
        return (r * directions - p * (r * directions).sum(self.axis, keepdim=True)) / self.temperature

    def positions(self, outputs: Tensor) -> int:
        """The number of outputs divided by that of classes."""
        return outputs.numel() // max(outputs.shape[self.axis], 1)

    def masked(self, vectors: Tensor, counted: Tensor | None) -> Tensor:
        """All classes of a position are left out together."""
        return vectors if counted is None else vectors * counted.unsqueeze(self.axis).to(vectors)


@dataclass(frozen=True)
class Bernoulli(Predictive):
    r"""Zero or one, by a logit: :math:`H = p (1 - p) / T^2`, p = sigmoid(z / T).

    Args:
        temperature: Divides the logits.

    >>> import torch
    >>> Bernoulli().root(torch.zeros(2), torch.ones(2)).tolist()
    [0.5, 0.5]
    """

    def root(self, outputs: Tensor, directions: Tensor) -> Tensor:
        """S times directions of the outputs' shape."""
        p = (outputs.detach() / self.temperature).sigmoid()
        return directions * (p * (1 - p)).sqrt() / self.temperature


@dataclass(frozen=True)
class Gaussian(Predictive):
    r"""A quantity with Gaussian noise: :math:`H = 1 / (T s)^2`.

    Args:
        temperature: Multiplies the noise.
        noise: s, the standard deviation in the output's unit, > 0; a tuple has one for each output on axis 1.

    Raises:
        InputError: A noise that is not positive and finite.

    >>> import torch
    >>> Gaussian(noise=2.0).root(torch.zeros(2), torch.ones(2)).tolist()
    [0.5, 0.5]
    """

    noise: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for s in self.noise if isinstance(self.noise, tuple) else (self.noise,):
            if not (s > 0 and math.isfinite(s)):
                raise InputError(f"noise must be finite and > 0, got {self.noise}. Cure: noise=1")

    def root(self, outputs: Tensor, directions: Tensor) -> Tensor:
        """S times directions of the outputs' shape."""
        if not isinstance(self.noise, tuple):
            return directions / (self.noise * self.temperature)
        s = outputs.new_tensor(self.noise).reshape(-1, *(1 for _ in outputs.shape[2:]))
        return directions / (s * self.temperature)
