"""A network's tensors as a file holds them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from laconic.errors import InputError
from laconic.records import AnyArray, PackedModel, RawTensor, Tensor

if TYPE_CHECKING:
    from laconic.export.captured import CapturedGraph

EXTRA_STATE = "_extra_state"
# Types that a file has no code for, and the next wider one that it has.
_WIDER = {torch.bfloat16: torch.float32, torch.uint16: torch.int32, torch.uint32: torch.int64}


def stored(name: str, tensor: torch.Tensor, *, narrow: bool) -> AnyArray:
    """The array that a file holds for a tensor; exact, but for float64 where ``narrow`` asks for float32.

    A complex tensor becomes its real view: one more dimension of size 2, real part first. bfloat16 becomes
    float32, unsigned integers the next wider signed ones.

    Raises InputError for unsigned 64-bit integers from 2^63 on.

    >>> stored("w", torch.tensor([1 + 2j]), narrow=True).tolist()
    [[1.0, 2.0]]
    """
    own = tensor.detach().cpu()
    if own.is_complex():
        own = torch.view_as_real(own.resolve_conj())
    if own.dtype is torch.float64 and narrow:
        own = own.float()
    if own.dtype is torch.uint64:
        array = own.numpy()
        if array.size and int(array.max()) >= 2**63:
            raise InputError(f"tensor {name!r} holds integers from 2^63 on. Cure: a smaller integer type")
        return np.ascontiguousarray(array, np.int64).reshape(tuple(own.shape))
    own = own.to(_WIDER.get(own.dtype, own.dtype)).resolve_neg()
    return np.ascontiguousarray(own.numpy()).reshape(tuple(own.shape))


def file_records(
    module: nn.Module, names: Mapping[str, str], given: Mapping[str, Tensor], captured: CapturedGraph | None
) -> PackedModel:
    """A file's records, with the captured graph or, without one, all weights.

    Args:
        module: The network.
        names: Its state-dict names, each with the name under which a shared tensor is stored.
        given: Tensors in place of the network's own, which must have the same values.
        captured: The graph.

    Raises ``InputError`` for unknown names, wrong shapes or values.
    """
    if captured is None:
        kept = [name for name, first in names.items() if name == first]
        constants: tuple[RawTensor, ...] = ()
        aliases: Mapping[str, str] = {name: first for name, first in names.items() if name != first}
    else:
        reserved = {c.name for c in captured.constants}
        kept = [name for name in captured.tensor_names if name not in reserved]
        constants, aliases = captured.constants, captured.aliases
    state = module.state_dict()
    unknown = sorted(set(given) - set(kept))
    if unknown:
        raise InputError(
            f"tensor {unknown[0]!r} is not in the network's state dict, which has {kept}. Cure: tensors by "
            "these names"
        )
    ordered = tuple(_one(name, given.get(name), state[name], narrow=captured is not None) for name in kept)
    graph = None if captured is None else captured.graph
    return PackedModel((*ordered, *constants), graph, dict(aliases))


def _one(name: str, given: Tensor | None, tensor: torch.Tensor, *, narrow: bool) -> Tensor:
    """The caller's tensor after comparing it with the module's, or the module's own values."""
    if given is None:
        return RawTensor(name, stored(name, tensor, narrow=narrow))
    own = tensor.detach().cpu()
    values = given.values()
    if values.shape != tuple(own.shape):
        raise InputError(
            f"tensor {name!r} has shape {values.shape}, the network's has {tuple(own.shape)}. Cure: the "
            "tensors of this network"
        )
    if not np.array_equal(values.astype(np.float32), own.float().numpy()):
        worst = float(np.abs(values.astype(np.float64) - own.double().numpy()).max())
        raise InputError(
            f"tensor {name!r} differs from the network's own values by up to {worst:.3g}. "
            "Cure: write the dequantised values into the module before saving"
        )
    return given if given.name == name else given.renamed(name)


def taken_back(array: AnyArray, like: torch.Tensor) -> torch.Tensor:
    """The inverse of :func:`stored`: a tensor that can be copied into one such as ``like``.

    >>> taken_back(np.float32([[1, 2]]), torch.zeros(1, dtype=torch.complex64)).tolist()
    [(1+2j)]
    """
    tensor = torch.from_numpy(np.array(array, copy=True))
    return torch.view_as_complex(tensor) if like.is_complex() else tensor


def stored_shape(tensor: torch.Tensor) -> tuple[int, ...]:
    """The shape of a tensor in a file."""
    return (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)
