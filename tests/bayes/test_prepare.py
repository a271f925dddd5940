import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.bayes.kl import kl_divergence
from laconic.bayes.layers import Variational
from laconic.bayes.posteriors import Gaussian, GaussianFamily
from laconic.bayes.prepare import (
    deterministic_of,
    make_bayesian,
    plain_copy,
    posteriors_of,
    sampling,
)
from laconic.bayes.priors import LogUniform
from laconic.errors import InputError, ModelError, NotPreparedError
from laconic.networks.modes import evaluating
from laconic.networks.noise import NoiseSource
from laconic.networks.policy import weights_of
from laconic.networks.probe import check_model


def convnet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 3)
        )


EXAMPLE = torch.linspace(-1, 1, 72).view(2, 1, 6, 6)


def prepare(model, example=EXAMPLE, log_var=-6.0, **settings):
    return make_bayesian(
        model, example=example, posterior=GaussianFamily(log_var), noise=NoiseSource(0), **settings
    )


def test_the_model_is_left_as_it_was():
    model = convnet()
    model[1].eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    net = prepare(model)
    net(EXAMPLE).sum().backward()
    assert modes == [m.training for m in model.modules()] == [m.training for m in net.modules()]
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    layer = nn.Linear(2, 2)
    state = torch.get_rng_state()
    prepare(layer, torch.ones(1, 2))(torch.ones(1, 2))
    assert torch.equal(torch.get_rng_state(), state)


def test_names_values_and_policy():
    model = convnet()
    net = prepare(model)
    assert list(posteriors_of(net)) == ["0.weight", "5.weight"] == list(weights_of(model))
    assert list(deterministic_of(net)) == ["0.bias", "1.weight", "1.bias", "5.bias"]
    q = posteriors_of(net)["5.weight"]
    assert torch.equal(q.mean, model[5].weight) and (q.log_var == -6.0).all()
    assert q.mean is net[5].weight and q.log_var is net[5].weight_log_var


def test_the_example_may_be_one_row_and_draws_no_global_noise():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2))
    state = torch.get_rng_state()
    prepare(model, torch.ones(1, 4))
    assert torch.equal(torch.get_rng_state(), state)


def test_same_seed_same_pass_other_seed_other_pass():
    outs = [
        make_bayesian(
            nn.Sequential(convnet()[0]),
            example=EXAMPLE,
            posterior=GaussianFamily(-1.0),
            noise=NoiseSource(seed),
        )(EXAMPLE)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])


def test_select_leaves_weights_out():
    net = prepare(convnet(), select=lambda name, parameter: not name.startswith("0."))
    assert list(posteriors_of(net)) == ["5.weight"]
    assert type(net[0]) is nn.Conv2d and "0.weight" in deterministic_of(net)
    with pytest.raises(ModelError, match="select"):
        prepare(convnet(), select=lambda name, parameter: False)


def test_frozen_weights_stay_deterministic():
    model = convnet()
    model[0].weight.requires_grad_(False)
    net = prepare(model)
    assert list(posteriors_of(net)) == ["5.weight"] and "0.weight" in deterministic_of(net)


def test_a_layer_used_in_two_places_stays_one():
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.b = self.a
            self.list = nn.ModuleList([self.a, nn.Linear(4, 4)])

        def forward(self, x):
            return self.list[1](self.b(self.a(x)))

    net = prepare(Siamese(), torch.ones(1, 4), log_var=0.0)
    assert net.a is net.b is net.list[0]
    assert list(posteriors_of(net)) == ["a.weight", "list.1.weight"]
    plain = plain_copy(net)
    assert plain.a is plain.b is plain.list[0] and type(plain.a) is nn.Linear
    # Two calls in one pass see one draw of the weight.
    net = prepare(nn.Sequential(*[nn.Linear(4, 4, bias=False)] * 2), torch.ones(1, 4), log_var=0.0)
    seen = []
    for _ in range(2):
        net[0].register_forward_hook(lambda m, a, out: seen.append((a[0].detach(), out.detach())))
    net(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
    weight = [torch.linalg.lstsq(x, y).solution for x, y in (seen[0], seen[-1])]
    assert torch.allclose(weight[0], weight[1], atol=1e-3)


def test_the_plain_copy_follows_net_and_given_weights():
    net = prepare(convnet())
    net(EXAMPLE)  # moves the running statistics
    posteriors_of(net)["5.weight"].mean.data.add_(1.0)
    net.eval()
    plain = plain_copy(net)
    assert torch.equal(plain(EXAMPLE), net(EXAMPLE)) and not plain.training
    plain[5].weight.data.zero_()
    assert posteriors_of(net)["5.weight"].mean.abs().min() > 0
    zeroed = plain_copy(net, {"5.weight": torch.zeros(3, 64)})
    assert torch.equal(zeroed(EXAMPLE), net[5].bias.expand(2, 3))
    with pytest.raises(InputError, match=r"5.weight.*\(2, 2\).*\(3, 64\)"):
        plain_copy(net, {"5.weight": torch.zeros(2, 2)})
    with pytest.raises(InputError, match="no such parameter"):
        plain_copy(net, {"9.weight": torch.zeros(2, 2)})
    with pytest.raises(NotPreparedError):
        plain_copy(convnet())


def test_sampling_and_means():
    net = prepare(convnet(), log_var=0.0).eval()
    quiet = net(EXAMPLE)
    with sampling(net), torch.no_grad():
        noisy = net(EXAMPLE)
        assert not torch.equal(noisy, net(EXAMPLE)) and not net[3].training
    assert torch.equal(net(EXAMPLE), quiet)
    net.train()
    net[1].eval()
    with evaluating(net):
        assert torch.equal(net(EXAMPLE), quiet)
    assert net.training and not net[1].training
    with pytest.raises(NotPreparedError), sampling(convnet()):
        pass


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types_and_layouts(dtype, layout):
    model = convnet().to(dtype).to(memory_format=layout)
    net = prepare(model, EXAMPLE.to(dtype))
    out = net(EXAMPLE.to(dtype))
    out.sum().backward()
    assert out.dtype == dtype
    assert all(q.log_var.dtype == dtype and q.log_var.grad is not None for q in posteriors_of(net).values())
    assert plain_copy(net.double())[0].weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Sequential(nn.ReLU()), "no parameters"),
        (nn.Sequential(nn.LayerNorm(6)), "no weight"),
        (nn.Sequential(nn.LazyLinear(3)), "not initialised"),
    ],
)
def test_networks_that_cannot_be_prepared(model, words):
    with pytest.raises(ModelError, match=words):
        prepare(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_weights_are_named(value):
    model = convnet()
    model[5].weight.data[1, 2] = value
    with pytest.raises(ModelError, match=r"'5.weight' of shape \(3, 64\) holds 1 NaN"):
        prepare(model)


def test_prepared_twice():
    with pytest.raises(ModelError, match="already"):
        prepare(prepare(convnet()))
    check_model(prepare(convnet()), None)


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (torch.zeros(2, 3, 6, 6), r"\(2, 3, 6, 6\).*layer '0' \(Conv2d; weight \(4, 1, 3, 3\)"),
        (torch.zeros(2, 1, 9, 9), r"\(2, 1, 9, 9\).*layer '5' \(Linear; weight \(3, 64\).*\(2, 196\)"),
        ((EXAMPLE, EXAMPLE), r"\(2, 1, 6, 6\), \(2, 1, 6, 6\)"),
    ],
)
def test_an_example_that_does_not_fit_is_told_both_shapes(example, words):
    with pytest.raises(InputError, match=words):
        prepare(convnet(), example)


def test_several_inputs_by_position_and_by_name():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x, y):
            return self.fc(x + y)

    for example in ((torch.ones(1, 3), torch.ones(1, 3)), {"x": torch.ones(1, 3), "y": torch.ones(1, 3)}):
        assert isinstance(prepare(Two(), example).fc, Variational)


@pytest.mark.parametrize("log_var", [float("nan"), 50.0, -100.0])
def test_a_strange_log_variance_is_refused(log_var):
    with pytest.raises(InputError, match="init_log_var"):
        prepare(convnet(), log_var=log_var)


def test_a_network_that_cannot_be_copied():
    model = convnet()
    model.kept = (line for line in "ab")
    with pytest.raises(ModelError, match="deep-copied"):
        prepare(model)


def test_what_a_forward_pass_left_behind_is_copied_without_its_history():
    model = convnet()
    model.kept = model[5].weight * 2
    model.listed = [model[5].weight * 3]
    net = prepare(model)
    assert torch.equal(net.kept, model.kept) and torch.equal(net.listed[0], model.listed[0])
    assert net.kept.is_leaf


def test_training_lowers_the_elbo_and_raises_noise_where_weights_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 10, generator=generator)
    y = (x[:, 0] > 0).long()  # nine inputs say nothing
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = prepare(nn.Linear(10, 2), x[:1], log_var=-6.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(250):
        kl = sum(kl_divergence(q, LogUniform()).sum() for q in posteriors_of(net).values())
        loss = F.cross_entropy(net(x), y) + kl / 256
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    log_alpha = posteriors_of(net)["weight"].log_alpha()
    assert (log_alpha[:, 0] < 1).all() and (log_alpha[:, 1:].max(0).values > 3).sum() >= 7
    assert (net.eval()(x).argmax(1) == y).float().mean() > 0.95


def test_a_class_of_posteriors_is_no_family() -> None:
    with pytest.raises(InputError, match="posterior: Gaussian is a class of posteriors, not a family. Cure"):
        make_bayesian(
            nn.Linear(4, 2),
            example=torch.zeros(1, 4),
            posterior=Gaussian,
            noise=NoiseSource(0),  # type: ignore[arg-type]
        )
