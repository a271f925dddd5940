"""A small residual network for the 8 x 8 digits: batch norm, and shortcuts with and without halving."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.zoo.init import initialise
from laconic.zoo.resnet import BasicBlock


class DigitsResNet(nn.Module):
    """Images (N, 1, 8, 8) -> logits (N, 10); 4,962 parameters in two residual blocks.

    Args:
        classes: Number of classes, which is that of the logits.
        generator: Source of the initial weights; None: torch's global generator.

    >>> net = DigitsResNet(generator=torch.Generator().manual_seed(0))
    >>> sum(p.numel() for p in net.parameters())
    4962
    >>> net(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int = 10, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.block1 = BasicBlock(8, 8)
        self.block2 = BasicBlock(8, 16, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, classes)
        initialise(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Stem, two blocks, global average, logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        logits: Tensor = self.fc(self.pool(self.block2(self.block1(x))).flatten(1))
        return logits
