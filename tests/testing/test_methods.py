"""The public suite of methods: those of this library keep every promise, and each broken one is seen."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from laconic.methods import VNQ, Compressed, Context, MagnitudePruning, Method, SparseVD
from laconic.methods.contract import Judge
from laconic.schedules import WarmUp
from laconic.testing import check_method
from laconic.testing.methods import Build
from laconic.zoo import DigitsLSTM, DigitsMLP, DigitsResNet

AT_ONCE = WarmUp(0.0, 0.5)
METHODS: dict[str, Method] = {
    "sparse-vd": SparseVD(warm_up=AT_ONCE, kl_weight=4.0),
    "sparse-vd, held": SparseVD(warm_up=AT_ONCE, kl_weight=4.0, hold_from=0.5),
    "vnq ternary": VNQ.ternary(warm_up=AT_ONCE),
    "vnq binary": VNQ.binary_plus_zero(warm_up=AT_ONCE),
    "vnq five": VNQ.evenly(5, warm_up=AT_ONCE),
    "magnitude": MagnitudePruning(0.8, every=2),
    "magnitude by layer": MagnitudePruning(0.8, every=2, per_layer=True),
}


def _seeded(kind: Any) -> Build:
    return lambda: kind(generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("network", [DigitsResNet, DigitsLSTM], ids=["residual", "recurrent"])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_a_method_keeps_its_promises(method: Method, network: Any, tmp_path: Path) -> None:
    small = check_method(method, _seeded(network), tmp_path)
    assert any(t.nonzeros() for t in small.tensors.values())


# --- the suite sees each property that fails ---------------------------------------------------------


@dataclass(frozen=True)
class Vandal(MagnitudePruning):
    """Writes into the model it was handed."""

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        with torch.no_grad():
            next(model.parameters()).mul_(2.0)
        return super().prepare(model, example, context)


@dataclass(frozen=True)
class Restless(MagnitudePruning):
    """Starts training elsewhere than at the network's weights."""

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        net = super().prepare(model, example, context)
        with torch.no_grad():
            next(net.parameters()).mul_(2.0)
        return net


@dataclass(frozen=True)
class Waking(MagnitudePruning):
    """Sets layers going that were in evaluation mode."""

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        return super().prepare(model, example, context).train(model.training)


@dataclass(frozen=True)
class Sleepy(MagnitudePruning):
    """Leaves the layers of the model that it was handed in evaluation mode."""

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        net = super().prepare(model, example, context)
        next(model.children()).eval()
        return net


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("laconic_mask_0", torch.ones(()))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.inner(*inputs)


@dataclass(frozen=True)
class Wrapping(MagnitudePruning):
    """Takes anything where one tensor was expected."""

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        return Wrapper(copy.deepcopy(model))

    def step(self, module: nn.Module, context: Context) -> None:
        pass


@dataclass(frozen=True)
class Unseeded(MagnitudePruning):
    """Draws from a generator that nobody seeded."""

    def step(self, module: nn.Module, context: Context) -> None:
        generator = torch.Generator()
        generator.seed()
        weight = next(module.parameters())
        with torch.no_grad():
            weight.add_(torch.rand(weight.shape, generator=generator))


@dataclass(frozen=True)
class Forgetful(MagnitudePruning):
    """Keeps what it learned where no state dict looks."""

    def step(self, module: nn.Module, context: Context) -> None:
        module.__dict__["learned"] = module.__dict__.get("learned", 1.0) + 1.0

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        copied = copy.deepcopy(module)
        with torch.no_grad():
            next(copied.parameters()).mul_(copied.__dict__.pop("learned", 1.0))
        return super().convert(copied, context, judge)


@dataclass(frozen=True)
class Inexact(MagnitudePruning):
    """Returns a module that is not quite what its tensors say."""

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        small = super().convert(module, context, judge)
        with torch.no_grad():
            next(small.module.parameters()).add_(1e-6)
        return replace(small)


@dataclass(frozen=True)
class Unsummed(MagnitudePruning):
    """Gives a penalty per weight."""

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        return torch.zeros(3)


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (Vandal(0.5), "the input model keeps its values"),
        (Restless(0.5), "prepare leaves the values of 'fc1.weight' as they are"),
        (Waking(0.5), r"prepare leaves each layer in its mode \(not so: \['fc1', 'fc2'\]\)"),
        (Sleepy(0.5), r"the input model keeps its mode \(not so: \['flatten'\]\)"),
        (Wrapping(0.5), "forward signature"),
        (Unseeded(0.5), "the same seed gives the same file"),
        (Forgetful(0.5), "the state dict carries the decision"),
        (Inexact(0.5), "decodes to the converted"),
        (Unsummed(0.5), "scalar outputs"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MagnitudePruning) else "",
)
def test_the_suite_sees_a_property_that_fails(method: Method, complaint: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, RuntimeError), match=complaint):
        check_method(method, _seeded(DigitsMLP), tmp_path)
