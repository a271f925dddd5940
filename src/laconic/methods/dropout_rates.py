"""What variational dropout and Monte Carlo dropout share: rates, and what they are of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from laconic.bayes.posteriors import Family, InputNoise, Multiplicative, Posterior
from laconic.errors import InputError
from laconic.networks.policy import Policy, weights_of
from laconic.structure.coupling.sides import axes_of

Per = Literal["layer", "unit", "weight"]


def check_rate(name: str, rate: float) -> None:
    """Raises InputError for a dropout rate outside (0, 1)."""
    if not 0.0 < rate < 1.0:
        raise InputError(
            f"{name} is the probability that an input is dropped, in (0, 1), got {rate}. Cure: 0.5"
        )


def log_alpha_of(rate: float) -> float:
    r""":math:`\log\alpha` of a dropout rate p, :math:`\alpha = p/(1 - p)` (Kingma et al. 2015, section 3).

    >>> log_alpha_of(0.5)
    0.0
    """
    return math.log(rate) - math.log1p(-rate)


@dataclass(frozen=True)
class Rates:
    """Dropout rates at the start, and what they are of.

    Args:
        rate: Probability p that an input is dropped; Gaussian noise of the same variance, p / (1 - p).
        first_rate: That of the network's first weight tensor (None: ``rate``).
        on_inputs: Whether the weights that read an input share its noise, or each has its own.
        per: What has a rate: all inputs of a layer, each input (``unit``), each ``weight``.
        bernoulli: Whether inputs are dropped, or multiplied by Gaussian noise.
        learned: Whether rates are trained.

    Raises:
        InputError: A rate outside (0, 1); rates by weight of noise on inputs.
    """

    rate: float
    first_rate: float | None = None
    on_inputs: bool = True
    per: Per = "layer"
    bernoulli: bool = False
    learned: bool = False

    def __post_init__(self) -> None:
        check_rate("rate", self.rate)
        if self.first_rate is not None:
            check_rate("first_rate", self.first_rate)
        if self.on_inputs and self.per == "weight":
            raise InputError(
                "noise on a layer's inputs has a rate for each input at most, got per='weight'. "
                "Cure: per='unit', or independent noise of the weights (noise='B')"
            )

    def family(self, model: nn.Module, policy: Policy) -> Family:
        """The noise around each weight of a plain network."""
        first = next(iter(weights_of(model, policy=policy)), None)

        def make(name: str, weight: nn.Parameter) -> Posterior:
            rate = self.rate if name != first or self.first_rate is None else self.first_rate
            axis, units = inputs_of(model, name, weight)
            by_input = [n if k == axis else 1 for k, n in enumerate(weight.shape)]
            shape = {"layer": [], "unit": by_input, "weight": list(weight.shape)}[self.per]
            start = torch.full(shape, log_alpha_of(rate), dtype=weight.dtype, device=weight.device)
            log_alpha = nn.Parameter(start, requires_grad=self.learned)
            if self.on_inputs:
                return InputNoise(weight, log_alpha, axis, units, self.bernoulli)
            return Multiplicative(weight, log_alpha)

        return make


def inputs_of(model: nn.Module, name: str, weight: torch.Tensor) -> tuple[int, int]:
    """The axis along which a weight reads inputs, and how many inputs there are.

    A row of an embedding is an input: a look-up multiplies the table by a one-hot vector. Channels at the
    same place of a grouped convolution's groups share a position of that axis.

    >>> net = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Embedding(5, 2), nn.ConvTranspose1d(4, 6, 3))
    >>> [inputs_of(net, name, p) for name, p in net.named_parameters() if p.ndim > 1]
    [(1, 4), (0, 5), (0, 4)]
    """
    reads = axes_of(model, name)[1]
    if reads is None:
        return 0, weight.shape[0]
    owner = model.get_submodule(name.rpartition(".")[0])
    return reads, weight.shape[reads] * (getattr(owner, "groups", 1) if reads == 1 else 1)
