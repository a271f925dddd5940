"""A small recurrent network: an LSTM that reads an 8 x 8 digit row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from laconic.zoo.init import initialise


class DigitsLSTM(nn.Module):
    """Images (N, 1, 8, 8), as 8 steps of 8 pixels, -> logits (N, 10); 3,514 parameters.

    Args:
        hidden: Number of hidden units.
        classes: Number of classes, which is that of the logits.
        generator: Source of the initial weights; None: torch's global generator.

    >>> net = DigitsLSTM(generator=torch.Generator().manual_seed(0))
    >>> sum(p.numel() for p in net.parameters())
    3514
    >>> net(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, hidden: int = 24, classes: int = 10, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, classes)
        initialise(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Read the rows, keep the last hidden state, logits."""
        rows, _ = self.lstm(x.squeeze(1))
        logits: Tensor = self.fc(rows[:, -1])
        return logits
