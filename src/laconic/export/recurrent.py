"""Recurrent layers as one operation each while a network is traced.

``torch.export`` has no shape rule for an LSTM: it traces every time step to find the shape of the result,
which is slow and fixes the number of steps. While tracing, ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` therefore
call custom operations that have shape rules.
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
_LIBRARY: Any = torch.library.Library("laconic", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define(f"lstm(Tensor input, Tensor[] hx, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)")
for _name in ("gru", "rnn_tanh", "rnn_relu"):
    _LIBRARY.define(f"{_name}(Tensor input, Tensor hx, {_ARGUMENTS}) -> (Tensor, Tensor)")


def _output(input: Tensor, state: Tensor, bidirectional: bool, batch_first: bool) -> Tensor:
    """(.., hidden units of both directions), time and batch as the input has them."""
    width = state.shape[-1] * (2 if bidirectional else 1)
    return input.new_empty((*input.shape[:-1], width))


def _lstm_shapes(input: Tensor, hx: Sequence[Tensor], *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Empty results of an LSTM, for their shapes."""
    h, c = hx
    return _output(input, h, *rest[-2:]), torch.empty_like(h), torch.empty_like(c)


def _shapes(input: Tensor, hx: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Empty results of a GRU or a plain RNN, for their shapes."""
    return _output(input, hx, *rest[-2:]), torch.empty_like(hx)


for _name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
    _LIBRARY.impl(_name, getattr(_VF, _name), "CompositeExplicitAutograd")
    _shape_rule: Any = _lstm_shapes if _name == "lstm" else _shapes
    torch.library.register_fake(f"laconic::{_name}", _shape_rule, lib=_LIBRARY)


class _Layers:
    """Stands in for ``torch._VF`` in ``nn.modules.rnn``: custom operations for layers, else as before."""

    def __getattr__(self, name: str) -> Any:
        """Custom operations for layers over a padded batch; PyTorch's own for packed sequences."""
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
    rnn._VF = _Layers()  # type: ignore[attr-defined,assignment]
    try:
        yield
    finally:
        rnn._VF = _VF  # type: ignore[attr-defined]
