"""Recurrent layers as one operation each while a network is traced.

``torch.export`` has no shape rule for an LSTM: it runs the layer step by step to learn what comes out, a tenth
of a second for each step, and fixes the number of steps. So ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` call
operations of ours meanwhile, whose results have their shapes by rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import rnn

_VF = rnn._VF  # type: ignore[attr-defined]
_ARGUMENTS = (
    "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, "
    "bool batch_first"
)
_LIBRARY = torch.library.Library("laconic", "DEF")
_LIBRARY.define(f"lstm(Tensor input, Tensor[] hx, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
for _name in ("gru", "rnn_tanh", "rnn_relu"):
    _LIBRARY.define(f"{_name}(Tensor input, Tensor hx, {_ARGUMENTS}) -> (Tensor, Tensor)")


def _output(input: Tensor, state: Tensor, bidirectional: bool, batch_first: bool) -> Tensor:
    """(.., hidden units of both directions), time and batch as the input has them."""
    width = state.shape[-1] * (2 if bidirectional else 1)
    return input.new_empty((*input.shape[:-1], width))


def _lstm_shapes(input: Tensor, hx: Sequence[Tensor], *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What an LSTM leaves, without its numbers."""
    h, c = hx
    return _output(input, h, *rest[-2:]), torch.empty_like(h), torch.empty_like(c)


def _shapes(input: Tensor, hx: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """What a GRU or a plain RNN leaves, without its numbers."""
    return _output(input, hx, *rest[-2:]), torch.empty_like(hx)


for _name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
    _LIBRARY.impl(_name, getattr(_VF, _name), "CompositeExplicitAutograd")
    _shape_rule: Any = _lstm_shapes if _name == "lstm" else _shapes
    torch.library.register_fake(f"laconic::{_name}", _shape_rule, lib=_LIBRARY)


class _Layers:
    """What ``torch.nn.modules.rnn`` calls for its layers: ours, all else as it was."""

    def __getattr__(self, name: str) -> Any:
        """Ours for the layers over a padded batch; packed sequences go to PyTorch's own."""
        own = getattr(_VF, name)
        if name not in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            return own
        ours = getattr(torch.ops.laconic, name)

        def call(input: Tensor, second: Any, third: Any, *rest: Any) -> Any:
            padded = isinstance(third, (list, tuple)) and isinstance(rest[0], bool)
            return (ours if padded else own)(input, second, third, *rest)

        return call


@contextmanager
def one_operation_each() -> Iterator[None]:
    """Inside, a recurrent layer that is traced is one operation ``laconic::lstm``, ``gru``, .. ."""
    rnn._VF = _Layers()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        rnn._VF = _VF  # type: ignore[attr-defined]
