"""A pass that stands still sees what its caller sees."""

from __future__ import annotations

from contextvars import ContextVar

import torch
from torch import Tensor, nn

from laconic.networks.paused import PausedRun

_FACTOR: ContextVar[float] = ContextVar("_FACTOR")


class Scaled(nn.Linear):
    """Its factor is a context variable."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_FACTOR.get() * x)


def test_context_variables_are_the_callers() -> None:
    _FACTOR.set(3.0)
    with PausedRun(Scaled(2, 2), torch.ones(1, 2), lambda call: call.name == "linear") as passing:
        call = passing.advance()
        assert call is not None and call.args[0].tolist() == [[3.0, 3.0]]
        assert passing.advance() is None
