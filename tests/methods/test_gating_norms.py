"""Gates on units that pass through layer norm, RMS norm or group norm: closed, they are removed units."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.bayes import HardConcrete, NoiseSource, TruncatedLogNormal
from laconic.methods import attach_gates, fold_gates, gates_of, gates_plan
from laconic.structure import find_groups, mask, shrink
from laconic.structure.coupling.groups import without_inputs

D = 8
X = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
Norm = Callable[[int], nn.Module]


class Block(nn.Module):
    """Pre-norm: the norm reads the residual stream."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm, self.a, self.b = norm(D), nn.Linear(D, 12), nn.Linear(12, D)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(F.gelu(self.a(self.norm(x))))


class PostBlock(Block):
    """Post-norm: the norm's result is the residual stream."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.b(F.gelu(self.a(x))))


class SigmoidBlock(Block):
    """An activation that maps zero to one half stands between the norm and the weight that reads it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(F.gelu(self.a(torch.sigmoid(self.norm(x)))))


class Residual(nn.Module):
    """A residual MLP; a buffer and a scale by unit are part of the stream, and the head reads it directly."""

    def __init__(self, block: Callable[[Norm], nn.Module], norm: Norm, last: Norm = nn.Identity) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Linear(5, D), block(norm), block(norm)
        self.register_buffer("place", torch.randn(D))
        self.gamma = nn.Parameter(torch.rand(D) + 0.5)
        self.last, self.out = last(D), nn.Linear(D, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x) + self.place
        return self.out(self.last(self.two(self.one(x)) * self.gamma))


def group_norm(width: int) -> nn.Module:
    return nn.GroupNorm(4, width)


NETWORKS = {
    "layer norm": lambda: Residual(Block, nn.LayerNorm, nn.LayerNorm),
    "layer norm, head on the stream": lambda: Residual(Block, nn.LayerNorm),
    "layer norm after the sum": lambda: Residual(PostBlock, nn.LayerNorm),
    "sigmoid": lambda: Residual(SigmoidBlock, nn.LayerNorm),
    "rms norm": lambda: Residual(Block, nn.RMSNorm, nn.RMSNorm),
    "group norm": lambda: Residual(Block, group_norm, group_norm),
    "both": lambda: Residual(Block, nn.RMSNorm, group_norm),
}


def built(name: str, make: Any = lambda g: HardConcrete.open(g.size)) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        plain = NETWORKS[name]()
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))  # shifts of norms that are not zero
    plain = plain.eval()
    coupling = without_inputs(find_groups(plain, X))
    return plain, coupling, attach_gates(plain, coupling, make, NoiseSource(0))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [False, True])
def test_a_closed_gate_is_a_removed_unit(name: str, training: bool) -> None:
    """Open gates change nothing; closed ones give the masked network and the narrow one, in either mode."""
    plain, coupling, net = built(name)
    assert [g.name for g in coupling.groups] == list(gates_of(net))  # the residual stream is among them
    net.train(training)
    with torch.no_grad():
        for gate in gates_of(net).values():
            gate.log_alpha.fill_(30.0)
        assert torch.allclose(net(X), plain(X), atol=1e-6)
        for gate in gates_of(net).values():
            gate.log_alpha[[0, 2]] = -30.0
        plan = gates_plan(net, coupling)
        assert all(plan.removed(name) == (0, 2) for name in plan.kept)
        assert torch.allclose(net(X), mask(plain, coupling, plan)(X), atol=1e-5)
        assert torch.allclose(net(X), shrink(plain, coupling, plan)(X), atol=1e-5)
        assert not torch.allclose(net(X), plain(X), atol=1e-2)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("make", [HardConcrete.open, lambda n: TruncatedLogNormal.open(n, -0.5)])
def test_folded_and_narrow_networks_are_the_gated_one(name: str, make: Any) -> None:
    """Gates between 0 and 1 stand in the weights afterwards; units that the plan removes are gone."""
    _, coupling, net = built(name, lambda g: make(g.size))
    with torch.no_grad():
        for gate in gates_of(net).values():
            first = next(iter(gate.parameters().values()))
            first.copy_(torch.linspace(-1.5, 1.0, len(first)))
        folded = fold_gates(net)
        assert torch.allclose(folded(X), net(X), atol=1e-5)
        assert [type(m) for m in folded.modules()] == [type(m) for m in built(name)[0].modules()]
        for gate in gates_of(net).values():
            first = next(iter(gate.parameters().values()))
            first[1] = -30.0  # closed, and for the log-normal gates next to it
        plan = gates_plan(net, coupling)
        plan = type(plan)(
            {n: tuple(k for k in range(s) if k != 1) for n, s in plan.sizes.items()}, plan.sizes
        )
        small = shrink(fold_gates(net, plan), coupling, plan)
        assert torch.allclose(small(X), fold_gates(net, plan)(X), atol=1e-5)
        if isinstance(gate, HardConcrete):
            assert torch.allclose(small(X), net(X), atol=1e-5)


@pytest.mark.parametrize("name", ["layer norm", "layer norm after the sum", "rms norm", "group norm"])
def test_the_gradient_of_a_draw_is_that_of_finite_differences(name: str) -> None:
    """The gates' effect on the moments has a gradient, too: the same draws, in float64."""
    _, _, net = built(name, lambda g: TruncatedLogNormal.open(g.size, -0.5))
    net = net.double().train()

    def loss(of: nn.Module) -> torch.Tensor:  # each copy has a source of noise of its own, in the same state
        return of(X.double()).square().sum()

    twin = copy.deepcopy(net)
    gates = gates_of(twin)
    found = torch.autograd.grad(loss(twin), [g.mu for g in gates.values()])
    for name_of_group, gradient in zip(gates, found, strict=True):
        for unit in (0, len(gradient) - 1):
            sides = []
            for step in (1e-5, -1e-5):
                moved = copy.deepcopy(net)
                with torch.no_grad():
                    gates_of(moved)[name_of_group].mu[unit] += step
                    sides.append(float(loss(moved)))
            slope = (sides[0] - sides[1]) / 2e-5
            assert float(gradient[unit]) == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_the_moments_are_those_of_the_narrow_norm() -> None:
    """By hand: of eight numbers, two of which are closed, mean and variance are over eight with two zeros."""
    plain, coupling, net = built("layer norm")
    with torch.no_grad():
        gate = gates_of(net)["stem.weight:0"]
        gate.log_alpha.fill_(30.0)
        gate.log_alpha[[0, 2]] = -30.0
    seen: list[torch.Tensor] = []
    net.one.norm.register_forward_hook(lambda m, args, out: seen.extend((args[0], out)))
    with torch.no_grad():
        net(X)
        wanted = plain.stem(X) + plain.place
        wanted[:, [0, 2]] = 0.0
        mean = wanted.sum(1, keepdim=True) / 8
        variance = (wanted - mean).square().sum(1, keepdim=True) / 8
        result = (wanted - mean) / (variance + 1e-5).sqrt() * plain.one.norm.weight + plain.one.norm.bias
        result[:, [0, 2]] = 0.0
    assert torch.allclose(seen[0], wanted, atol=1e-6) and torch.allclose(seen[1], result, atol=1e-5)
