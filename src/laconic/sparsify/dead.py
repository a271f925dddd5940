"""Weights that lie on no path from input to output: found exactly and without data.

In a network of linear maps, convolutions, ReLUs, pooling, sums and reshapes, replace every parameter by 1
where it is not zero and by 0 where it is, feed ones, and pool by averages. All values are then at least 0, so
none can cancel, and a parameter's gradient is zero if and only if no path through nonzero weights
joins it to an output (or, for a weight, an input or a bias to it). Such parameters change nothing and
cost bytes. The construction is that of synaptic flow.

Source: Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic flow,
NeurIPS 2020, eq. 2 (there a score, here a test for zero).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from laconic.networks import duplicate

AliveMasks = dict[str, npt.NDArray[np.bool_]]

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SHAPING = (nn.Flatten, nn.Unflatten, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_PASSING = (nn.ReLU, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_MAX_POOLS: tuple[tuple[type[nn.Module], Callable[..., Tensor]], ...] = (
    (nn.MaxPool1d, F.avg_pool1d),
    (nn.MaxPool2d, F.avg_pool2d),
    (nn.MaxPool3d, F.avg_pool3d),
)
_FUNCTIONS: dict[Any, Callable[..., Any] | None] = {
    F.relu: lambda x, *_, **__: x,
    torch.relu: lambda x: x,
    F.dropout: lambda x, *_, **__: x,
    operator.add: None,
    torch.add: None,
    torch.cat: None,
    torch.flatten: None,
    operator.getitem: None,
    operator.mul: None,
    operator.floordiv: None,
    getattr: None,
    F.avg_pool1d: None,
    F.avg_pool2d: None,
    F.avg_pool3d: None,
    F.adaptive_avg_pool2d: None,
}
_METHODS = frozenset(
    {"view", "reshape", "flatten", "size", "permute", "transpose", "contiguous", "unsqueeze", "squeeze"}
)


class _NotCovered(Exception):
    """The network holds an operation for which the construction is not known to be right."""


def alive_parameters(module: nn.Module, example: Tensor) -> AliveMasks | None:
    """Boolean masks by parameter name: True where the parameter can still change an output.

    Args:
        module: The network; it is left as it was.
        example: An input of the right shape; its values are not used.

    Returns:
        By parameter, a mask of its shape. None when the network holds anything but linear maps,
        convolutions, ReLUs, pooling, sums, concatenation and reshapes: then nothing is claimed.

    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[0.0, 1.0]]))
    >>> alive_parameters(net, torch.ones(1, 1))["0.bias"].tolist()
    [False, True]
    """
    if not isinstance(example, Tensor) or not example.is_floating_point() or _has_hooks(module):
        return None
    twin = duplicate(module).cpu().eval().double()
    try:
        graph = fx.symbolic_trace(twin)
    except Exception:  # noqa: BLE001 - tracing fails in many ways; all of them mean "not covered"
        return None
    with torch.no_grad():
        for p in twin.parameters():
            if p.is_floating_point():
                p.requires_grad_(True)  # frozen ones too: they may well be alive
                p.copy_((p != 0) / max(1, p.numel() // max(1, len(p)) if p.ndim > 1 else 1))
    try:
        out = _Flow(graph).run(torch.ones(example.shape, dtype=torch.float64))
    except _NotCovered:
        return None
    outputs = [o for o in tree_leaves(out) if isinstance(o, Tensor) and o.requires_grad]
    if not outputs:
        return None
    torch.autograd.backward(torch.stack([o.sum() for o in outputs]).sum())
    named = graph.named_parameters(remove_duplicate=False)
    return {n: np.asarray(p.grad != 0) if p.grad is not None else np.zeros(p.shape, bool) for n, p in named}


def _has_hooks(module: nn.Module) -> bool:
    """Whether hooks may change values between layers. One before the whole only changes its input."""
    inner = (m for m in module.modules() if m is not module)
    return bool(module._forward_hooks) or any(m._forward_hooks or m._forward_pre_hooks for m in inner)


class _Flow(fx.Interpreter):
    """Runs the traced network with averages in place of maxima, and refuses unknown operations."""

    def run_node(self, n: fx.Node) -> Any:
        """One operation, scaled to a largest value of 1, so that a deep network does not underflow."""
        out = super().run_node(n)
        if n.op in ("placeholder", "output", "get_attr") or not isinstance(out, Tensor) or not out.numel():
            return out
        largest = float(out.detach().max())
        return out / largest if largest > 0 else out

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A parameter by itself; a buffer may hold negative numbers, which could cancel."""
        found = super().get_attr(target, args, kwargs)
        if not isinstance(found, nn.Parameter):
            raise _NotCovered(str(target))
        return found

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = self.fetch_attr(str(target))
        for kind, average in _MAX_POOLS:
            if (
                type(layer) is kind
                and layer.dilation in (1, (1,), (1, 1), (1, 1, 1))
                and not layer.return_indices
            ):
                return average(*args, layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)
        if type(layer) in _PASSING:
            return args[0]
        if (
            type(layer) in (*_LINEAR, *_SHAPING, *_ADAPTIVE)
            and getattr(layer, "padding_mode", "zeros") == "zeros"
        ):
            return super().call_module(target, args, kwargs)
        raise _NotCovered(str(target))

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target in (F.max_pool2d, torch.max_pool2d) or getattr(target, "__name__", "") == "max_pool2d":
            return _average_for_max(target, args, kwargs)
        if target not in _FUNCTIONS or not _stays_positive(target, args, kwargs):
            raise _NotCovered(str(target))
        replacement = _FUNCTIONS[target]
        return replacement(*args, **kwargs) if replacement else super().call_function(target, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target == "relu":
            return args[0]
        if target not in _METHODS:
            raise _NotCovered(str(target))
        return super().call_method(target, args, kwargs)


def _average_for_max(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """``max_pool2d(x, kernel, stride, padding, ...)`` as an average, which has no dilation."""
    known = {"stride", "padding", "ceil_mode", "kernel_size", "dilation", "return_indices"}
    if set(kwargs) - known or len(args) > 4:
        raise _NotCovered(str(target))
    if kwargs.get("dilation", 1) not in (1, (1, 1)) or kwargs.get("return_indices"):
        raise _NotCovered(str(target))
    kept = {k: v for k, v in kwargs.items() if k not in ("dilation", "return_indices") and v is not None}
    return F.avg_pool2d(*args, **kept)


def _stays_positive(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether no term can cancel another: sums of tensors alone, products and quotients of sizes alone."""
    if target in (operator.add, torch.add):
        tensors = [isinstance(a, Tensor) for a in args]
        return not kwargs and (all(tensors) or not any(tensors))
    if target in (operator.mul, operator.floordiv):
        return not any(isinstance(a, Tensor) for a in args)
    return True
