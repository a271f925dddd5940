"""Embedding: only the rows that are looked up are drawn."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.bayes.layers.variational import Variational


class BayesEmbedding(Variational, nn.Embedding):
    r"""``nn.Embedding`` whose looked-up rows are drawn from :math:`N(\theta_i, \sigma_i^2)`, each for itself.

    A look-up is the product of a one-hot row with the table, so this is local reparameterisation. The row
    ``padding_idx`` gets no noise.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Indices of any shape -> (*shape, embedding_dim)."""
        mean = F.embedding(
            input,
            self.bayes_mean("weight"),
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )
        if not self.bayes_samples():
            return mean
        std = self.bayes_std("weight", self._rows(input))
        if self.padding_idx is not None:
            std = std * (input != self.padding_idx).unsqueeze(-1)
        return torch.addcmul(mean, std, self.bayes_noise(mean))

    def _rows(self, input: Tensor) -> Callable[[Tensor], Tensor]:
        """A function that looks the rows up in a table."""
        return lambda table: F.embedding(input, table, scale_grad_by_freq=self.scale_grad_by_freq)
