import pytest
import torch
from torch import nn

from laconic.bayes.non_finite import check_loss
from laconic.bayes.posteriors import GaussianFamily
from laconic.bayes.prepare import make_bayesian
from laconic.errors import NonFiniteError
from laconic.networks.noise import NoiseSource

X = torch.linspace(0.1, 1, 24).view(4, 6)


class Log(nn.Module):
    def forward(self, x):
        return torch.log(x - 100)


def network(middle=None):
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), middle or nn.ReLU(), nn.Linear(5, 2))


def prepared(middle=None):
    return make_bayesian(network(middle), example=X, posterior=GaussianFamily(-6.0), noise=NoiseSource(0))


def check(net, loss=float("nan"), x=X, step=17):
    check_loss(loss, net, (x,), step=step)


def test_a_finite_loss_costs_nothing():
    def never(*args):
        raise AssertionError("looked at the network")

    net = prepared()
    net.register_forward_pre_hook(never)
    check(net, 1.0)
    check(net, torch.tensor(2.0, requires_grad=True))


def test_a_parameter():
    net = prepared()
    net[3].weight.data[0, 1] = float("nan")
    with pytest.raises(NonFiniteError, match=r"step 17: layer '3': parameter 'weight' holds 1 NaN.*Cure"):
        check(net)


def test_the_first_layer_whose_output_is_bad():
    with pytest.raises(
        NonFiniteError, match=r"layer '2' \(Log\): its output holds 20 NaN and 0 infinite of 20"
    ):
        check(prepared(Log()), torch.tensor(float("nan")))


def test_a_gradient():
    net = prepared()
    net[0].weight_log_var.grad = torch.full((5, 6), float("inf"))
    with pytest.raises(NonFiniteError, match="layer '0': the gradient of 'weight_log_var'"):
        check(net, float("inf"))


def test_the_data():
    x = X.clone()
    x[2, 3] = float("nan")
    with pytest.raises(NonFiniteError, match="input 0 of the network holds 1 NaN.*check the data"):
        check(prepared(), x=x)


def test_an_overflowing_variance():
    net = prepared()
    net[3].weight_log_var.data.fill_(200.0)
    net.eval()
    with pytest.raises(NonFiniteError, match="'3.weight': a moment of its posterior overflows"):
        check(net)


def test_the_loss_itself():
    with pytest.raises(NonFiniteError, match="the loss itself"):
        check(prepared())


def test_a_plain_network_is_searched_as_well():
    with pytest.raises(NonFiniteError, match="layer '2'"):
        check(network(Log()))


def test_the_search_leaves_no_trace():
    net = prepared()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    hooks = [len(m._forward_hooks) for m in net.modules()]
    with pytest.raises(NonFiniteError):
        check(net)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert hooks == [len(m._forward_hooks) for m in net.modules()] and net.training


def test_a_layer_that_lists_several_outputs():
    net = make_bayesian(
        nn.LSTM(6, 3), example=X.view(4, 1, 6), posterior=GaussianFamily(-6.0), noise=NoiseSource(0)
    )
    net.bias_ih_l0.data[0] = float("inf")
    with pytest.raises(
        NonFiniteError, match=r"\(the network itself\): parameter 'bias_ih_l0' holds 0 NaN and 1 inf"
    ):
        check(net, x=X.view(4, 1, 6))
