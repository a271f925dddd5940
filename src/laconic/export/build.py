"""A module and its tensors -> the records of one file, with a graph where one can be captured."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from laconic import pack
from laconic.errors import CaptureError, InputError, ModelError
from laconic.export.capture import CapturedGraph, capture, shared_names
from laconic.export.program import Example
from laconic.export.verify import disagreement
from laconic.records import ActivationRange, PackedModel, RawTensor, Tensor
from laconic.runtime.reading import loading_note

_WEIGHTS_ONLY = "the file holds weights only; load them with laconic.restore(path, into=module)"


def build_packed(
    module: nn.Module, tensors: Mapping[str, Tensor], example: Example | None
) -> tuple[PackedModel, tuple[str, ...]]:
    """Everything the file will say, and notes for the user.

    ``tensors`` maps state-dict names to integers on grids (or raw arrays); a name that is missing is
    taken from the module as it is. Given values must be the module's own, bit for bit, so that the
    file computes what was measured. Without ``example``, or when the graph cannot be captured or does
    not compute what the module computes, the result holds weights only and a note says so. Integer
    buffers that the graph does not read (batch normalisation's counter) stay out of files with a graph.

    Raises ``ModelError`` (no parameters, NaN weights), ``InputError`` (unknown names, wrong shapes or
    values, an example that the module refuses).
    """
    names = shared_names(module)
    _check_module(module, names)
    given = {names.get(name, name): tensor for name, tensor in tensors.items()}
    captured, notes = _captured(module, example)
    model = _model(module, names, given, captured)
    if captured is not None and example is not None:
        problem = disagreement(module, model, example)
        if problem is not None:
            return _model(module, names, given, None), (f"{problem}. So {_WEIGHTS_ONLY}",)
    return model, notes


def _model(
    module: nn.Module, names: Mapping[str, str], given: Mapping[str, Tensor], captured: CapturedGraph | None
) -> PackedModel:
    """The file's records, with the captured graph or, without one, all weights."""
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
        raise InputError(f"tensor {unknown[0]!r} is not in the network's state dict, which has {kept}")
    ordered = tuple(_one(name, given.get(name), state[name]) for name in kept)
    graph = None if captured is None else captured.graph
    return PackedModel((*ordered, *constants), graph, dict(aliases))


def save(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    example: Example | None,
    ranges: tuple[ActivationRange, ...] = (),
) -> int:
    """Write one .lac file (see :func:`build_packed`) and return its length in bytes.

    ``ranges`` are the activation ranges of the same module, for int8. Notes (a weights-only file, a fixed
    batch size) are issued as warnings.
    """
    model, notes = build_packed(module, tensors, example)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    if ranges and model.graph is not None:
        model = replace(model, graph=replace(model.graph, ranges=ranges))
    length = pack.write(path, model)
    large = loading_note(path)
    if large is not None:
        warnings.warn(large, stacklevel=2)
    return length


def _captured(module: nn.Module, example: Example | None) -> tuple[CapturedGraph | None, tuple[str, ...]]:
    if example is None:
        return None, (f"no example input was given: {_WEIGHTS_ONLY}",)
    try:
        captured = capture(module, example)
    except CaptureError as error:
        return None, (f"{error}. So {_WEIGHTS_ONLY}",)
    return captured, captured.notes


def _check_module(module: nn.Module, names: Mapping[str, str]) -> None:
    if not any(p.numel() for p in module.parameters()):
        raise ModelError(f"{type(module).__name__} has no parameters, so there is nothing to compress")
    reserved = [name for name in names if name.startswith("@")]
    if reserved:
        raise ModelError(
            f"tensor {reserved[0]!r}: names that begin with '@' are the file's own. Cure: rename it"
        )
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            raise ModelError(f"state-dict entry {name!r} is a {type(tensor).__name__}, not a tensor")
        if tensor.is_floating_point() and bool(torch.isnan(tensor).any()):
            count = int(torch.isnan(tensor).sum())
            raise ModelError(
                f"tensor {name!r} of shape {tuple(tensor.shape)} holds {count} NaN. "
                "Cure: train again with a smaller learning rate or gradient clipping"
            )


def _one(name: str, given: Tensor | None, tensor: torch.Tensor) -> Tensor:
    """The caller's tensor after comparing it with the module's, or the module's own values."""
    own = tensor.detach().cpu()
    if given is None:
        if own.dtype in (torch.bfloat16, torch.float64):
            own = own.float()
        return RawTensor(name, np.ascontiguousarray(own.numpy()).reshape(tuple(own.shape)))
    values = given.values()
    if values.shape != tuple(own.shape):
        raise InputError(f"tensor {name!r} has shape {values.shape}, the network's has {tuple(own.shape)}")
    if not np.array_equal(values.astype(np.float32), own.float().numpy()):
        worst = float(np.abs(values.astype(np.float64) - own.double().numpy()).max())
        raise InputError(
            f"tensor {name!r} differs from the network's own values by up to {worst:.3g}. "
            "Cure: write the dequantised values into the module before saving"
        )
    return given if given.name == name else _renamed(given, name)


def _renamed(tensor: Tensor, name: str) -> Tensor:
    return replace(tensor, name=name)
