"""Take a network out of its wrappers, and refuse the forms of a network that cannot be used."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from laconic.errors import ModelError

# Wrappers, and the attribute under which each holds its network.
_WRAPPERS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.DataParallel, "module"),
    (nn.parallel.DistributedDataParallel, "module"),
    (AveragedModel, "module"),
)
# The same, in parts of libraries that are slow to import. They are imported wherever such a wrapper exists.
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
GATHER_CURE = (
    "Cure: gather the weights into the plain network (torch.distributed.checkpoint.state_dict."
    "get_model_state_dict with full_state_dict=True, then load_state_dict) and hand in that"
)


def network_in(model: Any, verb: str) -> nn.Module:
    """The network that ``model`` is or wraps (see :func:`unwrapped`); ``verb`` is named in errors.

    Raises ModelError for what is no module, and for a scripted, sharded or quantised network.

    >>> network_in(nn.DataParallel(nn.Linear(2, 3)), "save")
    Linear(in_features=2, out_features=3, bias=True)
    """
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{verb} takes a PyTorch module, got a {type(model).__name__}. Cure: {_cure_for(model)}"
        )
    _refuse_forms(model, verb)
    return unwrapped(model)


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


def _cure_for(model: object) -> str:
    if type(model).__name__ == "ExportedProgram":
        return "its .module(), or, to find groups in it, the network that was exported"
    return "build the network and load its state dict into it" + (
        ", then hand that in" if isinstance(model, Mapping) else ""
    )


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


def _refuse_forms(model: nn.Module, verb: str) -> None:
    """Refuse networks whose layers are not PyTorch's own objects any more."""
    fsdp = getattr(sys.modules.get(_SHARDED[0]), _SHARDED[1], ())
    for name, module in model.named_modules():
        where = f"layer {name!r}" if name else "the network"
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"{verb}: {where} is scripted or traced ({type(module).__name__}), so its layers cannot be "
                "read. Cure: hand in the module that was given to torch.jit; a file restores into either"
            )
        if isinstance(module, fsdp):
            raise ModelError(
                f"{verb}: {where} is a {type(module).__name__}: each process holds a part of it. "
                f"{GATHER_CURE}"
            )
        if type(module).__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.sparse.quantized")):
            raise ModelError(
                f"{verb}: {where} ({type(module).__name__}) is quantised by PyTorch already. "
                "Cure: hand in the float network; for int8, laconic.save(..., calibrate=batches)"
            )
