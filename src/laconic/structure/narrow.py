"""Plain modules that replace PyTorch's own where these cannot be made narrower.

A layer norm that counts the removed numbers, an attention whose heads do not fill its width, a
network that selects the part of its input that it still reads.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from laconic.networks import positional


def narrow_layer_norm(
    x: Tensor, total: int, weight: Tensor | None, bias: Tensor | None, eps: float, centred: bool = True
) -> Tensor:
    r"""Layer norm over the last axis of numbers of which ``total - n`` more, all zero, were left out.

    .. math:: m = \frac1N \sum_i x_i, \qquad v = \frac1N\Big(\sum_i (x_i - m)^2 + (N - n)\,m^2\Big), \qquad
              y = \frac{x - m}{\sqrt{v + \epsilon}}\, w + b

    with n numbers given of N. ``centred`` false: m is 0 (root mean square norm).

    >>> x = torch.tensor([[3.0, 1.0]])
    >>> narrow_layer_norm(x, 4, None, None, 0.0)
    tensor([[1.6330, 0.0000]])
    >>> F.layer_norm(torch.tensor([[3.0, 1.0, 0.0, 0.0]]), (4,), eps=0.0)[:, :1]
    tensor([[1.6330]])
    """
    given = (x, weight, bias)
    if has_torch_function(given):
        done: Tensor = handle_torch_function(narrow_layer_norm, given, x, total, weight, bias, eps, centred)
        return done
    removed = total - x.shape[-1]  # products, not squares: a capture of those takes a pass of decompositions
    if centred:
        mean = x.sum(-1, keepdim=True) / total
        x = x - mean
        moment = ((x * x).sum(-1, keepdim=True) + removed * (mean * mean)) / total
    else:
        moment = (x * x).sum(-1, keepdim=True) / total
    y = x / torch.sqrt(moment + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


class NarrowLayerNorm(nn.Module):
    """A layer norm (or root mean square norm) over what remains of ``total`` numbers; the rest was zero.

    ``axis``: where the numbers lie, -1 or 1 (channels of an image).
    """

    def __init__(
        self,
        total: int,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        centred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__()
        self.total, self.eps, self.centred, self.axis = total, eps, centred, axis
        self.weight = None if weight is None else nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the remaining numbers along the axis; any shape."""
        last = self.axis == -1
        x = input if last else input.movedim(self.axis, -1)
        y = narrow_layer_norm(x, self.total, self.weight, self.bias, self.eps, self.centred)
        return y if last else y.movedim(-1, self.axis)

    def extra_repr(self) -> str:
        """Fields that ``print`` shows."""
        kept = "" if self.weight is None else f"{len(self.weight)} of "
        return f"{kept}{self.total}, eps={self.eps}" + ("" if self.centred else ", centred=False")


class NarrowAttention(nn.Module):
    """Multi-head attention whose heads need not fill its width; called as ``nn.MultiheadAttention`` is.

    Scores are scaled by the square root of ``head_width``, the numbers per head. The attention weights that
    ``need_weights`` asks for are means over the remaining heads.
    """

    # What nn.TransformerEncoderLayer looks at before it takes its fused path, which is not for this module.
    in_proj_bias = None
    _qkv_same_embed_dim = False
    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    out_proj: nn.Linear

    def __init__(
        self,
        projections: Mapping[str, tuple[Tensor, Tensor | None]],
        num_heads: int,
        *,
        dropout: float,
        batch_first: bool,
    ) -> None:
        super().__init__()
        self.num_heads, self.dropout, self.batch_first = num_heads, dropout, batch_first
        for name, (weight, bias) in projections.items():
            layer = nn.Linear(
                weight.shape[1], weight.shape[0], bias=bias is not None, device="meta", dtype=weight.dtype
            )
            layer.weight = nn.Parameter(weight)
            if bias is not None:
                layer.bias = nn.Parameter(bias)
            setattr(self, name, layer)
        self.head_width = self.q_proj.out_features // num_heads

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Shapes and meaning as in ``nn.MultiheadAttention``."""
        batched = query.dim() == 3
        tensors = [query, key, value] if batched else [t.unsqueeze(0) for t in (query, key, value)]
        if batched and not self.batch_first:
            tensors = [t.transpose(0, 1) for t in tensors]
        layers = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (self._split(layer(t)) for layer, t in zip(layers, tensors, strict=True))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        for mask in self._masks(key_padding_mask, attn_mask, scores, batched):
            scores = scores + mask
        weights = torch.softmax(scores, dim=-1)
        attended = F.dropout(weights, self.dropout, self.training) @ v
        out = self.out_proj(attended.transpose(1, 2).flatten(2))
        shown = (weights.mean(1) if average_attn_weights else weights) if need_weights else None
        if not batched:
            return out.squeeze(0), None if shown is None else shown.squeeze(0)
        return (out if self.batch_first else out.transpose(0, 1)), shown

    def _split(self, x: Tensor) -> Tensor:
        """(batch, places, heads * width) -> (batch, heads, places, width)."""
        return x.reshape(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)

    def _masks(
        self, padding: Tensor | None, mask: Tensor | None, scores: Tensor, batched: bool
    ) -> Sequence[Tensor]:
        """Masks as terms to add, of shape (batch or 1, heads or 1, places or 1, keys)."""
        terms = []
        if mask is not None:
            shaped = mask if mask.dim() == 2 else mask.reshape(scores.shape[0], -1, *mask.shape[1:])
            terms.append(_as_term(shaped, scores))
        if padding is not None:
            padding = padding if batched else padding.unsqueeze(0)
            terms.append(_as_term(padding[:, None, None, :], scores))
        return terms

    def extra_repr(self) -> str:
        """Fields that ``print`` shows."""
        return f"num_heads={self.num_heads}"


def _as_term(mask: Tensor, scores: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(scores.dtype)
    return torch.zeros_like(mask, dtype=scores.dtype).masked_fill(mask, -math.inf)


class _with_signature_of_net:
    """A method that has, read from an instance, the signature of ``instance.net.forward``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.__doc__ = function, function.__doc__

    def __get__(self, instance: Any, owner: type) -> Callable[..., Any]:
        if instance is None:
            return self.function
        bound = functools.partial(self.function, instance)
        bound.__signature__ = inspect.signature(instance.net.forward)  # type: ignore[attr-defined]
        return bound


class NarrowInput(nn.Module):
    """A network that reads only part of its inputs: it takes the whole inputs and selects.

    ``kept`` gives, by input and axis, the rising indices that are read; axis -1 means single numbers of an
    example in flat order. Buffers hold the first index and the gaps between them, which are small numbers: as
    integers on a grid of step 1 (:meth:`gaps`) 400 of 784 pixels take a hundred bytes of a file. Parameters,
    layers and inputs are called what the network calls them (those of a bare LSTM, GRU or RNN: "net.").

    >>> net = NarrowInput(nn.Identity(), {(0, -1): torch.tensor([1, 2, 5])})
    >>> net.state_dict()["input0_gaps"].tolist(), net(torch.arange(6.0).reshape(1, 6)).tolist()
    ([1.0, 1.0, 3.0], [[1.0, 2.0, 5.0]])
    """

    def __init__(self, net: nn.Module, kept: Mapping[tuple[int, int], Tensor]) -> None:
        super().__init__()
        self.__dict__["_narrow"] = net
        if isinstance(net, nn.RNNBase):  # it keeps a list of its parameters, and must see them replaced
            self.add_module("net", net)
        else:
            for kind in ("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules"):
                self.__dict__[kind] = net.__dict__[kind]
        self.picks = tuple(kept)
        self.train(net.training)
        for (number, axis), index in kept.items():
            gaps = torch.diff(index, prepend=index.new_zeros(1))
            self.register_buffer(self._buffer(number, axis), gaps.to(torch.float32))

    @property
    def net(self) -> nn.Module:
        """The network without the selection."""
        inner: nn.Module = self.__dict__["_narrow"]
        return inner

    @staticmethod
    def _buffer(number: int, axis: int) -> str:
        return f"input{number}_gaps" + ("" if axis < 0 else f"_{axis}")

    def gaps(self) -> dict[str, Tensor]:
        """The buffers by name: whole numbers as float32, whose running sums are the indices."""
        return {name: getattr(self, name) for name in (self._buffer(*pick) for pick in self.picks)}

    def kept(self, number: int, axis: int = -1) -> Tensor:
        """The indices that are read of an input along an axis."""
        gaps: Tensor = getattr(self, self._buffer(number, axis))
        return gaps.cumsum(0).to(torch.int64)

    @_with_signature_of_net
    def forward(self, *inputs: Tensor, **named: Any) -> Any:
        """The network's result on what it still reads; takes inputs as the network does, by its names."""
        net = self.net
        if net.training != self.training:  # of the root alone: its layers are this module's, too
            net.training = self.training
        if named:
            order = inspect.signature(net.forward).parameters
            net, inputs = positional(net, {**dict(zip(order, inputs, strict=False)), **named})
        read = list(inputs)
        for number, axis in self.picks:
            index = self.kept(number, axis)
            read[number] = (
                read[number].flatten(1).index_select(1, index)
                if axis < 0
                else read[number].index_select(axis, index)
            )
        return net(*read)
