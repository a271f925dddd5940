"""What of a network is random: posteriors, gates, dropout, each with a switch to draw in evaluation mode too.

A source stands in a list on the network's root, so that copies and pickles of the network have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import nn

from laconic.errors import NotPreparedError
from laconic.networks.noise import NoiseSource

_SOURCES = "_laconic_stochastic"


class Stochastic(Protocol):
    """A source of a network's random numbers.

    ``sampling``: whether it draws in evaluation mode as well, once per forward pass: a weight, a gate or a
    dropout mask. ``noise``: where it draws from.
    """

    sampling: bool
    noise: NoiseSource


def add_stochastic(net: nn.Module, source: Stochastic) -> None:
    """Tell a network of what draws in its forward pass, so that :func:`sampling` switches it on.

    Args:
        net: The root of the network; it is changed.
        source: What draws.

    >>> from types import SimpleNamespace
    >>> net, mask = nn.Linear(2, 1), SimpleNamespace(sampling=False, noise=NoiseSource(0))
    >>> add_stochastic(net, mask)
    >>> with sampling(net):
    ...     mask.sampling
    True
    >>> mask.sampling
    False
    """
    net.__dict__.setdefault(_SOURCES, []).append(source)


def is_stochastic(net: nn.Module) -> bool:
    """Whether :func:`sampling` would switch anything on."""
    return bool(net.__dict__.get(_SOURCES))


@contextmanager
def sampling(net: nn.Module, noise: NoiseSource | None = None) -> Iterator[nn.Module]:
    """Sample in eval mode too, for Monte Carlo prediction: a network's own dropout and batch norm stay in
    eval.

    Each forward pass draws every weight, gate and dropout mask once, whole. In training, layers draw their
    pre-activations instead where they can (local reparameterisation), as if outputs that share a weight did
    not: a convolution's outputs would then vary less together than they do.

    Args:
        net: A prepared network.
        noise: Where to draw from within the block (None: from the network's own noise, which moves on).

    Returns:
        A context manager that gives the network.

    Raises:
        NotPreparedError: A network that draws nothing.

    >>> import torch
    >>> from laconic.bayes import GaussianFamily, make_bayesian
    >>> layer, wide = nn.Linear(4, 2), GaussianFamily(0.0)
    >>> net = make_bayesian(layer, example=torch.zeros(1, 4), posterior=wide, noise=NoiseSource(0)).eval()
    >>> with sampling(net):
    ...     bool((net(torch.ones(1, 4)) != net(torch.ones(1, 4))).any())
    True
    """
    sources: list[Stochastic] = net.__dict__.get(_SOURCES, [])
    if not sources:
        raise NotPreparedError(
            f"{type(net).__name__} draws nothing at random: it has no posteriors, gates or Bayesian dropout. "
            "Cure: laconic.prepare(model, method, ...) with a Bayesian method, as SparseVD()"
        )
    before = [(source.sampling, source.noise) for source in sources]
    try:
        for source in sources:
            source.sampling = True
            source.noise = source.noise if noise is None else noise
        yield net
    finally:
        for source, (was_sampling, was_noise) in zip(sources, before, strict=True):
            source.sampling, source.noise = was_sampling, was_noise
