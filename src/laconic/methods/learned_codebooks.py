"""Codebooks that a network learns with its weights: registered on the network, one a tensor or one for all.

They sit on the network itself: an ``nn.Sequential`` would try to run a child module that held them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.networks.policy import NORMALISATIONS, is_bias
from laconic.quantize.codebook import nearest_level
from laconic.quantize.uniform import bfloat16

Learned = Literal["scale", "levels", "nothing"]

PREFIX = "laconic_codebook_"
"""How the names of learned and fixed levels begin."""

SCALES = "laconic_scale_"
"""How the names of learned and fixed scales begin."""


_LEAST = "laconic_least_scales"
_FITTED = 1 << 16  # weights that a scale is fitted to


def check_learned(learned: str) -> None:
    """Raises InputError for anything but ``scale``, ``levels`` and ``nothing``."""
    if learned not in get_args(Learned):
        kinds = ", ".join(get_args(Learned))
        raise InputError(f"learned must be one of {kinds}, got {learned!r}. Cure: learned=scale")


def attach_codebooks(
    net: nn.Module,
    levels: tuple[float, ...],
    scales: Sequence[tuple[float, float]],
    learned: Learned,
    like: Tensor,
) -> None:
    """Register a codebook for each pair of scales.

    Args:
        net: A prepared network; it is changed.
        levels: In units of the scale, rising.
        scales: For each codebook the scale at the start and the least one, in the weights' unit.
        learned: ``scale``: one number; ``levels``: each level but zero; ``nothing``: the scale is a buffer.
        like: A tensor of the weights' type and device.
    """
    for index, (scale, _) in enumerate(scales):
        start = torch.full((), scale, dtype=like.dtype, device=like.device)
        if learned == "scale":
            net.register_parameter(f"{SCALES}{index}", nn.Parameter(start))
        elif learned == "nothing":
            net.register_buffer(f"{SCALES}{index}", start)
        else:
            net.register_parameter(f"{PREFIX}{index}", nn.Parameter(start * start.new_tensor(levels)))
    net.register_buffer(_LEAST, like.new_tensor([least for _, least in scales]))


def fitted_scale(weights: Sequence[Tensor], levels: tuple[float, ...]) -> float:
    """The scale at which weights are nearest to the levels in the mean square, among 64 in equal ratios.

    Args:
        weights: Of one tensor, or of all that share a codebook.
        levels: In units of the scale, rising.

    Returns:
        The scale, in the weights' unit: a quarter to four times their root mean square.

    >>> round(fitted_scale([torch.tensor([-0.3, 0.3, 0.0, 0.3])], (-1.0, 0.0, 1.0)), 2)
    0.3
    """
    flat = torch.cat([w.detach().reshape(-1) for w in weights]).cpu().double().numpy()
    flat = flat[:: max(1, flat.size // _FITTED)]
    root = float(np.sqrt(np.mean(flat**2))) or 1.0
    book, best = np.asarray(levels), (np.inf, root)
    for scale in root * np.geomspace(0.25, 4.0, 64):
        error = flat - scale * book[nearest_level(flat, scale * book)]
        best = min(best, (float(np.mean(error**2)), float(scale)))
    return best[1]


def codebooks_of(net: nn.Module) -> list[Tensor]:
    """Scales (scalars) or levels (vectors) in order, learned or not."""
    own = {**dict(net.named_parameters(recurse=False)), **dict(net.named_buffers(recurse=False))}
    return [t for n, t in own.items() if is_codebook(n)]


def is_codebook(name: str) -> bool:
    """Whether a parameter or buffer of a network is a codebook."""
    return name.startswith((SCALES, PREFIX))


def hold_codebooks(net: nn.Module, levels: tuple[float, ...]) -> None:
    """Keep scales at the least one or above; keep learned levels rising, as far apart as at the least scale.

    A level that starts at zero stays there.
    """
    with torch.no_grad():
        for book, least in zip(codebooks_of(net), net.get_buffer(_LEAST).tolist(), strict=True):
            if book.ndim == 0:
                book.clamp_(min=least)
                continue
            start, gaps = (levels.index(0.0) if 0.0 in levels else 0), np.diff(levels) * least
            if 0.0 in levels:
                book[start] = 0.0
            for k in range(start + 1, len(levels)):
                book[k].clamp_(min=float(book[k - 1] + gaps[k - 1]))
            for k in range(start - 1, -1, -1):
                book[k].clamp_(max=float(book[k + 1] - gaps[k]))


def stored_levels(book: Tensor, levels: tuple[float, ...]) -> tuple[float, ...]:
    """The codebook as a file holds it: float32 numbers, a learned one in two bytes (bfloat16)."""
    if book.ndim == 0:
        scale = bfloat16(book.item())
        return tuple(float(np.float32(v * scale)) for v in levels)
    return tuple(float(np.copysign(bfloat16(abs(v)), v)) if v else 0.0 for v in book.tolist())


def random_start(model: nn.Module, weights: dict[str, nn.Parameter], seed: int) -> None:
    r"""Forget what was trained, in place: weights are drawn from Glorot and Bengio's uniform distribution.

    .. math:: w \sim U(-a, a), \qquad a = \sqrt{6/(fan_{in} + fan_{out})}

    Biases become zero, and normalisations are reset.

    Args:
        model: A plain network; it is changed.
        weights: Its weights, by name.
        seed: Of the draws.

    >>> layer = nn.Linear(3, 3)
    >>> random_start(layer, {"weight": layer.weight}, 0)
    >>> bool(layer.weight.abs().max() <= 1.0), layer.bias.tolist()
    (True, [0.0, 0.0, 0.0])
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, NORMALISATIONS):
                module.reset_parameters()  # type: ignore[operator]
        for name, p in model.named_parameters():
            if is_bias(name):
                p.zero_()
        for weight in weights.values():
            if weight.ndim > 1:
                drawn = torch.empty(weight.shape)
                weight.copy_(nn.init.xavier_uniform_(drawn, generator=generator))
