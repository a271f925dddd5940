"""Make a network physically smaller: slice every tensor that holds a removed unit.

:func:`shrink` is pure. It gives a plain module of the same class with fewer channels, hidden units or heads,
whose result is, up to rounding, that of the network in which the removed units' parameters are zero
(:func:`mask`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.networks import folded, inference
from laconic.records import KeepPlan
from laconic.structure.branches import Constant, close_branches
from laconic.structure.coupling.groups import Coupling
from laconic.structure.coupling.sides import TRANSPOSED, is_in_out
from laconic.structure.narrow import NarrowAttention, NarrowInput, NarrowLayerNorm
from laconic.structure.plan import check_plan

Keep = dict[tuple[str, int], Any]  # (tensor, axis) -> one boolean a position


def kept_positions(coupling: Coupling, plan: KeepPlan) -> Keep:
    """Which positions of which axes stay; axes that stay whole are not named."""
    keep: Keep = {}
    for name in plan.kept:
        group = coupling.group(name)
        removed = np.zeros(group.size + 1, dtype=bool)  # the last is for positions of other groups
        removed[list(plan.removed(name))] = True
        if not removed.any():
            continue
        for member in group.members:
            mine = ~removed[member.units]
            place = (member.tensor, member.axis)
            keep[place] = keep[place] & mine if place in keep else mine
    return keep


def mask(module: nn.Module, coupling: Coupling, plan: KeepPlan) -> nn.Module:
    """A copy of the network in which every parameter of a removed unit is zero; shapes stay.

    Weights that the network computes from others (weight norm, masks) are plain in the copy.

    Args:
        module: The network; it is left as it was.
        coupling: Its groups.
        plan: Which units stay.

    Returns:
        The copy.

    Raises InputError for a plan for another network.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> _ = [p.data.fill_(1.0) for p in net.parameters()]
    >>> plan = KeepPlan({"0.weight:0": (1,)}, {"0.weight:0": 2})
    >>> [p.tolist() for p in mask(net, find_groups(net, torch.zeros(2, 1)), plan).parameters()]
    [[[0.0], [1.0]], [[0.0, 1.0]]]
    """
    check_plan(plan, coupling)
    copied, _ = folded(module)
    _zero(copied, kept_positions(coupling, plan))
    return copied


@contextmanager
def masked(module: nn.Module, coupling: Coupling, plan: KeepPlan) -> Iterator[nn.Module]:
    """The network itself, in which everything that the plan removes is zero within the block."""
    before = _zero(module, kept_positions(coupling, plan))
    try:
        yield module
    finally:
        with torch.no_grad():
            for tensor, axis, index, values in reversed(before):
                tensor.index_copy_(axis, index, values)


def _zero(module: nn.Module, keep: Keep) -> list[tuple[Tensor, int, Tensor, Tensor]]:
    """Zero what is not kept; gives (tensor, axis, index, values before) in the order of writing."""
    tensors = dict(module.state_dict(keep_vars=True))
    before = []
    with torch.no_grad():
        for (name, axis), stay in keep.items():
            if name in tensors:
                tensor = tensors[name]
                index = torch.as_tensor(np.flatnonzero(~stay), device=tensor.device)
                before.append((tensor, axis, index, tensor.index_select(axis, index)))
                tensor.index_fill_(axis, index, 0)
    return before


def shrink(module: nn.Module, coupling: Coupling, plan: KeepPlan) -> nn.Module:
    """A smaller, plain network without the units that a plan removes.

    Where the plan removes parts of an input, the result still takes the whole input and selects
    (:class:`laconic.structure.narrow.NarrowInput`). Where it keeps no unit of a group that may lose all, the
    layers of that branch are replaced by their constant outputs
    (:class:`laconic.structure.branches.Constant`). Weights that the network computes from others (weight
    norm, spectral norm, the masks of pruning) are plain in the result.

    Args:
        module: The network; it is left as it was.
        coupling: Its groups.
        plan: Which units stay.

    Returns:
        The smaller network; its result is that of :func:`mask`, up to rounding.

    Raises InputError for a plan for another network.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> coupling = find_groups(net, torch.zeros(2, 4))
    >>> [g.name for g in coupling.groups if not g.of_input]
    ['0.weight:0']
    >>> shrink(net, coupling, KeepPlan({"0.weight:0": (1, 5, 6)}, {"0.weight:0": 8}))
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
      (1): ReLU()
      (2): Linear(in_features=3, out_features=2, bias=True)
    )
    """
    check_plan(plan, coupling)
    copied, _ = folded(module)
    emptied = [name for name, kept in plan.kept.items() if not kept]
    if emptied:
        removed = KeepPlan({n: plan.kept[n] for n in emptied}, {n: plan.sizes[n] for n in emptied})
        close_branches(copied, mask(module, coupling, removed), coupling.branches, emptied)
        _slice_constants(copied, kept_positions(coupling, plan))
    return carried_out(copied, coupling, plan)


def carried_out(copied: nn.Module, coupling: Coupling, plan: KeepPlan) -> nn.Module:
    """The network that a plan leaves, from a copy with plain weights; it gets new parameters."""
    keep = kept_positions(coupling, plan)
    by_tensor: dict[str, dict[int, Any]] = defaultdict(dict)
    for (name, axis), stay in keep.items():
        by_tensor[name][axis] = stay
    touched = _slice_tensors(copied, by_tensor)
    for name in touched:
        _refit(copied, name)
    _without_fused_path(copied)
    kept_inputs = {
        (int(name[5:]), axis): torch.as_tensor(np.flatnonzero(stay))
        for (name, axis), stay in keep.items()
        if name.startswith("input") and name[5:].isdigit()
    }
    return NarrowInput(copied, kept_inputs) if kept_inputs else copied


def _slice_constants(module: nn.Module, keep: Keep) -> None:
    """Keep of the constants that replaced layers the channels that those layers would have kept."""
    for name, part in list(module.named_modules()):
        if isinstance(part, Constant):
            found = [keep[place] for own in _BY_CHANNEL if (place := (f"{name}.{own}", 0)) in keep]
            if found and found[0].any():  # else a layer of the branch itself, whose output none reads
                axis = tuple(part.value.shape).index(len(found[0]))  # all other axes have length 1
                value = _sliced(part.value.detach(), {axis: found[0]})
                owner, _, child = name.rpartition(".")
                setattr(module.get_submodule(owner), child, Constant(value).train(part.training))


_BY_CHANNEL = ("weight", "bias", "running_mean")  # of a layer, whose axis 0 is that of its outputs
_REPLACED = (Constant, NarrowAttention, NarrowLayerNorm)


def _without_fused_path(module: nn.Module) -> None:
    """Torch's fused Transformer reads the weights of its parts, and a replaced part has none."""
    for part in module.modules():
        if isinstance(part, (nn.TransformerEncoder, nn.TransformerEncoderLayer)):
            replaced = any(isinstance(m, _REPLACED) for m in part.modules())
            if replaced and isinstance(part, nn.TransformerEncoder):
                part.use_nested_tensor = False
            elif replaced:
                part.activation_relu_or_gelu = 0  # the layer reads it before it takes that path


def _slice_tensors(module: nn.Module, by_tensor: Mapping[str, Mapping[int, Any]]) -> list[str]:
    """Put smaller tensors in the place of those that shrink; the names of the modules that hold them."""
    whole = dict(module.state_dict(keep_vars=True))
    smaller: dict[int, Tensor] = {}
    for name, axes in by_tensor.items():
        if name in whole:
            smaller[id(whole[name])] = _sliced(whole[name], axes)
    touched = []
    for owner_name, owner in module.named_modules():
        for key, tensor in [*owner._parameters.items(), *owner._buffers.items()]:
            if tensor is not None and id(tensor) in smaller:
                store = owner._parameters if key in owner._parameters else owner._buffers
                store[key] = smaller[id(tensor)]
                touched.append(owner_name)
    return list(dict.fromkeys(touched))


def _sliced(tensor: Tensor, axes: Mapping[int, Any]) -> Tensor:
    data = tensor.detach()
    for axis, stay in axes.items():
        data = data.index_select(axis, torch.as_tensor(np.flatnonzero(stay), device=data.device))
    layout = torch.channels_last if _is_channels_last(tensor) else torch.contiguous_format
    data = data.contiguous(memory_format=layout)
    return nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data


def _is_channels_last(tensor: Tensor) -> bool:
    return (
        tensor.ndim == 4
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )


# --- what a module says of its own sizes -----------------------------------------------------------


def _refit(root: nn.Module, name: str) -> None:
    """Set a module's sizes to those of its tensors, or replace it by a narrow module."""
    module = root.get_submodule(name)
    for kind, fit in _FITS:
        if isinstance(module, kind):
            fitted = fit(module)
            if fitted is not None and name:
                place, _, child = name.rpartition(".")
                setattr(root.get_submodule(place), child, fitted)
            break
    else:
        if is_in_out(module):
            _transposed_linear(module)
    parent = root.get_submodule(name.rpartition(".")[0]) if name else root
    if isinstance(parent, NarrowAttention):
        parent.num_heads = parent.q_proj.weight.shape[0] // parent.head_width


def _linear(m: Any) -> None:
    m.out_features, m.in_features = m.weight.shape


def _transposed_linear(m: Any) -> None:
    """A linear layer whose weight is (in, out), as in GPT-2."""
    m.nx, m.nf = m.weight.shape


def _conv(m: Any) -> None:
    depthwise = m.groups == m.in_channels and m.groups > 1
    out, inside = m.weight.shape[:2]
    m.groups = out // (m.out_channels // m.in_channels) if depthwise else m.groups
    m.out_channels, m.in_channels = out, inside * m.groups


def _conv_transpose(m: Any) -> None:
    depthwise = m.groups == m.in_channels and m.groups > 1
    m.in_channels = m.weight.shape[0]
    m.groups = m.in_channels if depthwise else m.groups
    m.out_channels = m.weight.shape[1] * m.groups


def _batch_norm(m: Any) -> None:
    m.num_features = len(m.weight if m.weight is not None else m.running_mean)


def _group_norm(m: Any) -> None:
    width = m.num_channels // m.num_groups
    m.num_channels = len(m.weight)
    m.num_groups = m.num_channels // width


def _embedding(m: Any) -> None:
    m.num_embeddings, m.embedding_dim = m.weight.shape


def _recurrent(m: Any) -> None:
    gates = {"LSTM": 4, "GRU": 3}.get(m.mode, 1)
    m.hidden_size = m.weight_ih_l0.shape[0] // gates
    m.input_size = m.weight_ih_l0.shape[1]
    m.proj_size = m.weight_hr_l0.shape[0] if m.proj_size else 0
    if m.proj_size == m.hidden_size:  # torch then takes the projection for a missing one
        raise InputError(
            f"an LSTM cannot have as many hidden units as it projects to ({m.hidden_size}). "
            "Cure: keep one unit more or less"
        )
    m._init_flat_weights()


def _cell(m: Any) -> None:
    m.input_size, m.hidden_size = m.weight_ih.shape[1], m.weight_hh.shape[1]


def _layer_norm(m: Any) -> nn.Module:
    axis = _normalised_axis(m, nn.LayerNorm)
    narrow = NarrowLayerNorm(m.normalized_shape[0], m.weight, m.bias, m.eps, axis=axis)
    return narrow.train(m.training)


def _rms_norm(m: Any) -> nn.Module:
    eps = torch.finfo(m.weight.dtype).eps if m.eps is None else m.eps
    axis = _normalised_axis(m, nn.RMSNorm)
    total = m.normalized_shape[0]
    return NarrowLayerNorm(total, m.weight, None, eps, centred=False, axis=axis).train(m.training)


def _normalised_axis(m: Any, plain: type[nn.Module]) -> int:
    """The axis that a norm normalises: a class derived from torch's may take the channels of images."""
    if type(m).forward is plain.forward:
        return -1
    total = m.normalized_shape[0]
    whole = {n: p.new_ones(total) for n, p in m.named_parameters() if p.numel()}
    x = torch.linspace(-1, 2, 18 * total, dtype=m.weight.dtype, device=m.weight.device)
    x = x.reshape(2, 3, 3, total).sin()
    reference = plain(total, eps=m.eps, device=x.device, dtype=x.dtype)
    try:
        with inference():
            wanted = torch.func.functional_call(reference, {n: whole[n] for n in whole}, (x,))
            got = torch.func.functional_call(m, whole, (x.movedim(-1, 1),)).movedim(1, -1)
    except Exception:  # noqa: BLE001 - a derived class's forward may refuse images
        return -1
    return 1 if got.shape == wanted.shape and torch.allclose(got, wanted, atol=1e-5) else -1


def _attention(m: Any) -> nn.Module:
    inner = m.out_proj.weight.shape[1]
    weights = (
        m.in_proj_weight.detach().split(inner)
        if m.in_proj_weight is not None
        else [w.detach() for w in (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight)]
    )
    biases = [None] * 3 if m.in_proj_bias is None else list(m.in_proj_bias.detach().split(inner))
    projections = dict(zip(("q_proj", "k_proj", "v_proj"), zip(weights, biases, strict=True), strict=True))
    projections["out_proj"] = (m.out_proj.weight.detach(), _data(m.out_proj.bias))
    narrow = NarrowAttention(
        {name: (w.clone(), None if b is None else b.clone()) for name, (w, b) in projections.items()},
        inner // m.head_dim,
        dropout=m.dropout,
        batch_first=m.batch_first,
    )
    return narrow.train(m.training)


def _data(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


_FITS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Callable[[Any], nn.Module | None]], ...] = (
    (nn.MultiheadAttention, _attention),
    (nn.Linear, _linear),
    (TRANSPOSED, _conv_transpose),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _conv),
    (nn.modules.batchnorm._NormBase, _batch_norm),
    (nn.GroupNorm, _group_norm),
    (nn.LayerNorm, _layer_norm),
    (nn.RMSNorm, _rms_norm),
    (nn.Embedding, _embedding),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _cell),
)
