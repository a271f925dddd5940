"""Copies of networks whose weights torch computes from others, and the one way in which networks are run."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from laconic.errors import ModelError
from laconic.networks import computed_weights, duplicate, folded, inference, positional, sharing
from tests.helpers.networks import seeded


def masked():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6))
    prune.l1_unstructured(net[0], "weight", 0.5)
    prune.random_unstructured(net[0], "weight", 0.2)
    prune.l1_unstructured(net[0], "bias", 0.5)
    return net


def two_layers(first, second):
    return lambda: nn.Sequential(first(nn.Linear(4, 6)), nn.ReLU(), second(nn.Linear(6, 6)))


def recurrent(normalise):
    return lambda: normalise(nn.LSTM(4, 3), "weight_hh_l0")


NETWORKS = {
    "hooks": (two_layers(nn.utils.weight_norm, nn.utils.spectral_norm), ("0.weight", "2.weight")),
    "parametrizations": (
        two_layers(parametrizations.weight_norm, parametrizations.spectral_norm),
        ("0.weight", "2.weight"),
    ),
    "two on one": (
        two_layers(nn.Identity(), lambda x: parametrizations.spectral_norm(parametrizations.weight_norm(x))),
        ("2.weight",),
    ),
    "orthogonal": (two_layers(nn.Identity(), parametrizations.orthogonal), ("2.weight",)),
    "pruning masks": (masked, ("0.weight", "0.bias")),
    "lstm, hooks": (recurrent(nn.utils.weight_norm), ("weight_hh_l0",)),
    "lstm, parametrizations": (recurrent(parametrizations.weight_norm), ("weight_hh_l0",)),
}


def outputs(net, x):
    result = net(x)
    return result[0] if isinstance(result, tuple) else result


@pytest.fixture(params=NETWORKS, ids=lambda name: name.replace(" ", "-"))
def case(request):
    """A network that has been trained a step: its computed weights have a history."""
    build, names = NETWORKS[request.param]
    net, x = seeded(build).train(), torch.linspace(-2, 2, 12).reshape(3, 4)
    outputs(net, x)
    return net, x, names


def test_a_folded_network_says_the_same_with_plain_weights(case):
    net, x, names = case
    before = {k: v.clone() for k, v in net.state_dict().items()}
    plain, told = folded(net)
    assert told == names == computed_weights(net)
    assert computed_weights(plain) == () and plain.training
    assert set(names) <= dict(plain.named_parameters()).keys()
    assert all(k.endswith(("weight", "bias")) or "_l0" in k for k in plain.state_dict())
    assert torch.allclose(outputs(plain.eval(), x), outputs(net.eval(), x), atol=1e-6)
    # The network itself is as before: torch would take the weight off a class that both share.
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    outputs(net.train(), x).sum().backward()


def test_a_copy_of_a_network_with_computed_weights_runs_alone(case):
    net, x, _ = case
    copied = duplicate(net)
    assert copied.state_dict().keys() == net.state_dict().keys()
    with torch.no_grad():
        for p in copied.parameters():
            p.zero_()
    assert torch.count_nonzero(outputs(net.eval(), x))


def test_a_frozen_weight_stays_a_parameter():
    net = parametrizations.weight_norm(nn.Linear(4, 6)).requires_grad_(False)
    plain, _ = folded(net)
    assert isinstance(plain.weight, nn.Parameter) and not plain.weight.requires_grad


def test_tensors_with_a_history_are_copied_wherever_a_module_keeps_them():
    net = nn.Linear(2, 3)
    net.seen = {"outputs": [net(torch.ones(1, 2))]}
    (seen,) = duplicate(net).seen["outputs"]
    assert torch.equal(seen, net.seen["outputs"][0]) and not seen.requires_grad


def test_what_cannot_be_copied_is_named():
    net = nn.Linear(2, 3)
    net.lines = (line for line in "ab")
    with pytest.raises(ModelError, match=r"Linear cannot be deep-copied.*generator.*Cure"):
        duplicate(net)


class Listed(nn.Module):
    """Keeps its layers in a list of its own, too."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 1)
        self.order = [self.first, self.second]

    def forward(self, x):
        for layer in self.order:
            x = layer(x)
        return x


@pytest.mark.parametrize("build", [Listed, lambda: nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))])
def test_a_sharing_copy_has_modules_of_its_own_and_the_networks_tensors(build):
    net, x = seeded(build), torch.ones(1, 2)
    copied = sharing(net)
    assert all(a is b for a, b in zip(copied.parameters(), net.parameters(), strict=True))
    first = next(m for m in copied.children())
    before = net(x)
    first.weight = nn.Parameter(torch.zeros(3, 2))
    assert not torch.equal(copied(x), before) and torch.equal(net(x), before)


def test_inference_turns_the_fused_path_off_and_on_again():
    before = torch.backends.mha.get_fastpath_enabled()
    with inference():
        assert not torch.backends.mha.get_fastpath_enabled() and not torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled() == before and torch.is_grad_enabled()


class Scaled(nn.Linear):
    def forward(self, input, scale=1.0):
        return scale * super().forward(input)


def test_a_parametrised_network_is_viewed_by_position():
    """Parametrised modules refuse copy.copy."""
    net = parametrizations.weight_norm(Scaled(3, 2))
    x = torch.ones(1, 3)
    view, inputs = positional(net, {"scale": 2.0, "input": x})
    torch.testing.assert_close(view(*inputs), net(x, 2.0))
