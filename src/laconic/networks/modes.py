"""The training flags of a network's layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def means_only(net: nn.Module) -> Iterator[nn.Module]:
    """Eval mode within the block: posterior means, running statistics. Then each layer has its mode again.

    Args:
        net: Any network.

    Returns:
        A context manager that gives the network.

    >>> net = nn.Dropout()
    >>> with means_only(net):
    ...     net.training
    False
    >>> net.training
    True
    """
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield net
    finally:
        for module, mode in modes.items():
            module.training = mode
