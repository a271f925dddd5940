r"""Batch norms folded into the layers that feed them.

In evaluation mode a batch norm is one scale and one shift a channel, which the layer before it takes over:

.. math:: W'_c = W_c\,\frac{\gamma_c}{\sqrt{v_c + \epsilon}}, \qquad
          b'_c = (b_c - m_c)\,\frac{\gamma_c}{\sqrt{v_c + \epsilon}} + \beta_c

Source: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference (2018), section 3.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.networks.copies import duplicate
from laconic.networks.inputs import call as run
from laconic.networks.inputs import inference
from laconic.networks.watching import Call, Watching

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_FUNCTIONS = frozenset(
    (
        *(F.linear, F.conv1d, F.conv2d, F.conv3d),
        *(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d),
    )
)
TOLERANCE = 1e-3
"""Largest change of an output, as a share of the largest, by which a folded network may differ (float32)."""


def fold_batch_norms(module: nn.Module, example: Any) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy whose batch norms are folded into the convolution or linear layer before them, where that is
    exact.

    It is where the norm has running statistics and no subclass's own behaviour, and where it alone reads the
    layer's result, once. A folded norm is replaced by ``nn.Identity``. The network is run to see what reads
    what, and run again to compare: a copy that computes something else is dropped.

    Args:
        module: Any network; it is left as it was.
        example: One call's inputs.

    Returns:
        The copy, in evaluation mode, and the names of the norms that were folded.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU())
    >>> folded, names = fold_batch_norms(net, torch.zeros(1, 1, 4, 4))
    >>> names, sorted(folded.state_dict())
    (('1',), ['0.bias', '0.weight'])
    """
    copied = duplicate(module).eval()
    with inference():
        before = run(copied, example)
        pairs = _pairs(copied, example)
        for layer, norm in pairs:
            _fold(layer, norm)
        names = _replaced(copied, [norm for _, norm in pairs])
        if names and not _computes(copied, example, before):
            return duplicate(module).eval(), ()
    return copied, names


@dataclass
class _Seen:
    """What one run shows: which calls read a tensor, and which layer or norm made it."""

    made: dict[int, int] = field(default_factory=dict)  # id of a result: id of the weight that made it
    fed: list[tuple[int, int]] = field(default_factory=list)  # ids of a norm's input and running mean
    readers: Counter[int] = field(default_factory=Counter)  # calls that read a tensor's values
    parameters: Counter[int] = field(default_factory=Counter)  # calls that take a parameter or buffer
    alive: list[Tensor] = field(default_factory=list)  # an id names a tensor as long as this lives

    def look(self, call: Call) -> None:
        """Note a call and its result."""
        if not call.looks_at_values:
            return
        given = {id(t): t for t in call.tensors()}
        for key, tensor in given.items():
            self.readers[key] += 1
            self.alive.append(tensor)
        results = call.results()
        self.alive.extend(results)
        if call.function in _FUNCTIONS and len(results) == 1:
            self.made[id(results[0])] = id(call.argument(1, "weight"))
        elif call.function is F.batch_norm:
            self.fed.append((id(call.argument(0, "input")), id(call.argument(1, "running_mean"))))


def _pairs(module: nn.Module, example: Any) -> list[tuple[nn.Module, nn.Module]]:
    """Layers and the norms that can be folded into them."""
    seen = _Seen()
    with Watching(after=seen.look):
        for leaf in tree_leaves(run(module, example)):
            seen.readers[id(leaf)] += 1
            seen.alive += [leaf] if isinstance(leaf, Tensor) else []
    layers = {id(m.weight): m for m in module.modules() if type(m) in _LAYERS}
    norms = {
        id(m.running_mean): m
        for m in module.modules()
        if type(m) in _NORMS and m.running_mean is not None and not _hooked(m)
    }
    found: list[tuple[nn.Module, nn.Module]] = []
    for x, mean in seen.fed:
        weight = seen.made.get(x)
        layer, norm = layers.get(weight or 0), norms.get(mean)
        if layer is None or norm is None or seen.readers[x] > 1 or _hooked(layer):
            continue
        own = [id(t) for t in (layer.weight, layer.bias, *norm.parameters(), *norm.buffers())]
        once = all(seen.readers[key] <= 1 for key in own if key != id(None))
        if once and (not isinstance(layer, nn.Linear) or isinstance(norm, nn.BatchNorm1d)):
            found.append((layer, norm))
    return found


def _hooked(module: nn.Module) -> bool:
    """Whether something else runs when the module is called."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _fold(layer: Any, norm: Any) -> None:
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.double()
    weight, bias = layer.weight.double(), 0.0 if layer.bias is None else layer.bias.double()
    shift = (bias - norm.running_mean.double()) * scale
    shift = shift if norm.bias is None else shift + norm.bias.double()
    if isinstance(layer, _TRANSPOSED):  # (inputs, outputs of a group, *kernel)
        groups = layer.groups
        split = weight.reshape(groups, len(weight) // groups, *weight.shape[1:])
        each = scale.reshape(groups, 1, -1, *(1 for _ in weight.shape[2:]))
        weight = (split * each).reshape(weight.shape)
    else:
        weight = weight * scale.reshape(-1, *(1 for _ in weight.shape[1:]))
    layer.weight.copy_(weight)
    wanted = layer.weight.requires_grad
    layer.bias = nn.Parameter(shift.to(layer.weight), requires_grad=wanted)


def _replaced(module: nn.Module, norms: list[nn.Module]) -> tuple[str, ...]:
    """Put ``nn.Identity`` in the place of each norm, wherever it is registered; returns the places."""
    gone = {id(norm) for norm in norms}
    places = []
    for prefix, parent in list(module.named_modules(remove_duplicate=False)):
        children: Mapping[str, nn.Module | None] = parent._modules
        for name, child in children.items():
            if child is not None and id(child) in gone:
                setattr(parent, name, nn.Identity().eval())
                places.append(f"{prefix}.{name}" if prefix else name)
    return tuple(places)


def _computes(module: nn.Module, example: Any, wanted: Any) -> bool:
    """Whether the network still gives what it gave: its forward may ask a norm for what an identity lacks."""
    try:
        return _alike(wanted, run(module, example))
    except Exception:  # noqa: BLE001 - the network's own code may fail in any way
        return False


def _alike(before: Any, after: Any) -> bool:
    """Whether two results are equal but for the rounding of float32."""
    pairs = zip(tree_leaves(before), tree_leaves(after), strict=True)
    for a, b in pairs:
        if isinstance(a, Tensor) and a.is_floating_point() and a.numel():
            largest = float(a.abs().max())
            if not float((a - b).abs().max()) <= TOLERANCE * largest:
                return False
    return True
