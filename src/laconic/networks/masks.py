"""Masks of a prepared network: buffers of 0 and 1 on its root, read as booleans.

They are stored as int8 because ``torch.optim.swa_utils.AveragedModel(use_buffers=True)`` averages all
buffers: it fails on booleans, or leaves them as they are. An average of int8 is cut to whole numbers, so it
is 1 where all masks were. Every mask here goes from 1 to 0 alone, or does not change: the average is the
newest mask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def add_mask(net: nn.Module, name: str, mask: Tensor) -> None:
    """Register a buffer on the network.

    Args:
        net: The network.
        name: The buffer's name.
        mask: Booleans.

    >>> net = nn.Linear(2, 1)
    >>> add_mask(net, "mask", torch.tensor([True, False]))
    >>> as_mask(net.mask).logical_not_(), net.mask
    (tensor([False,  True]), tensor([0, 1], dtype=torch.int8))
    """
    net.register_buffer(name, mask.to(torch.int8))


def as_mask(buffer: Tensor) -> Tensor:
    """Booleans in the memory of a buffer that :func:`add_mask` made: what is written to them is kept."""
    return buffer.view(torch.bool)
