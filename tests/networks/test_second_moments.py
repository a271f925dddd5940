"""Second moments of inputs: sums over batches, and between a network and a changed copy of it."""

import copy

import pytest
import torch
from torch import nn

from laconic.errors import DataError, InputError, NonFiniteError
from laconic.networks import as_matrices, gather_cross_moments, gather_second_moments


def randn(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(net, amount=0.1):
    """A copy with other values."""
    changed = copy.deepcopy(net)
    with torch.no_grad():
        for k, p in enumerate(changed.parameters()):
            p += amount * randn(*p.shape, seed=k)
    return changed


def test_sums_over_batches_can_be_gone_on_with():
    net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3, bias=False)).double()
    x = randn(60, 5)
    whole = gather_second_moments(net, [x])
    parts = gather_second_moments(net, [x[40:]], start=gather_second_moments(net, [x[:10], x[10:40]]))
    hidden = net[1](net[0](x)).detach()
    assert torch.allclose(whole["2.weight"].products[0], hidden.T @ hidden)
    assert torch.allclose(whole["2.weight"].mean[0], hidden.T @ hidden / 60)
    assert all(torch.allclose(whole[n].products, parts[n].products) for n in whole)
    assert set(gather_second_moments(net, [x], names=["0.weight"])) == {"0.weight"}


def test_cross_moments_give_the_least_squares_weights_on_the_copys_inputs():
    """W E[x x~'] E[x~ x~']^-1 is what least squares finds, for a linear layer and a grouped convolution."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.Tanh(),
        nn.Conv2d(4, 6, 2, groups=2, bias=False),
        nn.Flatten(),
        nn.Linear(24, 3),
    ).double()
    changed, x = moved(net), randn(40, 2, 5, 5)
    found = gather_cross_moments(net, changed, [x[:15], x[15:]], names=["2.weight", "4.weight"])
    assert set(found) == {"2.weight", "4.weight"}
    with torch.no_grad():
        y, y_changed = net[:2](x), changed[:2](x)
        z, z_changed = net[:4](x), changed[:4](x)
        best = torch.linalg.lstsq(z_changed, z @ net[4].weight.T).solution.T
        moments = found["4.weight"]
        solved = net[4].weight @ moments.cross.mean[0] @ torch.linalg.inv(moments.changed.mean[0])
        assert torch.allclose(solved, best, atol=1e-8)
        # the convolution: its error on the copy's inputs by the moments is that of running it
        moments, weight = found["2.weight"], net[2].weight
        other = weight + 0.1 * randn(*weight.shape)
        error = (
            (
                torch.nn.functional.conv2d(y_changed, other, groups=2)
                - torch.nn.functional.conv2d(y, weight, groups=2)
            )
            .square()
            .sum()
        )
        second = gather_second_moments(net, [x])["2.weight"].products
        w, v = (as_matrices(t.detach(), 1, 2) for t in (weight, other))
        by_moments = (
            torch.einsum("brk,bkl,brl->", v, moments.changed.products, v)
            - 2 * torch.einsum("brk,bkl,brl->", w, moments.cross.products, v)
            + torch.einsum("brk,bkl,brl->", w, second, w)
        )
        assert by_moments.item() == pytest.approx(error.item(), rel=1e-9)


def test_the_bias_is_one_more_column():
    """With a 1 appended, one solve gives the weights and the bias that fit best on the copy's inputs."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    changed, x = moved(net, 0.5), randn(30, 3)
    found = gather_cross_moments(net, changed, [x[:9], x[9:]], names=["2.weight"], bias=True)["2.weight"]
    with torch.no_grad():
        both = torch.cat([net[2].weight, net[2].bias[:, None]], 1)
        solved = both @ found.cross.mean[0] @ torch.linalg.inv(found.changed.mean[0])
        read = torch.cat([changed[:2](x), torch.ones(30, 1).double()], 1)
        assert torch.allclose(solved, torch.linalg.lstsq(read, net(x)).solution.T, atol=1e-8)
    own = gather_second_moments(changed, [x], names=["2.weight"], bias=True)["2.weight"]
    assert torch.allclose(own.products, found.changed.products)


class Twice(nn.Module):
    """One layer used twice, and an activation that writes into the first use's input."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        x = 2.0 * x
        y = self.layer(x)
        x.relu_()
        return self.layer(x + y)


def test_a_layer_that_is_used_twice_and_inputs_that_are_written_into():
    net = Twice().double()
    changed, x = moved(net), randn(20, 3)
    with torch.no_grad():
        each = [(2 * x, (2 * x).relu() + m.layer(2 * x)) for m in (net, changed)]
    expected = sum(a.T @ b for a, b in zip(*each, strict=True))
    moments = gather_cross_moments(net, changed, [x])["layer.weight"]
    assert torch.allclose(moments.cross.products[0], expected)
    assert torch.allclose(moments.changed.products[0], sum(b.T @ b for b in each[1]))
    assert moments.cross.count.tolist() == [40.0]


def test_an_unchanged_copy_has_the_networks_own_moments():
    net = nn.LSTM(3, 4, batch_first=True).double()
    x = randn(5, 7, 3)
    own, cross = gather_second_moments(net, [x]), gather_cross_moments(net, copy.deepcopy(net), [x])
    for name, moments in own.items():
        assert torch.equal(cross[name].cross.products, moments.products)
        assert torch.equal(cross[name].changed.products, moments.products)


def test_a_nan_is_named():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    broken, x = moved(net), randn(6, 3)
    with torch.no_grad():
        broken[0].weight[0, 0] = torch.inf
    for call in (lambda: gather_second_moments(broken, [x]), lambda: gather_cross_moments(net, broken, [x])):
        with pytest.raises(NonFiniteError, match=r"the input of '1\.weight' holds NaN or infinity.*Cure"):
            call()


def test_networks_that_cannot_be_paired():
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    x = randn(6, 3)
    with pytest.raises(DataError, match=r"cross moments: the loader gave no batch.*Cure"):
        gather_cross_moments(net, net, [])
    narrow = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)).double()
    with pytest.raises(
        InputError, match=r"'1\.weight' is multiplied by inputs of the shapes \(6, 4\) and \(6, 5\).*Cure"
    ):
        gather_cross_moments(net, narrow, [x])
    twice = Twice().double()
    once = nn.Module()
    once.layer = nn.Linear(3, 3).double()
    once.forward = lambda x: once.layer(x)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"'layer\.weight' is read more often in the network than"):
        gather_cross_moments(twice, once, [x])
    with pytest.raises(InputError, match=r"'layer\.weight' is read more often in the copy than"):
        gather_cross_moments(once, twice, [x])
