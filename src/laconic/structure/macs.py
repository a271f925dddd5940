r"""Multiply-accumulates of weights as a function of a keep plan: no smaller network is built.

A weight tensor is used equally often in every plan (once per output position, once per time step), so that

.. math:: MACs(plan) = \sum_{weights} uses \cdot \prod_{axes} kept.

Products of two activations (attention scores) are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.networks import inference, positional
from laconic.networks.modes import evaluating
from laconic.networks.watching import Call, Watching
from laconic.structure.coupling.functions import called
from laconic.structure.coupling.groups import Coupling

_LINEAR = frozenset(called("linear"))
_ADDMM = frozenset(called("addmm"))
_CONV = frozenset(called("conv1d", "conv2d", "conv3d"))
_TRANSPOSED = frozenset(called("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"))
_RECURRENT = frozenset(called("lstm", "gru", "rnn_tanh", "rnn_relu"))
_CELL = frozenset(called("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"))
_ATTENTION = frozenset({nn.functional.multi_head_attention_forward})


@dataclass(frozen=True, eq=False)
class WeightMacs:
    """``uses``: how often one example uses each entry of a weight; ``axes``: which groups cut which axes.

    An axis is a list of (group, positions of the axis per unit); an axis that no group reaches stays whole.
    """

    uses: Mapping[str, float]
    shapes: Mapping[str, tuple[int, ...]]
    axes: Mapping[tuple[str, int], tuple[tuple[str, int], ...]]
    sizes: Mapping[str, int]

    def total(self, kept: Mapping[str, int] | None = None) -> float:
        """MACs of one example with so many units kept in each group (all, where a group is not named)."""
        return sum(self._of(name, kept or {}) for name in self.uses)

    def _of(self, name: str, kept: Mapping[str, int]) -> float:
        lengths = []
        for axis, full in enumerate(self.shapes[name]):
            removed = sum(
                (self.sizes[g] - kept.get(g, self.sizes[g])) * each
                for g, each in self.axes.get((name, axis), ())
            )
            lengths.append(full - removed)
        return self.uses[name] * float(np.prod(lengths))


def weight_macs(module: nn.Module, coupling: Coupling, example: Any) -> WeightMacs:
    """Watch one run of a network in evaluation mode and count how often each weight is used.

    ``example`` is as for :func:`laconic.structure.find_groups`.

    >>> import torch
    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    >>> macs = weight_macs(net, find_groups(net, torch.zeros(2, 1, 4, 4)), torch.zeros(2, 1, 4, 4))
    >>> macs.total(), macs.total({"0.weight:0": 1})
    (176.0, 44.0)
    """
    view, inputs = positional(module, example)
    names = {id(t): n for n, t in module.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}
    batch = max(1, inputs[0].shape[0] if inputs and inputs[0].ndim else 1)
    uses: dict[str, float] = {}

    def counted(call: Call) -> None:
        for weight, count in _uses_of(call):
            if isinstance(weight, Tensor) and id(weight) in names:
                name = names[id(weight)]
                uses[name] = uses.get(name, 0.0) + count / batch

    with evaluating(module), inference(), Watching(after=counted):
        view(*(x.clone() for x in inputs))
    shapes = {n: tuple(t.shape) for n, t in module.state_dict().items() if isinstance(t, Tensor)}
    axes: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for group in coupling.groups:
        for member in group.members:
            each = int((member.units == 0).sum())
            axes.setdefault((member.tensor, member.axis), []).append((group.name, each))
    sizes = {g.name: g.size for g in coupling.groups}
    return WeightMacs(uses, shapes, {k: tuple(v) for k, v in axes.items()}, sizes)


def _uses_of(call: Call) -> list[tuple[Any, float]]:
    """The weights that a call multiplies by, each with how often."""
    func, args, result, given = call.function, call.args, call.result, call.argument
    if func in _LINEAR:
        return [(given(1, "weight"), result.numel() / result.shape[-1])]
    if func in _CONV or func in _TRANSPOSED:
        weight = given(1, "weight")
        places = given(0, "input") if func in _TRANSPOSED else result
        axis = places.ndim - (weight.ndim - 2) - 1
        return [(weight, places.numel() / places.shape[axis])]
    if func in _ADDMM:
        return [(given(2, "mat2"), result.numel() / result.shape[-1])]
    if func in _CELL:
        return [(w, float(args[0].shape[0])) for w in args[2:4]]
    if func in _RECURRENT:
        steps = args[0].numel() / args[0].shape[-1]
        matrices = [w for w in tree_leaves(args[2:4]) if isinstance(w, Tensor) and w.ndim == 2]
        return [(w, steps) for w in matrices]
    if func in _ATTENTION:
        query = args[0]
        names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        count = query.numel() / query.shape[-1]
        inside = [args[5] if len(args) > 5 else None, *(call.kwargs.get(n) for n in names)]
        return [(w, count) for w in (*inside, given(11, "out_proj_weight"))]
    return []
