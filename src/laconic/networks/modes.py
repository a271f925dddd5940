"""Training and evaluation mode of a network's layers, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; afterwards each layer is in its own mode again.

    ``module.train(mode)`` would set all layers alike, and so set a frozen batch norm going again.

    >>> net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2).eval())
    >>> with evaluating(net):
    ...     [layer.training for layer in net]
    [False, False]
    >>> [layer.training for layer in net]
    [True, False]
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
