"""A network as its user holds it -> the plain module that the library works on. Every door calls this.

A network may come wrapped (``torch.compile``, ``DataParallel``, an average of weights), with weights that are
computed from others (``weight_norm``, ``spectral_norm``, pruning masks that were left on), or in a form that
cannot be worked on at all (a scripted network, sharded or sparse parameters). What can be made plain is; the
rest is refused by name.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from laconic.errors import ModelError
from laconic.networks import computed_weights, folded

# Wrappers, and the attribute under which each holds its network.
_WRAPPERS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.DataParallel, "module"),
    (nn.parallel.DistributedDataParallel, "module"),
    (AveragedModel, "module"),
)
# The same, in parts of libraries that are slow to import: who has such a wrapper has imported them.
_WRAPPERS_ELSEWHERE = (
    ("torch._dynamo.eval_frame", "OptimizedModule", "_orig_mod"),
    (
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper",
        "ActivationWrapper",
        "_checkpoint_wrapped_module",
    ),
    ("lightning_fabric.wrappers", "_FabricModule", "_original_module"),
    ("lightning.fabric.wrappers", "_FabricModule", "_original_module"),
)
_SHARDED = ("torch.distributed.fsdp", "FullyShardedDataParallel")
_GATHER = (
    "Cure: gather the weights into the plain network (torch.distributed.checkpoint.state_dict."
    "get_model_state_dict with full_state_dict=True, then load_state_dict) and hand in that"
)
# What an entry of a plain torch network is made of; float8 and the like have no counterpart in NumPy.
_STORED = frozenset(
    (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.complex32, torch.complex64, torch.complex128),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
        *(torch.uint16, torch.uint32, torch.uint64),
    )
)


class PlainNetwork(NamedTuple):
    """A network without wrappers and computed weights, and what was done to it, in words for the user."""

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
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{verb} takes a PyTorch module, got {_kind(model)}. Cure: build the network and load its state "
            "dict into it" + (", then hand that in" if isinstance(model, Mapping) else "")
        )
    _refuse_forms(model, verb)
    plain = unwrapped(model)
    check_tensors(plain, verb)
    if not computed_weights(plain):
        return PlainNetwork(plain)
    plain, names = folded(plain)
    what = f"{len(names)} weights, the first {names[0]!r}, are" if len(names) > 1 else f"{names[0]!r} is"
    note = (
        f"{verb}: {what} computed from other parameters (a norm, a parametrisation, a pruning mask) and "
        "became plain: what follows, training too, works on the weight alone"
    )
    return PlainNetwork(plain, (note,))


# --- wrappers ---------------------------------------------------------------------------------------


def unwrapped(model: nn.Module) -> nn.Module:
    """The network without its wrappers, at the root and within; all tensors are shared with ``model``.

    >>> inner = nn.Linear(2, 2)
    >>> unwrapped(nn.DataParallel(inner)) is inner
    True
    """
    root = _inside(model)
    if not any(_attribute_of(m) for m in root.modules()):
        return root
    return _without_inner_wrappers(root, {})


def _without_inner_wrappers(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    """A view: each module on the way to a wrapper is a shallow copy whose child is what was wrapped."""
    module = _inside(module)
    if id(module) in done:
        return done[id(module)]
    children = {
        name: None if child is None else _without_inner_wrappers(child, done)
        for name, child in module._modules.items()
    }
    same = all(child is module._modules[name] for name, child in children.items())
    view = module if same else copy.copy(module)
    if not same:
        view.__dict__["_modules"] = children
    done[id(module)] = view
    return view


def _inside(module: nn.Module) -> nn.Module:
    while (attribute := _attribute_of(module)) is not None:
        module = getattr(module, attribute)
    return module


def _attribute_of(module: nn.Module) -> str | None:
    """Where a wrapper holds its network; None for any other module."""
    for kind, attribute in _WRAPPERS:
        if isinstance(module, kind):
            return attribute
    for place, name, attribute in _WRAPPERS_ELSEWHERE:
        loaded = sys.modules.get(place)
        if loaded is not None and isinstance(module, getattr(loaded, name, ())):
            return attribute
    return None


# --- refusals ---------------------------------------------------------------------------------------


def _refuse_forms(model: nn.Module, verb: str) -> None:
    """Refuse networks whose layers are not PyTorch's own objects any more."""
    fsdp = getattr(sys.modules.get(_SHARDED[0]), _SHARDED[1], ())
    for name, module in model.named_modules():
        where = f"layer {name!r}" if name else "the network"
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"{verb}: {where} is scripted or traced ({type(module).__name__}), so its layers cannot be "
                "seen. Cure: hand in the module that was given to torch.jit; a file restores into either"
            )
        if isinstance(module, fsdp):
            raise ModelError(
                f"{verb}: {where} is {_kind(module)}: each process holds a part of it. {_GATHER}"
            )
        if type(module).__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.sparse.quantized")):
            raise ModelError(
                f"{verb}: {where} ({type(module).__name__}) is quantised by PyTorch already. "
                "Cure: hand in the float network; for int8, laconic.save(..., calibrate=batches)"
            )


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
            _GATHER if hasattr(tensor, "full_tensor") else "Cure: hand in the network before it was changed"
        )
        return f"is a {type(tensor).__name__}. {cure}"
    if tensor.layout is not torch.strided:
        return f"is sparse ({str(tensor.layout).removeprefix('torch.')}). Cure: tensor.to_dense()"
    if tensor.dtype not in _STORED:
        return f"is {_short(tensor.dtype)}, which a file has no type for. Cure: tensor.float()"
    if isinstance(tensor, nn.Parameter) and _overlaps(tensor):
        return (
            f"of shape {tuple(tensor.shape)} has several entries in one place of memory (it was expanded). "
            "Cure: nn.Parameter(tensor.detach().clone(memory_format=torch.contiguous_format))"
        )
    return None


def _overlaps(tensor: Tensor) -> bool:
    return any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
