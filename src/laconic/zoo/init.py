"""Initial weights from an explicit generator: torch's own defaults, drawn again.

torch's layers draw from the global generator when they are built; this draws the same distributions
from a generator that the caller hands in.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from laconic.errors import ModelError


def initialise(module: nn.Module, generator: torch.Generator | None) -> None:
    """Draw all weights of ``module`` again from ``generator``, in place; None leaves them as they are.

    Linear and convolution: U(-b, b), b = 1 / sqrt(fan in), for weights (Kaiming-uniform with a = sqrt 5)
    and biases; recurrent layers: b = 1 / sqrt(hidden size); embeddings: N(0, 1); norms: 1 and 0.

    Args:
        module: A network; its parameters are written.
        generator: Source of the weights; None changes nothing.

    Raises:
        ModelError: A layer that owns parameters of another kind.

    Source: He et al. 2015 (Kaiming-uniform), with a = sqrt 5 as torch.nn.Linear.reset_parameters has it.

    >>> first, second = nn.Linear(4, 3), nn.Linear(4, 3)
    >>> initialise(first, torch.Generator().manual_seed(0))
    >>> initialise(second, torch.Generator().manual_seed(0))
    >>> bool((first.weight == second.weight).all()), bool((first.weight.abs() <= 0.5).all())
    (True, True)
    """
    if generator is None:
        return
    with torch.no_grad():
        for name, layer in module.named_modules():
            _draw(layer, generator, name)


def _draw(layer: nn.Module, generator: torch.Generator, name: str) -> None:
    own = list(layer.parameters(recurse=False))
    if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        _uniform(own, 1.0 / math.sqrt(layer.weight[0].numel()), generator)
    elif isinstance(layer, nn.RNNBase):
        _uniform(own, 1.0 / math.sqrt(layer.hidden_size), generator)
    elif isinstance(layer, nn.Embedding):
        layer.weight.normal_(generator=generator)
        if layer.padding_idx is not None:
            layer.weight[layer.padding_idx].zero_()
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.LayerNorm | nn.GroupNorm):
        layer.reset_parameters()
    elif own:
        raise ModelError(
            f"initialise: no rule for {name or 'the module'} ({type(layer).__name__}). Cure: generator=None, "
            "and initialise it yourself"
        )


def _uniform(tensors: list[nn.Parameter], bound: float, generator: torch.Generator) -> None:
    tensor: Tensor
    for tensor in tensors:
        tensor.uniform_(-bound, bound, generator=generator)
