"""A .lac file's tensors back into a PyTorch module."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from laconic import pack
from laconic.errors import RestoreError
from laconic.export.stored_tensors import EXTRA_STATE, stored_shape, taken_back
from laconic.networks import computed_weights, fold_in_place, folded
from laconic.networks.modules import overlapping, unfit
from laconic.networks.wrappers import unwrapped
from laconic.records import AnyArray, PackedModel
from laconic.text import counted

State = Mapping[str, torch.Tensor]

_AS_SAVED = (
    "build the module as it was saved (after a method that removes units or layers that is the module which "
    "laconic.compress or convert returned, not the original), or run the file with laconic.runtime.load"
)

_FOLDED = (
    "Compression without training folds batch norms into the layers before them, and they would count twice."
)


_KNOWN_BYTES, _KNOWN_STEPS = 32, 32
"""Bytes and steps that are allowed in addition for each entry of the target module, which exists already."""


def restore(
    path: str | os.PathLike[str], into: nn.Module, strict: bool = True, *, limits: pack.Limits = pack.DEFAULT
) -> nn.Module:
    """Fill a module's parameters and buffers from a .lac file, in place, and return it.

    All names and shapes are compared before the first value is written, so a module is never half
    filled. Integer buffers that the file left out keep their values, and so does extra state that is no
    tensor. With ``strict=False`` only the names that both sides have are filled; their shapes must still
    agree.

    A wrapped module (``torch.compile``, ``DataParallel``, ``AveragedModel``) is filled inside, and names that
    differ by one prefix alone (``module.``) are matched. A file holds plain weights: where the module
    computes them from others (``weight_norm``, ``spectral_norm``, pruning masks), they become plain
    parameters, with a warning.

    Args:
        path: A .lac file.
        into: A module of the architecture that was saved.
        strict: Whether the file and the module must have the same names.
        limits: Limits on the file's claims and on the memory and work of decoding; the resources for tensors
            of the module's own size are allowed in addition.

    Returns:
        ``into``.

    Raises:
        RestoreError: A name or a shape does not fit; it names the tensor and both shapes.
        FileFormatError: The file is invalid.
        LimitError: It needs more than the limits allow.

    >>> import tempfile
    >>> from laconic.export import save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     size = save(nn.Linear(3, 2), {}, f"{folder}/net.lac", torch.zeros(1, 3))
    ...     restore(f"{folder}/net.lac", into=nn.Linear(3, 2))
    Linear(in_features=3, out_features=2, bias=True)
    """
    return fill(pack.read(path, limits=_with_room(limits, into)), into, strict)


def _with_room(limits: pack.Limits, into: nn.Module) -> pack.Limits:
    if not isinstance(into, nn.Module):
        return limits
    known = sum(tensor.numel() for tensor in (*into.parameters(), *into.buffers()))
    memory, work = limits.memory + _KNOWN_BYTES * known, limits.work + _KNOWN_STEPS * known
    return replace(limits, memory=memory, work=work)


def fill(model: PackedModel, into: nn.Module, strict: bool = True) -> nn.Module:
    """:func:`restore` from records that were already read."""
    if not isinstance(into, nn.Module):
        raise RestoreError(f"restore fills a PyTorch module, got a {type(into).__name__}. Cure: into=module")
    target = unwrapped(into)
    computed = computed_weights(target)
    # A module whose weights are computed is changed only when a copy of it has been filled.
    for module in (folded(target)[0], target) if computed else (target,):
        if computed and module is target:
            fold_in_place(target)
        _fill(model, module, strict)
    if computed:
        warnings.warn(
            f"restore: {computed[0]!r} ({len(computed)} in all) was computed from other parameters; the file "
            "holds its value, so it is a plain parameter now. Cure: restore into a module without the norm, "
            "parametrisation or mask",
            stacklevel=3,
        )
    return into


def _fill(model: PackedModel, into: nn.Module, strict: bool) -> None:
    arrays = {t.name: t for t in model.tensors if not t.name.startswith("@")}
    arrays |= {alias: arrays[name] for alias, name in model.aliases.items() if name in arrays}
    state = {k: v for k, v in into.state_dict(keep_vars=True).items() if isinstance(v, torch.Tensor)}
    renamed = _matched(list(arrays), state)
    arrays = {renamed.get(name, name): tensor for name, tensor in arrays.items()}
    left_out = _norms_without(into, set(arrays))
    if strict:
        _check_names(set(arrays), state, left_out)
    elif left_out:
        warnings.warn(
            f"restore: the file holds nothing of normalisation layer {left_out[0]!r} ({len(left_out)} in all)"
            f", which keeps its values. {_FOLDED} Cure: nn.Identity in their places",
            stacklevel=4,
        )
    common = [name for name in state if name in arrays]
    values = {name: arrays[name].values() for name in common}
    for name in common:
        _check_one(name, values[name], state[name])
    _check_shared(values, state)
    with torch.no_grad():
        for name in common:
            value = taken_back(values[name], state[name])
            prefix, _, last = name.rpartition(".")
            if last == EXTRA_STATE:  # the state dict may hold a copy of the module's extra state
                into.get_submodule(prefix).set_extra_state(value.to(state[name]))
            else:
                state[name].copy_(value)


def _norms_without(into: nn.Module, ours: set[str]) -> list[str]:
    """Names of normalisations with running statistics of which the file holds no tensor."""
    norms = [n for n, m in into.named_modules() if isinstance(getattr(m, "running_mean", None), torch.Tensor)]
    return [n for n in norms if not any(name.startswith(f"{n}." if n else "") for name in ours)]


def _matched(ours: list[str], state: State) -> dict[str, str]:
    """The file's names -> the module's, where one side has all names behind one prefix (a wrapper's)."""
    if not ours or not state or not set(ours).isdisjoint(state):
        return {}
    for name in state:
        if ours[0].endswith(f".{name}"):
            prefix = ours[0].removesuffix(name)
            if all(n.startswith(prefix) for n in ours):
                return {n: n.removeprefix(prefix) for n in ours}
        elif name.endswith(f".{ours[0]}"):
            prefix = name.removesuffix(ours[0])
            if all(n.startswith(prefix) for n in state):
                return {n: prefix + n for n in ours}
    return {}


def _check_names(ours: set[str], state: State, norms: list[str]) -> None:
    missing = [n for n, t in state.items() if n not in ours and (t.is_floating_point() or t.is_complex())]
    if missing and all(any(name.startswith(f"{n}.") for n in norms) for name in missing):
        raise RestoreError(
            f"the file has no tensor {missing[0]!r}, nor others of "
            f"{counted(len(norms), 'normalisation layer')}. {_FOLDED} Cure: PostTraining(fold=False) when "
            f"compressing, nn.Identity in their places, or {_AS_SAVED}"
        )
    if missing:
        raise RestoreError(
            f"the file has no tensor {missing[0]!r} of shape {tuple(state[missing[0]].shape)} "
            f"({len(missing)} missing in all). Cure: {_AS_SAVED}, or strict=False"
        )
    extra = sorted(ours - set(state))
    if extra:
        raise RestoreError(
            f"the module has no tensor {extra[0]!r} ({len(extra)} too many in the file). "
            f"Cure: {_AS_SAVED}, or strict=False"
        )


def _check_one(name: str, values: AnyArray, tensor: torch.Tensor) -> None:
    if tensor.device.type == "meta":
        raise RestoreError(
            f"tensor {name!r} has no memory (meta device). Cure: module.to_empty(device='cpu')"
        )
    problem = unfit(tensor) or overlapping(tensor)
    if problem is not None:
        raise RestoreError(f"tensor {name!r} {problem}")
    if tuple(values.shape) != stored_shape(tensor):
        kind = " (complex: one more dimension of 2 in a file)" if tensor.is_complex() else ""
        raise RestoreError(
            f"tensor {name!r} has shape {tuple(values.shape)} in the file and {tuple(tensor.shape)} in the "
            f"module{kind}. Cure: {_AS_SAVED}"
        )
    if np.issubdtype(values.dtype, np.floating) != (tensor.is_floating_point() or tensor.is_complex()):
        raise RestoreError(
            f"tensor {name!r} is {values.dtype} in the file and {tensor.dtype} in the module. Cure: "
            f"{_AS_SAVED}"
        )


def _check_shared(values: dict[str, AnyArray], state: State) -> None:
    """Refuse different values for weights that the module shares: the last one written would remain."""
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
