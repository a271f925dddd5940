"""Checks of a network before it is prepared: whether its values are finite, and how it uses its layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._pytree import tree_leaves

from laconic.errors import InputError, ModelError
from laconic.networks.copies import duplicate
from laconic.networks.inputs import arguments, with_tensors
from laconic.networks.layout import contiguous
from laconic.networks.watching import Call, Watching

# Reading one of these of a weight does not read its value.
_METADATA = frozenset(
    (
        *("shape", "device", "dtype", "layout", "requires_grad", "grad", "ndim", "is_cuda", "is_leaf"),
        *("size", "dim", "stride", "numel", "is_contiguous", "is_floating_point", "is_sparse", "is_nested"),
        *("is_quantized", "is_mps", "is_xpu", "data_ptr", "__len__", "__hash__", "__repr__", "is_meta"),
    )
)
# What a user's forward may raise on an input that does not fit.
_FAILURES = (
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError),
    *(ArithmeticError, OSError),
)


@dataclass(frozen=True)
class Uses:
    """By module name: its number of forward calls, and whether its parameters were read outside them."""

    calls: Mapping[str, int]
    outside: frozenset[str]


def check_model(model: nn.Module, example: Any) -> None:
    """Refuse a network that cannot be compressed, and an example that does not fit it (None: not looked at).

    Raises ModelError (no parameters, uninitialised, NaN or infinite weights, NaN buffers) and InputError (the
    example).
    """
    named = list(model.named_parameters())
    if not named:
        raise ModelError(
            f"{type(model).__name__} has no parameters: there is nothing to compress. Cure: a network that "
            "holds its weights as nn.Parameter"
        )
    for name, parameter in named:
        if isinstance(parameter, UninitializedParameter):
            raise ModelError(
                f"parameter {name!r} is not initialised yet. Cure: run one batch through the network"
            )
        bad = int((~torch.isfinite(parameter.detach())).sum())
        if bad:
            raise ModelError(
                f"parameter {name!r} of shape {tuple(parameter.shape)} holds {bad} NaN or infinite values. "
                "Cure: load a sound checkpoint, or train again with a lower learning rate"
            )
    for name, buffer in model.named_buffers():
        count = int(torch.isnan(buffer).sum()) if buffer.is_floating_point() else 0
        if count:
            raise ModelError(
                f"buffer {name!r} of shape {tuple(buffer.shape)} holds {count} NaN. Cure: load a sound "
                "checkpoint, or reset the running statistics and estimate them again"
            )
    if example is not None:
        observe(model, example)


def observe(model: nn.Module, example: Any) -> Uses:
    """Run ``example`` through a copy of ``model`` in eval mode and report how its layers are used.

    Gradients are on: without them attention's fused inference path would read weights past its layers.
    Raises InputError naming the layer, its weights' shapes and the input's if the example does not fit.
    """
    trial = duplicate(model).eval()
    layers = _Layers(trial)
    args, kwargs = arguments(example, next(trial.parameters()).device)
    try:
        with torch.enable_grad(), Watching(before=layers.read):
            trial(*args, **kwargs)
    except _FAILURES as error:
        raise InputError(_whole_numbers(model, example) or _misfit(layers, args, kwargs, error)) from error
    return Uses(dict(layers.calls), frozenset(layers.outside))


def small_example(model: nn.Module, inputs: Any, axis: int) -> Any:
    """Two examples of a batch where the network takes so few, else the batch, in a format that it takes."""
    few = with_tensors(inputs, lambda x: x.narrow(axis, 0, min(2, x.shape[axis])) if x.ndim > axis else x)
    first: InputError | None = None
    for candidate in (few, with_tensors(few, contiguous), inputs, with_tensors(inputs, contiguous)):
        try:
            check_model(model, candidate)
            return candidate
        except InputError as error:
            first = first or error
    raise first or InputError("the first batch has no inputs. Cure: a batch of one example or more")


class _Layers:
    """Counts calls by hooks, and notes torch functions that are handed a weight of a layer not running."""

    def __init__(self, model: nn.Module) -> None:
        self.calls: Counter[str] = Counter()
        self.outside: set[str] = set()
        self.running: list[tuple[str, nn.Module, tuple[Any, ...]]] = []
        self.owners: dict[int, set[str]] = {}
        for name, module in model.named_modules():
            for parameter in module.parameters(recurse=False):
                self.owners.setdefault(id(parameter), set()).add(name)
            module.register_forward_pre_hook(self._entering(name))
            module.register_forward_hook(self._leave)

    def _entering(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
            self.calls[name] += 1
            self.running.append((name, module, args))

        return enter

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self.running.pop()

    def read(self, call: Call) -> None:
        """Note whose weights a call reads."""
        if call.name not in _METADATA:
            running = {name for name, _, _ in self.running}
            for value in call.tensors():
                self.outside |= self.owners.get(id(value), set()) - running


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(_tensors(value))
    return found


def _whole_numbers(model: nn.Module, example: Any) -> str:
    """What is told of whole numbers where the network runs on the same ones as floating-point numbers; empty
    for any other example.
    """
    found = [x for x in tree_leaves(example) if isinstance(x, Tensor)]
    whole = {str(x.dtype) for x in found if not (x.is_floating_point() or x.is_complex())}
    if not whole:
        return ""
    trial = duplicate(model).eval()
    args, kwargs = arguments(with_tensors(example, lambda x: x.float()), next(trial.parameters()).device)
    try:
        with torch.no_grad():
            trial(*args, **kwargs)
    except _FAILURES:
        return ""
    kinds = ", ".join(sorted(whole)).replace("torch.", "")
    return (
        f"the example holds whole numbers ({kinds}), and the network takes floating-point "
        "numbers. Cure: x.float(), scaled as in training (bytes of images often by 1 / 255)"
    )


def _misfit(layers: _Layers, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> str:
    given = _shapes(_tensors((*args, *kwargs.values())))
    if not given:
        kinds = ", ".join(type(value).__name__ for value in (*args, *kwargs.values()))
        return f"the example holds no tensor, got {kinds or 'nothing'}. Cure: torch.as_tensor"
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    where, cure = "the network", ""
    if layers.running:
        name, module, inputs = layers.running[-1]
        owned = ", ".join(f"{n} {tuple(p.shape)}" for n, p in module.named_parameters(recurse=False))
        where = f"layer {name!r} ({type(module).__name__}; {owned or 'no parameters'})" if name else where
        where += f" met an input of shape {_shapes(_tensors(inputs)) or given}"
        cure = _cure(module, next(iter(_tensors(inputs)), None))
    return (
        f"the example of shape {given} does not fit: {where}: {reason}. "
        f"Cure: {cure or 'inputs of the shapes and types that forward takes, as in training'}"
    )


def _cure(module: nn.Module, x: Tensor | None) -> str:
    """What makes an input fit a layer of a known kind, by the shapes of both; empty where it is not known."""
    weight = getattr(module, "weight", None)
    if x is None or not isinstance(weight, Tensor):
        return ""
    if isinstance(module, nn.Linear):
        return _cure_of_size(x, module.in_features, x.ndim - 1, "features")
    if isinstance(module, nn.Embedding):
        return "" if x.dtype in (torch.int64, torch.int32) else "token indices, x.long()"
    kinds: tuple[tuple[type, int], ...] = (
        *((kind, 1) for kind in (nn.Conv1d, nn.BatchNorm1d)),
        *((kind, 2) for kind in (nn.Conv2d, nn.BatchNorm2d)),
        *((kind, 3) for kind in (nn.Conv3d, nn.BatchNorm3d)),
    )
    axes = next((axes for kind, axes in kinds if isinstance(module, kind)), None)
    if axes is None:
        return ""
    sizes = (getattr(module, name, None) for name in ("in_channels", "num_features"))
    size = next(size for size in sizes if isinstance(size, int))
    if x.ndim == axes + 1 and x.shape[0] == size and not (x.ndim == 2 and x.shape[1] == size):
        return "add the axis of the batch, x[None]"
    if x.ndim == axes + 1 and size == 1:
        return "add the axis of the channels, x[:, None]"
    return _cure_of_size(x, size, 1, "channels") if x.ndim == axes + 2 else ""


def _cure_of_size(x: Tensor, size: int, axis: int, what: str) -> str:
    """What makes ``size`` the length of an axis of ``x``, or another type where the length is right."""
    if x.ndim == 0:
        return ""
    if x.shape[axis] == size:
        return "" if x.dtype == torch.float32 else "float32, x.float()"
    if what == "features" and x.ndim > 2 and x[0].numel() == size:
        return "one row for each example, x.flatten(1)"
    if what == "channels" and x.shape[-1] == size:
        return f"channels before the other axes, x.movedim(-1, {axis})"
    return f"an input with {size} {what} on axis {axis} at this layer, not {x.shape[axis]}"


def _shapes(tensors: list[Tensor]) -> str:
    return ", ".join(str(tuple(t.shape)) for t in tensors)
