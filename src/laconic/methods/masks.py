"""Keep-masks that ride along with a prepared network: buffers, one per weight, so checkpoints hold them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MASKS = "laconic_masks"


def add_masks(net: nn.Module, weights: Sequence[Tensor]) -> None:
    """Register an all-true mask for each weight, in order."""
    masks = nn.Module()
    for index, weight in enumerate(weights):
        masks.register_buffer(str(index), torch.ones_like(weight, dtype=torch.bool))
    net.add_module(MASKS, masks)


def masks_of(net: nn.Module) -> list[Tensor]:
    """The masks, in the order of the weights they were made for."""
    return list(net.get_submodule(MASKS).buffers())


def without_masks(net: nn.Module) -> nn.Module:
    """``net`` itself, its masks removed (a plain copy has none to begin with)."""
    if hasattr(net, MASKS):
        delattr(net, MASKS)
    return net
