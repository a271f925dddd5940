"""Layers with variational weights, and which plain layer becomes which.

A layer whose class is exactly one of ``LOCAL`` is treated by local reparameterisation, and one of
``NOISY_INPUTS`` multiplies its inputs where the posterior is noise on these. A subclass may do anything with
its weight, so it is drawn whole, like every other layer (:mod:`.generic`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

from torch import nn

from laconic.bayes.layers.conv import BayesConv1d, BayesConv2d, BayesConv3d
from laconic.bayes.layers.conv_transpose import (
    BayesConvTranspose1d,
    BayesConvTranspose2d,
    BayesConvTranspose3d,
)
from laconic.bayes.layers.embedding import BayesEmbedding
from laconic.bayes.layers.flipout import (
    FlipoutConv1d,
    FlipoutConv2d,
    FlipoutConv3d,
    FlipoutConvTranspose1d,
    FlipoutConvTranspose2d,
    FlipoutConvTranspose3d,
    FlipoutLinear,
)
from laconic.bayes.layers.linear import BayesLinear
from laconic.bayes.layers.noisy_inputs import (
    NoisyConv1d,
    NoisyConv2d,
    NoisyConv3d,
    NoisyConvTranspose1d,
    NoisyConvTranspose2d,
    NoisyConvTranspose3d,
    NoisyEmbedding,
    NoisyLinear,
)
from laconic.bayes.layers.variational import Variational
from laconic.errors import InputError
from laconic.networks.noise import NoiseSource

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

NOISY_INPUTS: Mapping[type[nn.Module], type[Variational]] = MappingProxyType(
    {
        nn.Linear: NoisyLinear,
        nn.Conv1d: NoisyConv1d,
        nn.Conv2d: NoisyConv2d,
        nn.Conv3d: NoisyConv3d,
        nn.ConvTranspose1d: NoisyConvTranspose1d,
        nn.ConvTranspose2d: NoisyConvTranspose2d,
        nn.ConvTranspose3d: NoisyConvTranspose3d,
        nn.Embedding: NoisyEmbedding,
    }
)
"""The layers that multiply their inputs where all weights that read an input share a factor."""

FLIPOUT: Mapping[type[nn.Module], type[Variational]] = MappingProxyType(
    {
        nn.Linear: FlipoutLinear,
        nn.Conv1d: FlipoutConv1d,
        nn.Conv2d: FlipoutConv2d,
        nn.Conv3d: FlipoutConv3d,
        nn.ConvTranspose1d: FlipoutConvTranspose1d,
        nn.ConvTranspose2d: FlipoutConvTranspose2d,
        nn.ConvTranspose3d: FlipoutConvTranspose3d,
        nn.Embedding: BayesEmbedding,
    }
)

Sampling = Literal["local", "mixed", "weights", "flipout"]
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)
_CHEAP = (nn.Linear, nn.Embedding)


def local_layers(sampling: Sampling) -> Mapping[type[nn.Module], type[Variational]]:
    """The layers with a way of drawing of their own; all others draw their weights once per pass.

    Args:
        sampling: ``local``: every layer of ``LOCAL``. ``mixed``: linear layers and embeddings, but not
            convolutions, where a second convolution for the variance doubles the time of a step. ``weights``:
            none. ``flipout``: the layers of ``FLIPOUT``, which draw weights once and flip signs of their
            deviations from part to part of a batch. Kingma et al. 2015, section 2.3, and Wen et al. 2018
            compare the variances of the gradients.

    Returns:
        By class of a plain layer, the class that takes its place.

    Raises:
        InputError: Another word.

    >>> nn.Conv2d in local_layers("local"), nn.Conv2d in local_layers("mixed")
    (True, False)
    """
    if sampling not in SAMPLINGS:
        raise InputError(
            f"sampling must be one of {', '.join(SAMPLINGS)}, got {sampling!r}. Cure: sampling='local'"
        )
    if sampling == "flipout":
        return FLIPOUT
    return {
        kind: holder
        for kind, holder in LOCAL.items()
        if sampling == "local" or (sampling == "mixed" and kind in _CHEAP)
    }


__all__ = [
    "FLIPOUT",
    "LOCAL",
    "NOISY_INPUTS",
    "SAMPLINGS",
    "NoiseSource",
    "Sampling",
    "Variational",
    "local_layers",
]
