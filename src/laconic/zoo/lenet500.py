"""LeNet-500-300: two hidden layers of 500 and 300 units, on which structured Bayesian pruning was published.

K. Neklyudov, D. Molchanov, A. Ashukha, D. Vetrov, "Structured Bayesian Pruning via Log-Normal Multiplicative
Noise", NIPS 2017, table 1.
"""

from __future__ import annotations

from laconic.zoo.lenet300 import LeNet300
from laconic.zoo.recipes import LENET300_MNIST
from laconic.zoo.registry import NetworkEntry


class LeNet500(LeNet300):
    """Images (N, 1, 28, 28), or any shape of ``inputs`` numbers, -> logits (N, 10); 545,810 parameters.

    Args:
        inputs: Number of numbers in one input, 28 x 28 by default.
        classes: Number of classes, which is that of the logits.
        generator: Source of the initial weights; None: torch's global generator.

    >>> import torch
    >>> net = LeNet500(generator=torch.Generator().manual_seed(0))
    >>> sum(p.numel() for p in net.parameters())
    545810
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    hidden = (500, 300)


NETWORK = NetworkEntry("lenet500", LeNet500, data="mnist", recipe=LENET300_MNIST)
