"""A two-layer perceptron for the 8 x 8 digits: the quickest example."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from laconic.zoo.init import initialise
from laconic.zoo.recipes import DIGITS
from laconic.zoo.registry import NetworkEntry


class DigitsMLP(nn.Sequential):
    """Images (N, 1, 8, 8) -> logits (N, 10); 4,810 parameters with 64 hidden units.

    Args:
        hidden: Number of hidden units.
        classes: Number of classes, which is that of the logits.
        generator: Source of the initial weights; None: torch's global generator.

    >>> net = DigitsMLP(generator=torch.Generator().manual_seed(0))
    >>> sum(p.numel() for p in net.parameters())
    4810
    >>> net(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, hidden: int = 64, classes: int = 10, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(
            OrderedDict[str, nn.Module](
                flatten=nn.Flatten(),
                fc1=nn.Linear(64, hidden),
                relu=nn.ReLU(),
                fc2=nn.Linear(hidden, classes),
            )
        )
        initialise(self, generator)


NETWORK = NetworkEntry("digits-mlp", DigitsMLP, data="digits", recipe=DIGITS)
