"""What a method's own decision leaves over: frozen weights, biases and the like, and what stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from laconic.networks.policy import Policy, weights_of
from laconic.records import FloatArray, Tensor, WeightStats

# Standard deviation that stands in for a posterior's, as a share of a frozen tensor's root mean square: grid
# steps of 0.5 to 1.4 of it leave a signal-to-noise ratio of 35 to 26 dB (12 step^-2 rms^2), 6 to 4.6 bits.
FROZEN_SHARE = 1 / 8


@dataclass(frozen=True, eq=False)
class Rest:
    """``frozen`` weights as statistics for a grid, ``beside`` the deterministic parameters, detached."""

    frozen: Mapping[str, WeightStats]
    beside: Mapping[str, torch.Tensor]


def rest_of(net: nn.Module, parameters: Mapping[str, nn.Parameter], policy: Policy) -> Rest:
    """Sort what a method has not decided on; what is in neither part stays as it is.

    That is what the user keeps, what holds complex numbers or integers, and what is empty.

    Args:
        net: A network, plain or prepared.
        parameters: Its parameters that no decision was made on, by name.
        policy: What the user says of single parameters.

    Returns:
        Frozen weights as statistics, and the deterministic parameters.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    >>> _ = net[0].requires_grad_(False)
    >>> rest = rest_of(net, {n: p for n, p in net.named_parameters() if n != "1.weight"}, Policy())
    >>> list(rest.frozen), list(rest.beside)
    (['0.weight'], ['0.bias', '1.bias'])
    """
    frozen_names = weights_of(net, policy=policy, frozen=True)
    taken = {
        name: p.detach()
        for name, p in parameters.items()
        if p.is_floating_point() and p.numel() and not policy.keeps(name)
    }
    frozen = {name: frozen_stats(name, _array(p)) for name, p in taken.items() if name in frozen_names}
    return Rest(frozen, {name: p for name, p in taken.items() if name not in frozen})


def frozen_stats(name: str, weights: FloatArray) -> WeightStats:
    """Stats of a weight that was not trained: its spread stands in for how sure we are of it.

    One deviation for the whole tensor, ``FROZEN_SHARE`` of the root mean square of what is not zero.
    """
    held = weights[weights != 0].astype(np.float64)
    deviation = FROZEN_SHARE * float(np.sqrt(np.mean(held**2))) if held.size else 1.0
    return WeightStats(name, weights, np.full(weights.shape, deviation**2, dtype=np.float32))


def nonzeros(stats: Mapping[str, WeightStats]) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """Keep-masks that keep all that is not zero: frozen weights are not pruned.

    Args:
        stats: Statistics of the weights, by name.

    Returns:
        By the same names, booleans of the weight's shape.

    >>> weights = np.float32([[1.0, 0.0]])
    >>> nonzeros({"w": WeightStats("w", weights, np.ones_like(weights))})["w"].tolist()
    [[True, False]]
    """
    return {name: s.mean != 0 for name, s in stats.items()}


def left_raw(module: nn.Module, tensors: Collection[str] | Mapping[str, Tensor], policy: Policy) -> list[str]:
    """Notes on the parameters that a file will hold as they are: how many, their bytes, why and which.

    >>> left_raw(nn.Linear(3, 2), {"bias"}, Policy(keep=("weight",)))
    ["1 parameter (24 bytes: 'weight') stays as it is: keep says so"]
    """
    found: dict[str, list[tuple[str, nn.Parameter]]] = {}
    for name, p in module.named_parameters():
        if name not in tensors and p.numel():
            found.setdefault(_reason(name, p, policy), []).append((name, p))
    return [_note(reason, named) for reason, named in found.items()]


def mostly_raw(module: nn.Module, tensors: Collection[str], file_bytes: int) -> list[str]:
    """A note if most of a file are parameters as they are: how many bytes, and what would make it smaller.

    >>> mostly_raw(nn.Linear(3, 2), {"bias"}, 40)[0].split(". Cure")[0]
    "24 of the file's 40 bytes are 1 parameter as it is (raw), the first 'weight'"
    """
    raw = [(name, p) for name, p in module.named_parameters() if name not in tensors and p.numel()]
    size = sum(_bytes(p) for _, p in raw)
    if 2 * size <= file_bytes:
        return []
    count = "1 parameter as it is" if len(raw) == 1 else f"{len(raw)} parameters as they are"
    if any(p.is_complex() for _, p in raw):
        cure = "hold complex numbers as real ones (torch.view_as_real)"
    elif tensors:
        cure = "fewer names in keep, and a method that puts what it leaves on a grid"
    else:
        cure = "laconic.compress, or laconic.prepare, train and convert"
    first = f"the first {raw[0][0]!r}"
    return [f"{size} of the file's {file_bytes} bytes are {count} (raw), {first}. Cure: {cure}"]


def _bytes(p: nn.Parameter) -> int:
    """Bytes of a parameter in a file: no floating-point type there is narrower than float32, but float16."""
    narrow = p.dtype is torch.bfloat16
    return p.numel() * (4 if narrow else p.element_size())


def _reason(name: str, p: nn.Parameter, policy: Policy) -> str:
    if policy.keeps(name):
        return "keep says so"
    if p.is_complex():
        return (
            "complex numbers have no grid. Cure: hold them as real ones (torch.view_as_real) to compress them"
        )
    if not p.is_floating_point():
        return "integers need no grid"
    return "the method puts it on no grid"


def _note(reason: str, named: list[tuple[str, nn.Parameter]]) -> str:
    size = sum(_bytes(p) for _, p in named)
    names = ", ".join(repr(name) for name, _ in named[:3]) + (", .." if len(named) > 3 else "")
    count = "1 parameter" if len(named) == 1 else f"{len(named)} parameters"
    stays = "stays as it is" if len(named) == 1 else "stay as they are"
    return f"{count} ({size} bytes: {names}) {stays}: {reason}"


def _array(p: torch.Tensor) -> FloatArray:
    return np.asarray(p.cpu(), dtype=np.float32)
