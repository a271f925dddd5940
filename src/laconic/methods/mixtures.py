r"""A mixture of Gaussians that a method learns beside the weights: its parameters, hyper-priors and rates.

The parameters sit on the network itself (an ``nn.Sequential`` would try to run a child that held them): means
:math:`\mu_j`, log precisions :math:`\log 1/s_j^2`, logits of the shares, and, where it is learned, the logit
of the share :math:`\pi_0` of zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laconic.bayes.priors import Beta, Gamma, GaussianMixture
from laconic.errors import InputError

PREFIX = "laconic_mixture_"
MEANS, PRECISIONS, LOGITS, ZERO = (PREFIX + part for part in ("means", "log_precisions", "logits", "zero"))
MOST = 255


@dataclass(frozen=True)
class MixtureSettings:
    r"""How a mixture starts, what holds it, and how fast it learns (Ullrich et al. 2017, section 3 and 5).

    Args:
        components: Gaussians beside what is at zero, 2 to 255 (the paper: 16; 64 for a ResNet).
        zero_share: :math:`\pi_0`, the share of what is at zero, in (0, 1).
        zero_beta: (a, b) of a Beta hyper-prior under which :math:`\pi_0` is learned (None: it stays).
        init_std: Standard deviation of all components at the start, in the weights' unit (None: at zero the
            root mean square of the weights, elsewhere half the gap between two means).
        zero_gamma: (shape, rate) of the Gamma hyper-prior of the precision at zero.
        gamma: The same of the other precisions. Both defaults hold a component about 0.02 wide, and keep it
            from collapsing onto a weight.
        means_lr: Learning rate of the means as a multiple of the weights'.
        precisions_lr: The same of the log precisions.
        shares_lr: The same of the logits of the shares.

    Raises:
        InputError: A setting outside its bounds.

    >>> MixtureSettings(components=1)
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: mixture: components must be 2 to 255, got 1. Cure: 16
    """

    components: int = 16
    zero_share: float = 0.999
    zero_beta: tuple[float, float] | None = None
    init_std: float | None = None
    zero_gamma: tuple[float, float] = (5000.0, 2.0)
    gamma: tuple[float, float] = (250.0, 0.1)
    means_lr: float = 0.2
    precisions_lr: float = 6.0
    shares_lr: float = 6.0

    def __post_init__(self) -> None:
        if not 2 <= self.components <= MOST:
            raise InputError(f"mixture: components must be 2 to {MOST}, got {self.components}. Cure: 16")
        if not 0 < self.zero_share < 1:
            raise InputError(
                f"mixture: zero_share must lie between 0 and 1, got {self.zero_share}. Cure: 0.999"
            )
        if self.init_std is not None and not 0 < self.init_std < math.inf:
            raise InputError(f"mixture: init_std must be above 0, got {self.init_std}. Cure: 0.1, or None")
        if not min(self.means_lr, self.precisions_lr, self.shares_lr) >= 0:
            raise InputError(
                f"mixture: learning rates must be >= 0, got {self.means_lr}, {self.precisions_lr} and "
                f"{self.shares_lr}. Cure: 0.2, 6 and 6"
            )
        for numbers in (self.zero_gamma, self.gamma):
            Gamma(*numbers)
        if self.zero_beta is not None:
            Beta(*self.zero_beta)


def attach_mixture(
    net: nn.Module, weights: Mapping[str, Tensor], settings: MixtureSettings, *, at_zero: bool
) -> None:
    """Register the mixture's parameters: means evenly over the range of the weights, equal shares.

    Args:
        net: A prepared network; it is changed.
        weights: Its weights as they are, by name.
        settings: What the mixture starts from.
        at_zero: Whether the mixture has a Gaussian at zero beside the ``components``.

    Raises:
        InputError: Weights of which all are equal: they have no range.
    """
    like = next(iter(weights.values())).detach()
    low = min(float(w.detach().min()) for w in weights.values())
    high = max(float(w.detach().max()) for w in weights.values())
    if not low < high:
        raise InputError(
            f"all weights are {low}: a mixture starts from the range of trained weights. "
            "Cure: train the network first, or begin from its usual random weights"
        )
    count = settings.components
    stds = torch.full((count + at_zero,), settings.init_std or 0.5 * (high - low) / (count - 1))
    if at_zero and settings.init_std is None:
        stds[0] = root_mean_square(weights)
    start = {
        MEANS: torch.linspace(low, high, count),
        PRECISIONS: -2.0 * stds.log(),
        LOGITS: torch.zeros(count),
    }
    if settings.zero_beta is not None:
        start[ZERO] = torch.tensor(math.log(settings.zero_share / (1 - settings.zero_share)))
    for name, value in start.items():
        net.register_parameter(name, nn.Parameter(value.to(like)))


def root_mean_square(weights: Mapping[str, Tensor]) -> float:
    """Of all weights together."""
    total = sum(float(w.detach().double().square().sum()) for w in weights.values())
    return math.sqrt(total / sum(w.numel() for w in weights.values()))


def mixture_parameters(net: nn.Module) -> dict[str, nn.Parameter]:
    """The mixture's parameters by name; none of a network without one."""
    return {n: p for n, p in net.named_parameters(recurse=False) if n.startswith(PREFIX)}


def without_mixture(net: nn.Module) -> nn.Module:
    """``net`` itself, its mixture removed."""
    for name in mixture_parameters(net):
        delattr(net, name)
    return net


def zero_share(net: nn.Module, settings: MixtureSettings) -> float | Tensor:
    r""":math:`\pi_0`: a number where it stays, a tensor where it is learned."""
    learned = mixture_parameters(net).get(ZERO)
    return settings.zero_share if learned is None else torch.sigmoid(learned)


def mixture_of(net: nn.Module, settings: MixtureSettings) -> GaussianMixture:
    """The mixture as a prior, differentiable in its parameters; what is at zero comes first if it is one of
    its Gaussians, with the share ``zero_share``, and is left out if it is not.
    """
    found = mixture_parameters(net)
    means: Tensor = found[MEANS]
    stds = (-0.5 * found[PRECISIONS]).exp()
    shares = torch.softmax(found[LOGITS], 0)
    if len(stds) > len(means):
        zero = zero_share(net, settings)
        zero = zero if isinstance(zero, Tensor) else means.new_tensor(zero)
        means = torch.cat([means.new_zeros(1), means])
        shares = torch.cat([zero.reshape(1), (1 - zero) * shares])
    return GaussianMixture(means, stds, shares)


def hyper_nats(net: nn.Module, settings: MixtureSettings) -> Tensor:
    """Nats of the mixture's parameters under their hyper-priors, above the least possible; a scalar."""
    found = mixture_parameters(net)
    precisions = found[PRECISIONS]
    at_zero = len(precisions) - len(found[MEANS])
    total = Gamma(*settings.gamma).nats(precisions[at_zero:])
    if at_zero:
        total = total + Gamma(*settings.zero_gamma).nats(precisions[:1])
    if ZERO in found and settings.zero_beta is not None:
        total = total + Beta(*settings.zero_beta).nats(found[ZERO])
    return total


def mixture_groups(net: nn.Module, settings: MixtureSettings, lr: float) -> list[dict[str, Any]]:
    """Optimiser groups of the mixture's parameters, never decayed."""
    rates = {
        MEANS: settings.means_lr,
        PRECISIONS: settings.precisions_lr,
        LOGITS: settings.shares_lr,
        ZERO: settings.shares_lr,
    }
    found = mixture_parameters(net)
    return [{"params": [p], "lr": lr * rates[name], "weight_decay": 0.0} for name, p in found.items()]


Floats = np.ndarray[Any, np.dtype[np.float64]]


def numbers_of(prior: GaussianMixture) -> tuple[Floats, Floats, Floats]:
    """Means, standard deviations and shares of a learned mixture, as float64 arrays."""
    means, stds, shares = (np.asarray(_array(p), np.float64) for p in (prior.means, prior.stds, prior.shares))
    return means, stds, shares


def _array(values: Any) -> Any:
    return values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values
