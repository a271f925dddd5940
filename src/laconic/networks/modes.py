"""Training and evaluation mode of a network's layers, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(net: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode within the block; afterwards each layer has its own mode again.

    Layers with posteriors compute with their means, batch norms with their running statistics.
    ``net.train(mode)`` would set all layers alike, and so a frozen batch norm back to training.

    Args:
        net: Any network.

    Returns:
        A context manager that gives the network.

    >>> net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
    >>> with evaluating(net):
    ...     [layer.training for layer in net]
    [False, False]
    >>> [layer.training for layer in net]
    [True, False]
    """
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield net
    finally:
        for module, training in modes:
            module.training = training
