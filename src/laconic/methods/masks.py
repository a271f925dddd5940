"""Keep-masks that ride along with a prepared network: buffers, one per weight, so checkpoints hold them.

They sit on the network itself and not in a child module, which an ``nn.Sequential`` would try to run.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

PREFIX = "laconic_mask_"


def add_masks(net: nn.Module, weights: Sequence[Tensor]) -> None:
    """Register an all-true mask for each weight, in order."""
    for index, weight in enumerate(weights):
        net.register_buffer(f"{PREFIX}{index}", torch.ones_like(weight, dtype=torch.bool))


def masks_of(net: nn.Module) -> list[Tensor]:
    """The masks, in the order of the weights they were made for."""
    return [buffer for name, buffer in net.named_buffers(recurse=False) if name.startswith(PREFIX)]


def without_masks(net: nn.Module) -> nn.Module:
    """``net`` itself, its masks removed."""
    for name in [n for n, _ in net.named_buffers(recurse=False) if n.startswith(PREFIX)]:
        delattr(net, name)
    return net
