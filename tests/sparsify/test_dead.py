"""Weights on no path to an output, against an oracle that changes each parameter and looks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.sparsify.dead import AliveMasks, alive_parameters


class Residual(nn.Module):
    """Convolutions, a sum, a concatenation, pooling and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, groups=3)
        self.c = nn.Conv2d(3, 2, 1, stride=2, bias=False)
        self.head = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        y = x + self.b(x)
        z = torch.cat([self.c(y), F.max_pool2d(y, 2), x[:, :2, ::2, ::2]], 1)
        return self.head(F.adaptive_avg_pool2d(z, 1).flatten(1))


def _mlp() -> tuple[nn.Module, Tensor]:
    layers = nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)
    return nn.Sequential(*layers), torch.ones(1, 5)


def _cnn() -> tuple[nn.Module, Tensor]:
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2, 1),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False),
    )  # fmt: skip
    return net, torch.ones(1, 1, 8, 8)


def _residual() -> tuple[nn.Module, Tensor]:
    return Residual(), torch.ones(1, 1, 6, 6)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "residual": _residual,
}


def _masked(net: nn.Module, share: float, seed: int) -> nn.Module:
    """Random weights, most of them zero, and most biases too: a dead bias needs a zero to be seen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(
                torch.randn(p.shape, generator=generator) * (torch.rand(p.shape, generator=generator) < share)
            )
    return net


def _moves_an_output(net: nn.Module, inputs: Tensor, name: str, index: int) -> bool:
    """Whether some change of one parameter changes some output for some of these inputs."""
    twin = copy.deepcopy(net).double().eval()
    with torch.no_grad():
        before = twin(inputs)
        flat = dict(twin.named_parameters())[name].view(-1)
        for change in (-5.0, -0.7, 0.9, 6.0):
            old = flat[index].clone()
            flat[index] += change
            if float((twin(inputs) - before).abs().max()) > 1e-9:
                return True
            flat[index] = old
    return False


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_no_living_parameter_is_called_dead(
    network: Callable[[], tuple[nn.Module, Tensor]], seed: int
) -> None:
    net, example = network()
    net = _masked(net, 0.25, seed)
    masks = alive_parameters(net, example)
    assert masks is not None
    shape = (64, *example.shape[1:])
    inputs = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()
    called_dead = [(n, int(i)) for n, m in masks.items() for i in np.flatnonzero(~m)]
    wrong = [place for place in called_dead if _moves_an_output(net, inputs, *place)]
    assert not wrong
    assert called_dead, "nothing dead: the test looked at nothing"


@pytest.mark.parametrize("seed", range(4))
def test_what_is_called_alive_moves_an_output_when_nothing_cancels(seed: int) -> None:
    """With positive weights and inputs the test is exact in both directions."""
    net, example = _cnn()
    net = _masked(net, 0.2, seed)
    with torch.no_grad():
        for p in net.parameters():
            p.abs_()
    masks = alive_parameters(net, example)
    assert masks is not None
    inputs = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).double()
    for name, mask in masks.items():
        for index, alive in enumerate(mask.ravel().tolist()):
            assert _moves_an_output(net, inputs, name, index) == alive, (name, index)


def test_dropping_the_dead_leaves_outputs_as_they_were() -> None:
    net, example = _residual()
    net = _masked(net, 0.2, 9)
    masks = alive_parameters(net, example)
    assert masks is not None
    x = torch.randn(16, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    before = net(x)
    dropped = 0
    with torch.no_grad():
        for name, p in net.named_parameters():
            dropped += int(((p != 0) & ~torch.from_numpy(masks[name])).sum())
            p.mul_(torch.from_numpy(masks[name]))
    assert torch.equal(net(x), before)
    assert dropped > 0


def test_the_network_is_left_as_it_was() -> None:
    net, example = _cnn()
    before = copy.deepcopy(net.state_dict())
    net.train()
    alive_parameters(net, example)
    assert net.training
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())
    assert all(p.grad is None and p.dtype == torch.float32 for p in net.parameters())


# --- cases that once went wrong -------------------------------------------------------------------


def _all_alive(masks: AliveMasks | None) -> bool:
    return masks is not None and all(bool(m.all()) for m in masks.values())


def test_frozen_parameters_can_be_alive() -> None:
    net, example = _mlp()
    net[0].requires_grad_(False)
    assert _all_alive(alive_parameters(net, example))


def test_a_very_deep_network_does_not_underflow() -> None:
    layers: list[nn.Module] = []
    for _ in range(150):
        linear = nn.Linear(256, 256, bias=False)
        with torch.no_grad():
            linear.weight.zero_()[0, 0] = 1.0
        layers += [linear, nn.ReLU()]
    masks = alive_parameters(nn.Sequential(*layers), torch.ones(1, 256))
    assert masks is not None
    assert all(bool(m[0, 0]) for m in masks.values())


def test_a_dictionary_of_outputs_counts_whole() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"first": self.a(x), "second": self.b(x)}

    assert _all_alive(alive_parameters(Two(), torch.ones(1, 2)))


def test_a_layer_used_twice_is_alive_if_either_use_is() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.head = nn.Linear(2, 2), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.shared(torch.relu(self.shared(x))))

    assert _all_alive(alive_parameters(Twice(), torch.ones(1, 2)))


# --- nothing is claimed where positive flow proves nothing -----------------------------------------


class Call(nn.Module):
    """A layer, then a function of its output and its input."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(4, 4), function
        self.register_buffer("shift", -torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x), x)


class Shifted(nn.Module):
    """Relu(Wx + a negative buffer): the flow of ones would be cancelled by the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.register_buffer("shift", -torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layer(x) + self.shift)


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()),
        nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)),
        nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)),
        nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)),
        nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)),
        nn.LSTM(4, 3),
        Call(lambda a, b: a - b),
        Call(lambda a, b: a * b),
        Call(lambda a, b: a + (-2.0)),
        Call(lambda a, b: torch.add(a, b, alpha=-1)),
        Call(lambda a, b: a // 2),
        Call(lambda a, b: F.max_pool2d(a[None], 2, 2, 0, 2)),
        Call(lambda a, b: torch.max_pool2d(a[None], 2, 1, 0, 2)),
        Call(lambda a, b: a if a.sum() > 0 else b),
        Shifted(),
    ],
    ids=lambda net: type(net[1]).__name__ if isinstance(net, nn.Sequential) else type(net).__name__,
)
def test_nothing_is_claimed_of_what_is_not_covered(net: nn.Module) -> None:
    assert (
        alive_parameters(net, torch.ones(3, 4) if not isinstance(net, Shifted) else torch.ones(2, 1)) is None
    )


@pytest.mark.parametrize("example", [None, torch.zeros(1, 4, dtype=torch.int64), (torch.zeros(1, 4),)])
def test_nothing_is_claimed_without_one_input_of_numbers(example: object) -> None:
    assert alive_parameters(nn.Linear(4, 2), example) is None  # type: ignore[arg-type]


def test_hooks_make_no_claim():
    """A hook may bring a dead unit back to life: nothing is said about such a network."""
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    assert alive_parameters(net, torch.ones(1, 2)) is not None
    handle = net[1].register_forward_hook(lambda module, args, out: out + 1)
    assert alive_parameters(net, torch.ones(1, 2)) is None
    handle.remove()
    net.register_forward_pre_hook(lambda module, args: None)  # the input's values are not used
    assert alive_parameters(net, torch.ones(1, 2)) is not None
