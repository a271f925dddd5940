"""Gates on coupled groups: what a pass computes, state and copies, and pruning units end to end."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.bayes import Gate, HardConcrete, NoiseSource, TruncatedLogNormal
from laconic.errors import InputError, NotPreparedError
from laconic.methods import Compressed, Context, Judge, Method, attach_gates, fold_gates, gates_of, gates_plan
from laconic.methods.common.grid_choice import GridChoice
from laconic.methods.common.point import on_a_grid
from laconic.runtime import load
from laconic.structure import find_groups, mask, shrink
from laconic.structure.coupling.groups import without_inputs

X = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """Two convolutions share their units through a sum, and a depthwise one passes them on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.depthwise, self.point = nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 5, 1)
        self.out = nn.Linear(5 * 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(self.depthwise(x + F.relu(self.second(x))))
        return self.out(F.adaptive_avg_pool2d(F.relu(self.point(x)), 2).flatten(1))


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(x.flatten(1).view(-1, 8, 8))[0][:, -1])


def built(kind: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return kind().eval()


def gated(kind: Callable[[], nn.Module], make: Any = lambda g: HardConcrete.open(g.size)) -> Any:
    plain = built(kind)
    coupling = without_inputs(find_groups(plain, X))
    return plain, coupling, attach_gates(plain, coupling, make, NoiseSource(0))


@pytest.mark.parametrize("kind", [Residual, Reader])
def test_a_closed_gate_computes_what_the_network_without_the_unit_does(kind: Any) -> None:
    plain, coupling, net = gated(kind)
    with torch.no_grad():
        for gate in gates_of(net).values():
            gate.log_alpha.fill_(30.0)  # wide open: exactly 1
            assert torch.equal(gate.expectation(), torch.ones_like(gate.log_alpha))
        assert torch.allclose(net(X), plain(X), atol=1e-6)
        for gate in gates_of(net).values():
            gate.log_alpha[[0, 2]] = -30.0
        plan = gates_plan(net, coupling)
        assert all(plan.removed(name) == (0, 2) for name in plan.kept) and len(plan.kept) >= 1
        folded = fold_gates(net, plan)
        small = shrink(folded, coupling, plan)
        assert not torch.allclose(net(X), plain(X), atol=1e-3)
        assert torch.allclose(folded(X), net(X), atol=1e-6)
        assert torch.allclose(small(X), net(X), atol=1e-5)
    assert [type(m) for m in folded.modules()] == [type(m) for m in plain.modules()]
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in plain.parameters())


def test_all_readers_of_a_unit_see_one_draw_and_every_gate_learns() -> None:
    _, _, net = gated(Residual, lambda g: TruncatedLogNormal.open(g.size, -0.5))
    net.train()
    first, second = net(X), net(X)
    assert not torch.equal(first, second)
    seen = []
    for layer in (net.second, net.depthwise):
        layer.register_forward_hook(
            lambda m, a, out: seen.append(m.weight.detach() / m._parameters["weight"])
        )
    net(X).sum().backward()
    assert len(seen) == 2 and float(seen[0].std(dim=(0, 2, 3)).max()) < 1e-6  # one factor an input channel
    assert float(seen[0].std()) > 1e-2
    for gate in gates_of(net).values():
        assert gate.mu.grad is not None and float(gate.mu.grad.abs().sum()) > 0
    assert torch.equal(net.second.weight, net.second._parameters["weight"])  # outside a pass


def test_copies_and_state_dicts_carry_the_gates() -> None:
    _, _, net = gated(Residual)
    with torch.no_grad():
        next(iter(gates_of(net).values())).log_alpha[1] = -3.0
    twin, other = copy.deepcopy(net), gated(Residual)[2]
    other.load_state_dict(net.state_dict())
    assert torch.equal(twin.eval()(X), net.eval()(X)) and torch.equal(other.eval()(X), net(X))
    with torch.no_grad():
        next(iter(gates_of(twin).values())).log_alpha.fill_(-3.0)
    assert not torch.equal(twin(X), net(X))


def test_a_tensor_that_several_layers_hold_is_gated_in_each() -> None:
    """The second layer makes units and the head reads them by one weight: a gate acts in both, folded too."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.hidden, self.head = nn.Linear(64, 5), nn.Linear(5, 5), nn.Linear(5, 3)
            self.table = nn.Embedding(3, 5)
            self.head.weight = self.table.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.stem(x.flatten(1)) + self.table((x[:, 0, 0, 0] > 0).long())
            return self.head(torch.tanh(h + torch.tanh(self.hidden(h))))

    plain, coupling, net = gated(Tied)
    assert list(gates_of(net)) == ["stem.weight:0"]
    with torch.no_grad():
        gates_of(net)["stem.weight:0"].log_alpha.copy_(torch.tensor([0.3, -30.0, 30.0, 1.0, -30.0]))
        plan = gates_plan(net, coupling)
        folded = fold_gates(net, plan)
        assert folded.head.weight is folded.table.weight
        assert torch.allclose(folded(X), net(X), atol=1e-6)
        assert torch.allclose(shrink(folded, coupling, plan)(X), net(X), atol=1e-5)


def test_what_cannot_be_gated() -> None:
    plain = built(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    coupling = without_inputs(find_groups(plain, X))
    with pytest.raises(InputError, match="nothing to gate: no group of units is read by a weight. Cure"):
        attach_gates(plain, coupling, lambda g: HardConcrete.open(g.size), NoiseSource(0))
    normed = built(
        lambda: nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, 3)))
    )
    with pytest.raises(InputError, match=r"computes '1.weight' from other parameters. Cure: .*folded"):
        attach_gates(normed, find_groups(normed, X), lambda g: HardConcrete.open(g.size), NoiseSource(0))
    with pytest.raises(InputError, match=r"shapes .*\(6,\), one number a unit"):
        gated(Residual, lambda g: HardConcrete.open(g.size + 1))
    with pytest.raises(InputError, match=r"is a int. Cure: .*Gate"):
        gated(Residual, lambda g: 3)
    with pytest.raises(NotPreparedError, match="attach_gates"):
        gates_of(plain)


@dataclass(frozen=True)
class GatedPruning(Method):
    """Units go by gates: a whole method in a few lines, as a package of one's own would write it."""

    make: Callable[[Any], Gate]
    nats: float = 1.0
    grid: GridChoice = GridChoice()

    in_nats = True
    changes_architecture = True

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        coupling = without_inputs(find_groups(model, example))
        net = attach_gates(model, coupling, self.make, context.noise)
        net.__dict__["_coupling"] = coupling
        return net

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        return self.nats * torch.stack([gate.penalty().sum() for gate in gates_of(module).values()]).sum()

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        gates = {id(p) for gate in gates_of(module).values() for p in gate.parameters().values()}
        own = [p for p in module.parameters() if id(p) not in gates]
        rest = [p for p in module.parameters() if id(p) in gates]
        return [{"params": own, "lr": lr}, {"params": rest, "lr": 10 * lr, "weight_decay": 0.0}]

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        coupling = module.__dict__["_coupling"]
        plan = gates_plan(module, coupling)
        small = on_a_grid(shrink(fold_gates(module, plan), coupling, plan), self.grid, context, judge)
        facts = {**small.facts, "kept_units": {name: len(kept) for name, kept in plan.kept.items()}}
        return Compressed(small.module, small.tensors, facts, small.example, architecture_changed=True)


@pytest.mark.parametrize(
    "method",
    [
        GatedPruning(lambda g: HardConcrete.open(g.size), nats=40.0),
        GatedPruning(lambda g: TruncatedLogNormal.open(g.size, -3.0), nats=5.0),
    ],
    ids=["hard concrete", "log-normal"],
)
def test_units_that_say_nothing_go_end_to_end(method: GatedPruning, tmp_path: Any) -> None:
    """Two inputs of sixteen say the class: most of 24 hidden units go, and the labels stay right."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 16, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 2))
    net = laconic.prepare(model, method, x[:2], data_size=len(x))
    optimizer = torch.optim.Adam(laconic.param_groups(net, 5e-3))
    for _ in range(25):
        for rows in torch.arange(len(x)).split(64):
            loss = laconic.objective(net, (x[rows], y[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            laconic.step(net)
    small = laconic.convert(net.eval())
    assert 1 <= small.module[0].out_features <= 14, small.facts["kept_units"]
    assert float((small.module(x).argmax(1) == y).float().mean()) > 0.93
    laconic.save(small, tmp_path / "gated.lac")
    decoded = load(tmp_path / "gated.lac", threads=1)(x.numpy())
    assert np.allclose(decoded, small.module(x).detach().numpy(), atol=1e-5)


class NormedResidual(nn.Module):
    """A residual MLP whose stream passes through layer norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.a, self.b = (
            nn.Linear(16, 12),
            nn.LayerNorm(12),
            nn.Linear(12, 20),
            nn.Linear(20, 12),
        )
        self.last, self.out = nn.LayerNorm(12), nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.stem(x)
        return self.out(self.last(h + self.b(F.gelu(self.a(self.norm(h))))))


@pytest.mark.parametrize(
    ("make", "nats"),
    [(lambda g: HardConcrete.open(g.size), 20.0), (lambda g: TruncatedLogNormal.open(g.size, -2.0), 4.0)],
    ids=["hard concrete", "log-normal"],
)
@pytest.mark.parametrize(
    "kind",
    [NormedResidual, lambda: nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 2))],
    ids=["layer norm", "plain"],
)
def test_the_converted_network_is_the_masked_one(kind: Any, make: Any, nats: float) -> None:
    """Trained with gates, converted on a grid so fine that it changes nothing: within 1e-5 of the mask."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 16, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    fine = GridChoice(steps=(1e-5,), prices=(0.0,), bias_bits=(24,))
    net = laconic.prepare(built(kind), GatedPruning(make, nats, fine), x[:2], data_size=len(x))
    optimizer = torch.optim.Adam(laconic.param_groups(net, 5e-3))
    for _ in range(20):
        for rows in torch.arange(len(x)).split(64):
            optimizer.zero_grad()
            laconic.objective(net, (x[rows], y[rows])).backward()
            optimizer.step()
            laconic.step(net)
    net.eval()
    small = laconic.convert(net)
    coupling = net.__dict__["_coupling"]
    plan = gates_plan(net, coupling)
    assert sum(len(plan.removed(name)) for name in plan.kept) > 3, small.facts["kept_units"]
    assert all(len(kept) == small.facts["kept_units"][name] for name, kept in plan.kept.items())
    with torch.no_grad():
        masked = mask(fold_gates(net, plan), coupling, plan)
        assert torch.allclose(fold_gates(net, plan)(x), masked(x), atol=1e-5)
        assert torch.allclose(small.module(x), masked(x), atol=1e-5)
        if isinstance(next(iter(gates_of(net).values())), HardConcrete):  # closed gates are exactly zero
            assert torch.allclose(net(x), masked(x), atol=1e-5)
