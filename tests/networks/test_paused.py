"""A pass that stands still sees what its caller sees."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any

import pytest
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


class Told(nn.Module):
    """Says in what state it runs, and makes a tensor of the default type on the default device."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.seen: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        made, y = torch.zeros(1), self.layer(x)
        self.seen.append((y.dtype, made.dtype, made.device.type, torch.is_inference_mode_enabled()))
        return y


def _states() -> dict[str, tuple[AbstractContextManager[Any], tuple[Any, ...]]]:
    plain = (torch.float32, torch.float32, "cpu", False)
    return {
        "plain": (nullcontext(), plain),
        "autocast": (torch.autocast("cpu", dtype=torch.bfloat16), (torch.bfloat16, *plain[1:])),
        "autocast off": (torch.autocast("cpu", enabled=False), plain),
        "float16": (torch.autocast("cpu", dtype=torch.float16), (torch.float16, *plain[1:])),
        "device": (torch.device("meta"), (*plain[:2], "meta", False)),
        "inference": (torch.inference_mode(), (*plain[:3], True)),
    }


@pytest.mark.parametrize("state", _states())
def test_a_pass_runs_in_the_state_of_torch_of_its_caller(state: str) -> None:
    """Each is kept by thread; the same call without a pass is the oracle."""
    net, x = Told(), torch.ones(2, 3)
    context, expected = _states()[state]
    with context, torch.no_grad():
        plain = net(x)
        with PausedRun(net, x, lambda call: call.name == "linear") as passing:
            assert passing.advance() is not None and passing.advance() is None
    assert net.seen == [expected, expected] and plain.dtype == expected[0]


def test_the_default_type_is_the_callers() -> None:
    net, x, before = Told().double(), torch.ones(2, 3, dtype=torch.float64), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with PausedRun(net, x, lambda call: False) as passing:
            assert passing.advance() is None
    finally:
        torch.set_default_dtype(before)
    assert net.seen == [(torch.float64, torch.float64, "cpu", False)]


def test_a_weight_that_changes_between_two_calls_is_read_anew_under_autocast() -> None:
    layer = nn.Linear(2, 2, bias=False)
    outputs: list[Tensor] = []
    net = nn.Sequential(layer, layer)
    net.register_forward_hook(lambda module, args, out: outputs.append(out))
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        PausedRun(net, torch.ones(1, 2), lambda call: call.name == "linear") as passing,
    ):
        for value in (1.0, 0.0):
            assert passing.advance() is not None
            with torch.no_grad():
                layer.weight.fill_(value)
        assert passing.advance() is None
    assert outputs[0].tolist() == [[0.0, 0.0]]
