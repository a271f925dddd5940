"""From the network that a user hands in to the plain module that the library works on.

A network may come wrapped (``torch.compile``, ``DataParallel``, an average of weights), with weights that are
computed from others (``weight_norm``, ``spectral_norm``, pruning masks that were left on), or in a form that
cannot be used at all (a scripted network, sharded or sparse parameters). What can be made plain is; the
rest is refused by name.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from laconic.errors import ModelError
from laconic.networks.copies import computed_weights, duplicate, fold_in_place
from laconic.networks.wrappers import GATHER_CURE, network_in

# Element types of a plain torch network; float8 and the like have no counterpart in NumPy.
_STORED = frozenset(
    (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.complex32, torch.complex64, torch.complex128),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
        *(torch.uint16, torch.uint32, torch.uint64),
    )
)


class PlainNetwork(NamedTuple):
    """A network without wrappers and computed weights, and notes for the user on what was changed."""

    module: nn.Module
    notes: tuple[str, ...] = ()


def plain_network(model: Any, verb: str) -> PlainNetwork:
    """The network inside ``model``, its computed weights folded into plain ones.

    ``model`` is left as it was: the result shares its tensors where nothing had to be folded, and is a copy
    where something had. Names are those of the plain network (no ``module.``, ``_orig_mod.`` or
    ``parametrizations.``). ``verb`` is named in errors.

    Raises ModelError for what is no module, a scripted, sharded or quantised network, and for parameters
    that hold no plain numbers (not initialised, meta, sparse, of a tensor subclass, float8).

    >>> wrapped = nn.DataParallel(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))))
    >>> plain, notes = plain_network(wrapped, "save")
    >>> sorted(plain.state_dict()), len(notes)
    (['0.bias', '0.weight'], 1)
    """
    plain = network_in(model, verb)
    check_tensors(plain, verb)
    reserved = next((name for name in plain.state_dict() if name.startswith("@")), None)
    if reserved is not None:
        raise ModelError(
            f"{verb}: tensor {reserved!r}: names that begin with '@' are the file's own. Cure: rename it"
        )
    if not computed_weights(plain):
        return PlainNetwork(plain)
    plain = duplicate(plain)
    names = fold_in_place(plain)
    what = f"{len(names)} weights, the first {names[0]!r}, are" if len(names) > 1 else f"{names[0]!r} is"
    note = (
        f"{verb}: {what} computed from other parameters (a norm, a parametrisation, a pruning mask) and "
        "became plain: what follows, training too, works on the weight alone"
    )
    return PlainNetwork(plain, (note,))


# --- refusals ---------------------------------------------------------------------------------------


def check_tensors(model: nn.Module, verb: str) -> None:
    """Refuse parameters and buffers that hold no plain numbers: their name, what they are, and the cure."""
    named = [("parameter", n, p) for n, p in model.named_parameters()]
    for what, name, tensor in [*named, *(("buffer", n, b) for n, b in model.named_buffers())]:
        problem = unfit(tensor)
        if problem is not None:
            raise ModelError(f"{verb}: {what} {name!r} {problem}")


def unfit(tensor: Tensor) -> str | None:
    """Why the numbers of a tensor cannot be read or written one by one, and the cure; None when they can."""
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        return "is not initialised yet. Cure: run one batch through the network"
    if tensor.is_meta:
        return "is on the meta device, without values. Cure: model.to_empty(device='cpu'), then load values"
    if tensor.is_quantized:
        return f"is {_short(tensor.dtype)}. Cure: hand in the float network, or tensor.dequantize()"
    if is_traceable_wrapper_subclass(tensor):
        cure = (
            GATHER_CURE
            if hasattr(tensor, "full_tensor")
            else "Cure: hand in the network before it was changed"
        )
        return f"is a {type(tensor).__name__}. {cure}"
    if tensor.layout is not torch.strided:
        return f"is sparse ({str(tensor.layout).removeprefix('torch.')}). Cure: tensor.to_dense()"
    if tensor.dtype not in _STORED:
        return f"is {_short(tensor.dtype)}, which a file has no type for. Cure: tensor.float()"
    return overlapping(tensor) if isinstance(tensor, nn.Parameter) else None


def overlapping(tensor: Tensor) -> str | None:
    """The same for a tensor that is written to, whose entries must not share memory with each other."""
    if not any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
        return None
    return (
        f"of shape {tuple(tensor.shape)} has several entries in one place of memory (it was expanded). "
        "Cure: tensor.clone(memory_format=torch.contiguous_format) in its place"
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def shared_names(module: nn.Module) -> dict[str, str]:
    """Every state-dict name -> the first name under which the same storage appears."""
    first: dict[tuple[Any, ...], str] = {}
    names: dict[str, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor):
            continue
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        names[name] = first.setdefault(key, name) if tensor.numel() else name
    return names


def count_weights(model: nn.Module) -> int:
    """Numbers that its file would hold: floating-point parameters and buffers, shared ones once."""
    names = shared_names(model)
    state = model.state_dict()
    return sum(state[n].numel() for n, first in names.items() if n == first and state[n].is_floating_point())
