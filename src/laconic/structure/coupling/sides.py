"""Which axis of a weight makes a layer's outputs, and which axis reads its inputs."""

from __future__ import annotations

from torch import nn

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def is_in_out(module: nn.Module) -> bool:
    """Whether a module is a linear layer of the GPT-2 kind: weight (in, out), sizes ``nx`` and ``nf``."""
    return {"nx", "nf", "weight"} <= {*vars(module), *module._parameters}


def axes_of(module: nn.Module, name: str) -> tuple[int | None, int | None]:
    """The axes of a weight along which it makes units and reads them; None where there are none.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Embedding(5, 4), nn.ConvTranspose1d(4, 6, 3))
    >>> [axes_of(net, f"{k}.weight") for k in range(3)], axes_of(net, "0.bias")
    ([(0, 1), (1, None), (1, 0)], (None, None))
    """
    try:
        weight = module.get_parameter(name)
    except AttributeError:  # a buffer, or an input
        return None, None
    owner = module.get_submodule(name.rpartition(".")[0])
    if weight.ndim < 2:
        return None, None
    if isinstance(owner, (nn.Embedding, nn.EmbeddingBag)):
        return 1, None
    if isinstance(owner, TRANSPOSED):  # depthwise: channels go through, made of themselves
        return (0, None) if owner.groups == owner.in_channels > 1 else (1, 0)
    return (1, 0) if is_in_out(owner) else (0, 1)
