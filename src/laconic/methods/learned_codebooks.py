"""Codebooks that a network learns with its weights: registered on the network, one a tensor or one for all.

They sit on the network itself: an ``nn.Sequential`` would try to run a child module that held them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from numbers import Real
from typing import Literal, TypeGuard, get_args

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


LARGEST_LEVEL = 1e3
"""The largest level's greatest size, and the inverse of its least, in units of the scale."""

NEAREST = 1e-6
"""How near two levels may be, in units of the largest: float32 holds seven digits."""

TWO_BYTES = 2.0**-7
"""Numbers that are this far apart, in units of their own size, differ as bfloat16."""

SCALE_BOUNDS = (1e-6, 1e3)
"""Between which scales lie: no weights of a network are all that small or large."""

_LEAST = "laconic_least_scales"
_FITTED = 1 << 16  # weights that a scale is fitted to


def check_learned(learned: str) -> None:
    """Raises InputError for anything but ``scale``, ``levels`` and ``nothing``."""
    if learned not in get_args(Learned):
        kinds = ", ".join(get_args(Learned))
        raise InputError(f"learned must be one of {kinds}, got {learned!r}. Cure: learned=scale")


def check_levels(levels: object, learned: str) -> None:
    """Raises InputError for levels that are no rising numbers, or that a file could not tell apart.

    Args:
        levels: In units of the scale.
        learned: What is learned of the codebook; learned levels are stored in two bytes.

    >>> check_levels((-1.0, 0.0, 1.0), "levels")
    """
    cure = "Cure: levels=(-1, 0, 1)"
    if not (isinstance(levels, tuple) and len(levels) >= 2 and all(map(is_finite, levels))):
        raise InputError(f"levels must be a tuple of at least two finite numbers, got {levels!r}. {cure}")
    if not all(a < b for a, b in itertools.pairwise(levels)):
        raise InputError(f"levels must be at least two rising numbers, got {levels}. {cure}")
    largest = max(map(abs, levels))
    if not 1 / LARGEST_LEVEL <= largest <= LARGEST_LEVEL:
        raise InputError(
            f"levels are in units of their scale, and the largest is {largest:g}: it must lie within "
            f"[{1 / LARGEST_LEVEL:g}, {LARGEST_LEVEL:g}]. {cure}, and init_scale for the weights' unit"
        )
    for a, b in itertools.pairwise(levels):
        near = max(abs(a), abs(b)) * TWO_BYTES if learned == "levels" else 0.0
        if b - a < max(near, largest * NEAREST):
            what = "learned levels, which are stored in two bytes," if b - a < near else "levels"
            raise InputError(
                f"{what} {a:.9g} and {b:.9g} are too near to be told apart: they must be "
                f"{max(near, largest * NEAREST):.2g} apart. Cure: one of the two"
            )


def check_scales(init_scale: object, min_scale: object) -> None:
    """Raises InputError for scales that are no numbers, that do not rise, or that weights never have.

    >>> check_scales(None, 0.05)
    """
    for name, value in (("init_scale", init_scale), ("min_scale", min_scale)):
        if name == "init_scale" and value is None:
            continue
        if not is_finite(value) or not SCALE_BOUNDS[0] <= value <= SCALE_BOUNDS[1]:
            low, high = SCALE_BOUNDS
            raise InputError(
                f"{name} must be a number within [{low:g}, {high:g}], in the weights' unit, got {value!r}. "
                f"Cure: {name}={0.2 if name == 'init_scale' else 0.05}"
            )
    if not min_scale <= (1.0 if init_scale is None else init_scale):  # type: ignore[operator]
        raise InputError(
            f"need 0 < min_scale <= init_scale, got {min_scale}, {init_scale}. Cure: a smaller min_scale"
        )


def is_finite(value: object) -> TypeGuard[float]:
    """Whether a setting is a finite number, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


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
    """The codebook as a file holds it: float32 numbers, a learned one in two bytes (bfloat16).

    Learned levels that two bytes do not tell apart any more become one.
    """
    if book.ndim == 0:
        scale = bfloat16(book.item())
        return tuple(float(np.float32(v * scale)) for v in levels)
    rounded = (float(np.copysign(bfloat16(abs(v)), v)) if v else 0.0 for v in book.tolist())
    return tuple(dict.fromkeys(rounded))


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
