"""Keep-masks of a prepared network: buffers, one for each weight, so that checkpoints hold them.

They sit on the network itself and not in a child module, which an ``nn.Sequential`` would try to run.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from laconic.networks.masks import add_mask, as_mask

PREFIX = "laconic_mask_"
_NAMES = "_laconic_masked"


def add_weight_masks(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Register an all-true mask for each weight, in order, and remember whose it is."""
    net.__dict__[_NAMES] = tuple(weights)
    for index, weight in enumerate(weights.values()):
        add_mask(net, f"{PREFIX}{index}", torch.ones_like(weight, dtype=torch.bool))


def weight_masks_of(net: nn.Module) -> dict[str, Tensor]:
    """The masks by the name of the weight that each was made for, in the memory of their buffers."""
    masks = (as_mask(buffer) for name, buffer in net.named_buffers(recurse=False) if name.startswith(PREFIX))
    return dict(zip(net.__dict__[_NAMES], masks, strict=True))


def without_weight_masks(net: nn.Module) -> nn.Module:
    """``net`` itself, its masks removed."""
    for name in [n for n, _ in net.named_buffers(recurse=False) if n.startswith(PREFIX)]:
        delattr(net, name)
    net.__dict__.pop(_NAMES, None)  # a copy of an fx.GraphModule has none
    return net
