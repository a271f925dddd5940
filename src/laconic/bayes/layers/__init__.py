"""Holders of variational weights, and which plain layer gets which.

A layer whose class is exactly one of ``LOCAL`` is treated by local reparameterisation; a subclass may do
anything with its weight, so it is drawn whole, like every other layer (:mod:`.generic`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from laconic.bayes.layers.conv import BayesConv1d, BayesConv2d, BayesConv3d
from laconic.bayes.layers.conv_transpose import (
    BayesConvTranspose1d,
    BayesConvTranspose2d,
    BayesConvTranspose3d,
)
from laconic.bayes.layers.embedding import BayesEmbedding
from laconic.bayes.layers.generic import sampled_class
from laconic.bayes.layers.linear import BayesLinear
from laconic.bayes.layers.noise import NoiseSource
from laconic.bayes.layers.variational import LOG_VAR, Draws, Variational, become

LOCAL: Mapping[type[nn.Module], type[Variational]] = MappingProxyType(
    {
        nn.Linear: BayesLinear,
        nn.Conv1d: BayesConv1d,
        nn.Conv2d: BayesConv2d,
        nn.Conv3d: BayesConv3d,
        nn.ConvTranspose1d: BayesConvTranspose1d,
        nn.ConvTranspose2d: BayesConvTranspose2d,
        nn.ConvTranspose3d: BayesConvTranspose3d,
        nn.Embedding: BayesEmbedding,
    }
)

__all__ = ["LOCAL", "LOG_VAR", "Draws", "NoiseSource", "Variational", "become", "sampled_class"]
