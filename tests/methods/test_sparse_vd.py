from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.bayes import Gaussian, LogUniform, kl_divergence
from laconic.bayes.kl.sigmoid_fit import fit
from laconic.bayes.prepare import posteriors_of, sampling
from laconic.errors import InputError, ScaleError
from laconic.methods import Context, MagnitudePruning, SparseVD
from laconic.methods.common.masks import weight_masks_of
from laconic.prepared import prepared
from laconic.schedules import WarmUp
from laconic.sparsify.selection.threshold import keep_below, log_alpha
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits, train


def _model() -> nn.Module:
    return DigitsMLP(hidden=16, generator=torch.Generator().manual_seed(1))


def _prepared(method: SparseVD) -> nn.Module:
    return laconic.prepare(_model(), method, digits()[0][:2], data_size=100, seed=0)


def _at(net: nn.Module, epochs: float) -> Context:
    """The context of a prepared network as if it had seen this many epochs."""
    state = prepared(net, "test")
    return Context(state.context.data_size, state.context.noise, terms=round(100 * epochs))


def _kl(log_alpha: float) -> float:
    """Molchanov et al. 2017, eq. 14, with the sign of a penalty; zero where the noise is all."""
    k1, k2, k3 = 0.63576, 1.87320, 1.48695
    sigmoid = 1 / (1 + math.exp(-(k2 + k3 * log_alpha)))
    return -(k1 * sigmoid - 0.5 * math.log1p(math.exp(-log_alpha)) - k1)


def test_the_penalty_is_the_weighted_kl_summed_over_all_weights() -> None:
    method = SparseVD(kl_weight=2.0, warm_up=WarmUp(0.0, 0.0))
    net = _prepared(method)
    wanted = 0.0
    for q in posteriors_of(net).values():
        for mean, log_var in zip(q.mean.flatten().tolist(), q.log_var.flatten().tolist(), strict=True):
            wanted += _kl(log_var - math.log(mean**2 + 1e-8))
    assert method.penalty(net, _at(net, 0)).item() == pytest.approx(2 * wanted, rel=1e-4)
    assert laconic.penalty(net).item() == pytest.approx(2 * wanted / 100, rel=1e-4)


def test_the_warm_up_scales_the_penalty_by_epochs() -> None:
    method = SparseVD(warm_up=WarmUp(1.0, 3.0))
    net = _prepared(method)
    full = method.penalty(net, _at(net, 3)).item()
    assert full > 0
    for epochs, factor in ((0, 0.0), (1, 0.0), (1.5, 0.25), (2, 0.5), (3, 1.0), (9, 1.0)):
        assert method.penalty(net, _at(net, epochs)).item() == pytest.approx(factor * full, rel=1e-5)


def test_epochs_are_counted_by_the_terms_of_each_step() -> None:
    net = _prepared(SparseVD())
    x, y = digits()
    laconic.objective(net.train(), (x[:32], y[:32]))
    laconic.step(net)
    net.eval()(x[:50])  # a pass that no step follows counts nothing, in whatever mode
    net.train()(x[:50])
    laconic.step(net, terms=18)
    assert prepared(net, "test").context.epochs == pytest.approx(0.5)


def test_log_variances_stay_inside_their_bounds() -> None:
    method = SparseVD(log_var_bounds=(-9.0, -7.0))
    net = _prepared(method)
    with torch.no_grad():
        for q in posteriors_of(net).values():
            q.log_var.copy_(torch.linspace(-30, 10, q.log_var.numel()).view_as(q.log_var))
    laconic.step(net, terms=1)
    for q in posteriors_of(net).values():
        assert float(q.log_var.min()) == -9.0
        assert float(q.log_var.max()) == -7.0


def test_log_variances_learn_faster_than_means() -> None:
    net = _prepared(SparseVD(noise_lr=7.0))
    groups = laconic.param_groups(net, lr=0.01)
    noise = {id(q.log_var) for q in posteriors_of(net).values()}
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert set(rates) == {id(p) for p in net.parameters()}
    assert all(rates[k] == pytest.approx(0.07 if k in noise else 0.01) for k in rates)


class TestHolding:
    """From ``hold_from`` on, pruned weights stay at zero without noise."""

    method = SparseVD(hold_from=0.5, warm_up=WarmUp(0.0, 0.0), held_kl_weight=0.25)

    def _held(self) -> nn.Module:
        net = _prepared(self.method)
        with torch.no_grad():
            for q in posteriors_of(net).values():
                q.mean.view(-1)[1::2] = 0.3
                q.log_var.view(-1)[::2] = 3.5  # every second weight is noise
        self.method.step(net, _at(net, 1.0))
        return net

    def test_before_it_nothing_is_held(self) -> None:
        net = _prepared(self.method)
        with torch.no_grad():
            for q in posteriors_of(net).values():
                q.log_var.fill_(3.5)
        self.method.step(net, _at(net, 0.4))
        assert all(bool(mask.all()) for mask in weight_masks_of(net).values())
        assert all(float(q.log_var.min()) == 3.5 for q in posteriors_of(net).values())

    def test_what_noise_has_swamped_is_held(self) -> None:
        net = self._held()
        for q, mask in zip(posteriors_of(net).values(), weight_masks_of(net).values(), strict=True):
            assert not mask.view(-1)[::2].any()
            assert mask.view(-1)[1::2].all()
            assert not q.mean[~mask].any()
            assert float(q.std[~mask].max()) < 1e-4

    def test_held_weights_stay_exactly_zero_while_training_goes_on(self) -> None:
        net = self._held()
        before = [mask.clone() for mask in weight_masks_of(net).values()]
        x, y = digits()
        optimizer = torch.optim.Adam(laconic.param_groups(net, lr=0.05))
        net.train()
        for k in range(4):
            loss = nn.functional.cross_entropy(net(x[:32]), y[:32]) + laconic.penalty(net)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.method.step(net, _at(net, 1.0 + k))
        for q, mask, old in zip(
            posteriors_of(net).values(), weight_masks_of(net).values(), before, strict=True
        ):
            assert torch.equal(mask, old)
            assert not q.mean[~mask].any()
            assert bool((q.log_var[~mask] == self.method.log_var_bounds[0]).all())

    def test_held_weights_add_no_penalty(self) -> None:
        net = self._held()
        held = float(self.method.penalty(net, _at(net, 1.0)))
        plain = SparseVD(warm_up=WarmUp(0.0, 0.0))
        kept = 0.0
        for q, mask in zip(posteriors_of(net).values(), weight_masks_of(net).values(), strict=True):
            alone = torch.stack([q.mean[mask], q.log_var[mask]])
            kept += sum(_kl(v - math.log(m**2 + 1e-8)) for m, v in alone.T.tolist())
        assert held == pytest.approx(0.25 * kept, rel=1e-4)
        assert held < 0.25 * plain.penalty(net, _at(net, 0.0)).item()

    def test_held_weights_do_not_come_back_in_the_file(self) -> None:
        net = self._held()
        with torch.no_grad():
            for q in posteriors_of(net).values():
                q.mean.fill_(1.0)  # as if they had grown since the last step
        small = laconic.convert(net)
        for name, mask in zip(posteriors_of(net), weight_masks_of(net).values(), strict=True):
            assert not small.tensors[name].values()[~mask.numpy()].any()


def test_convert_drops_what_the_threshold_says() -> None:
    net = train(_model(), SparseVD(threshold=-1.0, kl_weight=4.0, warm_up=WarmUp(0.0, 0.0)), steps=3)
    small = laconic.convert(net)
    for name, q in posteriors_of(net).items():
        stats = q.stats(name)
        noisy = stats.variance / (stats.mean**2 + 1e-16) > np.exp(-1.0) * 1.0001
        assert noisy.any()
        assert not small.tensors[name].values()[noisy].any()
        sure = stats.variance / (stats.mean**2 + 1e-16) < np.exp(-1.0) * 0.9999
        step = getattr(small.tensors[name].grid, "step", 0.0)
        alive = small.tensors[name].values()[sure]
        assert np.abs(alive[alive != 0] - stats.mean[sure][alive != 0]).max(initial=0.0) <= 0.5001 * step


@pytest.mark.parametrize("weight", [1 / 1437, -1.0, float("nan")])
def test_a_kl_weight_that_cannot_be_meant_is_refused(weight: float) -> None:
    with pytest.raises(ScaleError, match=r"SparseVD.*kl_weight"):
        laconic.prepare(_model(), SparseVD(kl_weight=weight), digits()[0][:2], data_size=1437)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="init_log_var inside log_var_bounds"):
        SparseVD(init_log_var=-30.0)
    with pytest.raises(InputError, match="noise_lr must be > 0"):
        SparseVD(noise_lr=0.0)


def _held(method: SparseVD) -> nn.Module:
    """A prepared network that has begun to hold: half of its first weight has a wide posterior."""
    net = _prepared(method)
    with torch.no_grad():
        first = next(iter(posteriors_of(net).values()))
        first.mean[:8] = 0.0
    method.step(net, _at(net, 1))
    return net


def test_without_hold_noise_the_survivors_train_on_their_means_and_no_kl_counts() -> None:
    method = SparseVD(hold_from=1.0, hold_noise=False, held_kl_weight=1.0)
    net, x = _held(method).train(), digits()[0][:4]
    masks = list(weight_masks_of(net).values())
    assert not masks[0].all()
    assert torch.equal(net(x), net(x))
    assert method.penalty(net, _at(net, 1)).item() == 0.0
    noisy = _held(SparseVD(hold_from=1.0)).train()
    assert not torch.equal(noisy(x), noisy(x))


def test_noise_is_still_there_before_anything_is_held_and_for_prediction() -> None:
    method = SparseVD(hold_from=1.0, hold_noise=False)
    net, x = _prepared(method).train(), digits()[0][:4]
    method.step(net, _at(net, 0.5))
    assert not torch.equal(net(x), net(x))
    held = _held(method).eval()
    with sampling(held):
        assert not torch.equal(held(x), held(x))


def test_a_reloaded_network_goes_on_without_noise_where_it_had_none() -> None:
    method, x = SparseVD(hold_from=1.0, hold_noise=False), digits()[0][:4]
    held, fresh = _held(method).train(), _prepared(method).train()
    fresh.load_state_dict(held.state_dict())
    assert torch.equal(fresh(x), held(x))
    assert torch.equal(fresh(x), fresh(x))


# --- one log alpha ------------------------------------------------------------------------------------


def _tiny() -> Gaussian:
    """Means from 0 and 1e-7 to 0.1, log variances from -20 to 4, in all pairs."""
    means = torch.cat([torch.zeros(1), torch.logspace(-7, -1, 25)])
    mean, log_var = torch.meshgrid(means, torch.linspace(-20, 4, 49), indexing="ij")
    return Gaussian(mean.contiguous(), log_var.contiguous())


def test_training_and_decision_use_one_log_alpha() -> None:
    """The KL of training is the fit at the log alpha that the threshold of ``convert`` is compared with."""
    q = _tiny()
    decided = torch.from_numpy(log_alpha(q.stats("w")))
    assert torch.allclose(q.log_alpha(), decided, atol=1e-4)
    assert torch.allclose(kl_divergence(q, LogUniform()), fit(decided), atol=1e-5)


def test_epsilon_changes_decisions_only_where_there_is_next_to_no_noise() -> None:
    r"""Molchanov 2017 has no epsilon: with it, weights of :math:`\sigma^2 < e^3(\theta^2 + 10^{-8})` stay."""
    q = _tiny()
    square, variance = q.mean.double().square().numpy(), q.log_var.double().exp().numpy()
    exact = variance < math.exp(3) * square
    kept = keep_below(q.stats("w"), 3.0)
    assert not (exact & ~kept).any()
    beside = kept & ~exact
    assert beside.sum() > 100
    assert (variance - math.exp(3) * square)[beside].max() < 1.01e-8 * math.exp(3)


@pytest.mark.parametrize("method", [SparseVD(), MagnitudePruning(0.5)])
def test_what_an_earlier_stage_removed_is_not_left(method: SparseVD | MagnitudePruning) -> None:
    x = digits()[0][:2]
    pruned = laconic.convert(train(_model(), MagnitudePruning(0.75, every=1)))
    net = laconic.prepare(pruned.module, method, x, data_size=100, previous=pruned)
    left = sum(prepared(net, "test").method.weights_left(net).values())
    assert left == sum(t.nonzeros() for n, t in pruned.tensors.items() if n.endswith("weight")) <= 304


class TestTrainClip:
    """Means above the threshold are zero in training; their noise stays, and the KL leaves them alone."""

    method = SparseVD(train_clip=True, warm_up=WarmUp(0.0, 0.0))

    def _half_clipped(self) -> nn.Module:
        net = _prepared(self.method)
        with torch.no_grad():
            for q in posteriors_of(net).values():
                q.mean.view(-1)[:] = 0.3
                q.log_var.view(-1)[::2] = 1.0  # log alpha = 3.4
        return net

    def test_a_pass_sees_the_noise_of_a_clipped_weight_alone(self) -> None:
        net, x = self._half_clipped(), digits()[0][:2]
        q = posteriors_of(net)["fc1.weight"]
        mean, variance = q.moments()
        assert not mean.view(-1)[::2].any() and (mean.view(-1)[1::2] == 0.3).all()
        assert variance.view(-1)[::2].detach().numpy() == pytest.approx(math.e)
        plain = laconic.bayes.plain_copy(net).eval()
        assert torch.equal(net.eval()(x), plain(x)) and not plain.fc1.weight.view(-1)[::2].any()

    def test_gradients(self) -> None:
        """Means that are clipped learn nothing; their variances learn from the likelihood alone."""
        net = self._half_clipped()
        q = posteriors_of(net)["fc1.weight"]
        self.method.penalty(net, _at(net, 1.0)).backward()
        for tensor in (q.mean, q.log_var):
            assert not tensor.grad.view(-1)[::2].any() and tensor.grad.view(-1)[1::2].all()
            tensor.grad = None
        net.train()(digits()[0][:8]).square().sum().backward()
        assert not q.mean.grad.view(-1)[::2].any()
        assert q.log_var.grad.view(-1)[::2].any()

    def test_the_file_leaves_out_what_is_clipped(self) -> None:
        small = laconic.convert(self._half_clipped())
        weight = small.module.get_parameter("fc2.weight").view(-1)  # those of fc1 lead to dead units as well
        assert not weight[::2].any() and weight[1::2].all()

    def test_a_family_of_ones_own_is_refused(self) -> None:
        with pytest.raises(InputError, match="leave out one"):
            SparseVD(train_clip=True, posterior=laconic.bayes.GaussianFamily())
