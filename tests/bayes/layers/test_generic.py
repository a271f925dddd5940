"""Weights that no holder knows: drawn whole, once per forward pass, with gradients to both parameters."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from laconic.bayes.layers import LOCAL, Variational
from laconic.bayes.posteriors import GaussianFamily
from laconic.bayes.prepare import deterministic_of, make_bayesian, plain_copy, posteriors_of, sampling
from laconic.networks.noise import NoiseSource
from laconic.networks.policy import Policy


class OwnParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(5))
        self.table = nn.ParameterList([nn.Parameter(torch.ones(5, 5)), nn.Parameter(torch.ones(5, 5))])
        self.named = nn.ParameterDict({"left": nn.Parameter(torch.ones(5))})

    def forward(self, x):
        return (x * self.scale) @ self.table[0] @ self.table[1] * self.named["left"]


class Doubled(nn.Linear):
    def forward(self, x):
        return F.linear(x, 2 * self.weight, self.bias)


class Borrowing(nn.Module):
    """Never calls ``lender``; reads its weight."""

    def __init__(self):
        super().__init__()
        self.lender, self.called = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x):
        return self.called(x) @ self.lender.weight + self.called(torch.zeros_like(x)).detach() * 0


class AlsoBorrowing(Borrowing):
    """Calls ``lender`` and reads its weight besides, as decoders do that share an encoder's weight."""

    def forward(self, x):
        return torch.stack([self.lender(x), torch.stack([x @ self.lender.weight.T + self.lender.bias])[0]])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(11, 5), nn.Linear(5, 11)
        self.out.weight = self.embed.weight

    def forward(self, index):
        return self.out(self.embed(index))


class Attention(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **settings)

    def forward(self, x):
        return self.attention(x, x[..., : self.attention.kdim], x[..., : self.attention.vdim])[0]


class First(nn.Module):
    """The first of a layer's outputs."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


ZOO = {
    "lstm": (lambda: First(nn.LSTM(5, 4, 2, bidirectional=True, batch_first=True)), (2, 3, 5)),
    "lstm projection": (lambda: First(nn.LSTM(5, 4, proj_size=2)), (3, 2, 5)),
    "gru": (lambda: First(nn.GRU(5, 4, 2)), (3, 2, 5)),
    "rnn": (lambda: First(nn.RNN(5, 4)), (3, 2, 5)),
    "lstm cell": (lambda: Unrolled(), (3, 2, 5)),
    "attention": (Attention, (2, 3, 8)),
    "attention, own widths": (lambda: Attention(kdim=4, vdim=6, bias=False), (2, 3, 8)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), (2, 3, 8)),
    "own parameters": (OwnParameter, (3, 5)),
    "subclass": (lambda: Doubled(5, 4), (3, 5)),
    "borrowed weight": (Borrowing, (3, 5)),
    "weight norm": (lambda: nn.Sequential(weight_norm(nn.Linear(5, 4))), (3, 5)),
    "prelu": (lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU(4)), (3, 5)),
    "bilinear": (lambda: SelfBilinear(), (3, 5)),
}


class Unrolled(nn.Module):
    """One cell, called at each time step."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(5, 4)

    def forward(self, x):
        state = None
        for row in x:
            state = self.cell(row, state)
        return state[0]


class SelfBilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.form = nn.Bilinear(5, 5, 4)

    def forward(self, x):
        return self.form(x, x)


def prepared(name, log_var=-4.0):
    make, shape = ZOO[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x = make(), torch.randn(shape)
    return model, make_bayesian(model, example=x, posterior=GaussianFamily(log_var), noise=NoiseSource(0)), x


@pytest.mark.parametrize("name", ZOO)
def test_nothing_is_skipped(name):
    model, net, x = prepared(name)
    posteriors, rest = posteriors_of(net), deterministic_of(net)
    names = [n for n, _ in model.named_parameters()]
    assert sorted([*posteriors, *rest]) == sorted(names)
    matrices = {n for n, p in model.named_parameters() if sum(size > 1 for size in p.shape) >= 2}
    assert matrices == set(posteriors)  # all others are biases, or scale channels one by one
    net(x).square().sum().backward()
    for n, q in posteriors.items():
        assert q.mean.grad is not None and q.log_var.grad is not None, n
        assert q.log_var.grad.abs().sum() > 0, f"no noise reached {n}"


@pytest.mark.parametrize("name", ZOO)
def test_eval_is_the_plain_network_and_training_is_not(name):
    model, net, x = prepared(name)
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.eval()(x), model.eval()(x))
    with sampling(net), torch.no_grad():
        assert not torch.equal(net(x), net(x))
    assert torch.equal(net(x), model(x))


@pytest.mark.parametrize("name", ZOO)
def test_state_dict_keeps_the_plain_names_and_round_trips(name):
    model, net, x = prepared(name)
    state = net.state_dict()
    assert set(model.state_dict()) <= set(state)
    twin = prepared(name)[1]
    for q in posteriors_of(net).values():
        q.mean.data.add_(0.5)
    twin.load_state_dict(net.state_dict())
    assert torch.equal(twin.eval()(x), net.eval()(x))


@pytest.mark.parametrize("name", ZOO)
def test_deep_copies_live_on_their_own(name):
    _, net, x = prepared(name)
    net(x).sum().backward()
    twin = copy.deepcopy(net)
    assert torch.equal(net(x), twin(x))
    for q in posteriors_of(twin).values():
        q.mean.data.add_(1.0)
    assert not torch.equal(net.eval()(x), twin.eval()(x))
    assert list(posteriors_of(twin)) == list(posteriors_of(net))


@pytest.mark.parametrize("name", ZOO)
def test_the_plain_copy_has_the_original_classes_and_keys(name):
    model, net, x = prepared(name)
    plain = plain_copy(net)
    assert [type(m) for m in plain.modules()] == [type(m) for m in model.modules()]
    assert not any(isinstance(m, Variational) for m in plain.modules())
    assert list(plain.state_dict()) == list(model.state_dict())
    assert torch.equal(plain.eval()(x), model.eval()(x))


def test_a_weight_is_drawn_once_per_pass_and_anew_in_the_next():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return torch.stack([self.w * x, self.w * x])

    net = make_bayesian(
        Twice(),
        example=torch.ones(4),
        posterior=GaussianFamily(0.0),
        noise=NoiseSource(0),
        policy=Policy(weights=("w",)),
    )
    first, second = net(torch.ones(4)), net(torch.ones(4))
    assert torch.equal(first[0], first[1]) and not torch.equal(first, second)
    assert torch.equal(net.w, torch.zeros(4))  # outside a pass: the mean


def test_a_failed_pass_leaves_no_draw_behind():
    _, net, x = prepared("own parameters")
    with pytest.raises(RuntimeError):
        net(torch.zeros(3, 4))
    assert torch.equal(net.scale, net._parameters["scale"])
    assert not torch.equal(net(x), net(x))


def test_an_lstm_uses_the_drawn_weights():
    """Noise of a known size in one weight moves the output as drawing that weight by hand does."""
    model, net, x = prepared("lstm", log_var=-60.0)
    assert torch.allclose(net(x), model(x), atol=1e-6)
    q = posteriors_of(net)["layer.weight_hh_l1_reverse"]
    with torch.no_grad():
        q.log_var.fill_(0.0)
        draws = torch.stack([net(x) for _ in range(400)])
        by_hand, noise = [], NoiseSource(1)
        for _ in range(400):
            model.layer.weight_hh_l1_reverse.copy_(q.rsample(noise))
            by_hand.append(model(x))
    by_hand = torch.stack(by_hand)
    assert by_hand.var(0).max() > 1e-4
    assert torch.allclose(draws.var(0), by_hand.var(0), rtol=0.5, atol=2e-4)
    assert torch.allclose(draws.mean(0), by_hand.mean(0), atol=0.06)


def test_tied_weights_have_one_posterior_and_one_draw():
    model = Tied()
    index = torch.arange(11)
    net = make_bayesian(model, example=index, posterior=GaussianFamily(-1.0), noise=NoiseSource(0))
    assert list(posteriors_of(net)) == ["embed.weight"]
    assert net.out.weight_log_var is net.embed.weight_log_var
    with torch.no_grad():
        net.out.bias.zero_()
        scores = net(index)
    assert torch.allclose(scores, scores.T, atol=1e-5)  # E E^T of one draw is symmetric
    plain = plain_copy(net)
    assert plain.out.weight is plain.embed.weight


def test_a_borrowed_weight_is_drawn_too():
    _, net, x = prepared("borrowed weight", log_var=-60.0)
    quiet = net(x)
    with torch.no_grad():
        posteriors_of(net)["lender.weight"].log_var.fill_(0.0)
    assert (net(x) - quiet).abs().max() > 0.1
    assert type(net.lender).__name__ == "BayesLinear" and "laconic" not in type(net.lender).__module__


def test_a_weight_that_is_called_and_borrowed_has_one_draw():
    x = torch.ones(3, 5)
    net = make_bayesian(AlsoBorrowing(), example=x, posterior=GaussianFamily(0.0), noise=NoiseSource(0))
    called, borrowed = net(x)
    assert torch.allclose(called, borrowed, atol=1e-5) and not torch.equal(net(x)[0], called)


def test_asking_a_weight_for_its_device_is_no_use_of_it():
    class Polite(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(5, 4)

        def forward(self, x):
            return self.fc(x.to(self.fc.weight.device, self.fc.weight.dtype))[:, : self.fc.weight.shape[0]]

    net = make_bayesian(
        Polite(), example=torch.ones(1, 5), posterior=GaussianFamily(0.0), noise=NoiseSource(0)
    )
    assert type(net.fc).__module__ == "laconic.bayes.layers.linear"


def test_a_name_that_is_taken_is_refused():
    from laconic.errors import ModelError

    class Taken(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(3, 3))
            self.w_log_var = 1.0

        def forward(self, x):
            return x @ self.w

    with pytest.raises(ModelError, match="w_log_var"):
        make_bayesian(Taken(), example=torch.ones(1, 3), posterior=GaussianFamily(-8.0), noise=NoiseSource(0))


class TwiceLooked(nn.Module):
    """Looks into one table twice, so that it is drawn whole."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4, padding_idx=2)

    def forward(self, index):
        return torch.stack([self.embed(index), self.embed(index)])


def test_a_padding_row_has_no_noise_even_when_the_table_is_drawn_whole():
    index = torch.tensor([2, 3])
    net = make_bayesian(
        TwiceLooked(), example=index, posterior=GaussianFamily(0.0), noise=NoiseSource(1)
    ).train()
    assert not isinstance(net.embed, LOCAL[nn.Embedding])
    first, second = net(index)
    assert torch.equal(first, second)
    assert not first[0].any()
    assert bool((first[1] != net.embed._parameters["weight"][3]).all())
