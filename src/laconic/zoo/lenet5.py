"""LeNet-5 as Caffe has it: 20 and 50 filters, 500 units, max pooling, one ReLU.

Y. LeCun et al., "Gradient-based learning applied to document recognition", Proceedings of the IEEE
86(11), 1998; in the form of the Caffe MNIST example (Y. Jia et al. 2014), which papers on compression
mean by "LeNet-5". That network has no nonlinearity after its convolutions but the pooling.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from laconic.zoo.init import initialise
from laconic.zoo.recipes import LENET5_MNIST
from laconic.zoo.registry import NetworkEntry


class LeNet5(nn.Sequential):
    """Images (N, 1, 28, 28) -> logits (N, 10); 431,080 parameters, 1,724,320 bytes of float32.

    Args:
        classes: Number of classes, which is that of the logits.
        generator: Source of the initial weights; None: torch's global generator.

    >>> net = LeNet5(generator=torch.Generator().manual_seed(0))
    >>> sum(p.numel() for p in net.parameters())
    431080
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, classes: int = 10, *, generator: torch.Generator | None = None) -> None:
        super().__init__(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(1, 20, 5),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(20, 50, 5),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(50 * 4 * 4, 500),
                relu=nn.ReLU(),
                fc2=nn.Linear(500, classes),
            )
        )
        initialise(self, generator)


NETWORK = NetworkEntry("lenet5", LeNet5, data="mnist", recipe=LENET5_MNIST)
