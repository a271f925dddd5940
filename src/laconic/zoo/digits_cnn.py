"""A small LeNet for the 8 x 8 digits: convolutions, pooling and dense layers in one quick network."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from laconic.zoo.init import initialise
from laconic.zoo.recipes import DIGITS
from laconic.zoo.registry import NetworkEntry


class DigitsCNN(nn.Sequential):
    """Images (N, 1, 8, 8) -> logits (N, 10); 10,370 parameters.

    Args:
        classes: Number of classes, which is that of the logits.
        generator: Source of the initial weights; None: torch's global generator.

    >>> net = DigitsCNN(generator=torch.Generator().manual_seed(0))
    >>> sum(p.numel() for p in net.parameters())
    10370
    >>> net(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int = 10, *, generator: torch.Generator | None = None) -> None:
        super().__init__(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(1, 16, 3, padding=1),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(16, 32, 3, padding=1),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(32 * 2 * 2, 40),
                relu3=nn.ReLU(),
                fc2=nn.Linear(40, classes),
            )
        )
        initialise(self, generator)


NETWORK = NetworkEntry("digits-cnn", DigitsCNN, data="digits", recipe=DIGITS)
