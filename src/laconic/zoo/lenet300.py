"""LeNet-300-100: two hidden layers of 300 and 100 units.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86(11), 1998, section III.C.3; with ReLU, as S. Han et al. (2015) and later
papers on compression use it.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from laconic.zoo.init import initialise
from laconic.zoo.recipes import LENET300_MNIST
from laconic.zoo.registry import NetworkEntry


class LeNet300(nn.Sequential):
    """Images (N, 1, 28, 28), or any shape of ``inputs`` numbers, -> logits (N, 10); 266,610 parameters.

    Args:
        inputs: Number of numbers in one input, 28 x 28 by default.
        classes: Number of classes, which is that of the logits.
        generator: Source of the initial weights; None: torch's global generator.

    >>> net = LeNet300(generator=torch.Generator().manual_seed(0))
    >>> sum(p.numel() for p in net.parameters())
    266610
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    hidden = (300, 100)

    def __init__(
        self, inputs: int = 784, classes: int = 10, *, generator: torch.Generator | None = None
    ) -> None:
        first, second = self.hidden
        super().__init__(
            OrderedDict[str, nn.Module](
                flatten=nn.Flatten(),
                fc1=nn.Linear(inputs, first),
                relu1=nn.ReLU(),
                fc2=nn.Linear(first, second),
                relu2=nn.ReLU(),
                fc3=nn.Linear(second, classes),
            )
        )
        initialise(self, generator)


NETWORK = NetworkEntry("lenet300", LeNet300, data="mnist", recipe=LENET300_MNIST)
