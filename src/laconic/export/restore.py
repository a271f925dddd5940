"""A .lac file's tensors back into a PyTorch module."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from laconic import pack
from laconic.errors import RestoreError
from laconic.records import AnyArray, PackedModel


def restore(path: str | os.PathLike[str], into: nn.Module, strict: bool = True) -> nn.Module:
    """Fill a module's parameters and buffers from a .lac file, in place, and return it.

    All names and shapes are compared before the first value is written, so a module is never half
    filled. Integer buffers that the file left out keep their values. With ``strict=False`` only the
    names that both sides have are filled; their shapes must still agree.

    Raises ``RestoreError`` naming the tensor and both shapes, ``FileFormatError`` for a wrong file.
    """
    return fill(pack.read(path), into, strict)


def fill(model: PackedModel, into: nn.Module, strict: bool = True) -> nn.Module:
    """:func:`restore` from records that were already read."""
    arrays = {t.name: t for t in model.tensors if not t.name.startswith("@")}
    arrays |= {alias: arrays[name] for alias, name in model.aliases.items() if name in arrays}
    state = {k: v for k, v in into.state_dict(keep_vars=True).items() if isinstance(v, torch.Tensor)}
    if strict:
        _check_names(set(arrays), state)
    common = [name for name in state if name in arrays]
    values = {name: arrays[name].values() for name in common}
    for name in common:
        _check_one(name, values[name], state[name])
    _check_shared(values, state)
    with torch.no_grad():
        for name in common:
            state[name].copy_(torch.from_numpy(np.array(values[name], copy=True)))
    return into


def _check_names(ours: set[str], state: dict[str, torch.Tensor]) -> None:
    missing = [name for name, t in state.items() if name not in ours and t.is_floating_point()]
    if missing:
        raise RestoreError(
            f"the file has no tensor {missing[0]!r} of shape {tuple(state[missing[0]].shape)} "
            f"({len(missing)} missing in all). Cure: build the module as it was saved, or strict=False"
        )
    extra = sorted(ours - set(state))
    if extra:
        raise RestoreError(
            f"the module has no tensor {extra[0]!r} ({len(extra)} too many in the file). "
            "Cure: build the module as it was saved, or strict=False"
        )


def _check_one(name: str, values: AnyArray, tensor: torch.Tensor) -> None:
    if tuple(values.shape) != tuple(tensor.shape):
        raise RestoreError(
            f"tensor {name!r} has shape {tuple(values.shape)} in the file and {tuple(tensor.shape)} in the "
            "module. Cure: build the module with the sizes it was saved with"
        )
    if tensor.device.type == "meta":
        raise RestoreError(
            f"tensor {name!r} has no memory (meta device). Cure: module.to_empty(device='cpu')"
        )
    if np.issubdtype(values.dtype, np.floating) != tensor.is_floating_point():
        raise RestoreError(f"tensor {name!r} is {values.dtype} in the file and {tensor.dtype} in the module")


def _check_shared(values: dict[str, AnyArray], state: dict[str, torch.Tensor]) -> None:
    """A module that shares weights which the file keeps apart would get the last one written."""
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    for name, array in values.items():
        if not state[name].numel():
            continue
        other = first.setdefault((state[name].data_ptr(), tuple(state[name].shape)), name)
        if other != name and not np.array_equal(values[other], array):
            raise RestoreError(
                f"the module shares one tensor between {other!r} and {name!r}, the file holds two different "
                "ones. Cure: build the module as it was saved"
            )
