"""In-place operations become plain ones without a second trace, and only where nothing shares the memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.export.in_place import mutates, without_in_place
from laconic.export.program import inference
from tests.helpers.parity import Fn, assert_parity

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def _left(function: Callable[..., object]) -> int:
    """How many writes stay for PyTorch to take apart."""
    with inference():
        program = torch.export.export(Fn(function), (X.clone(),), strict=False)
    before = sum(mutates(node.target) for node in program.graph.nodes)
    assert before > 0, "the function writes in place"
    done = without_in_place(program)
    left = sum(mutates(node.target) for node in program.graph.nodes)
    assert done == (left == 0)
    return left


PLAIN: dict[str, Callable[..., object]] = {
    "one after the other": lambda x: (x * 1).add_(1).mul_(2).relu_(),
    "hard functions": lambda x: F.hardswish(F.relu6(x + 1, inplace=True), inplace=True),
    "read before and after": lambda x: _read_before_and_after(x),
}
SHARED: dict[str, Callable[..., object]] = {
    "a view": lambda x: _through_a_view(x),
    "an input": lambda x: x.mul_(2) + x,
}


def _read_before_and_after(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    before = y + 1
    y.neg_()
    return before * y + y.exp_()


def _through_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    z = y[:, :2]
    y.mul_(3)
    return z + y[:, 2:]


def _after_dropout(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    z = F.dropout(y, training=False)
    z.add_(1)
    return y * z


@pytest.mark.parametrize("name", PLAIN)
def test_writes_to_a_tensor_of_their_own_become_plain(name: str) -> None:
    assert _left(PLAIN[name]) == 0
    assert_parity(Fn(PLAIN[name]), X)


@pytest.mark.parametrize("name", SHARED)
def test_writes_to_shared_memory_are_left_to_pytorch(name: str) -> None:
    assert _left(SHARED[name]) > 0
    assert_parity(Fn(SHARED[name]), X)


def test_what_dropout_hands_through_may_be_its_input() -> None:
    assert _left(_after_dropout) > 0


def test_a_block_whose_relu_writes_into_the_shortcut() -> None:
    """The relu of a pre-activation block changes what the sum adds; a network that relies on it keeps it."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return x + self.inner(F.relu(x, inplace=True))

    assert_parity(Block(), X)
