"""One engine for units: the suite for every score, cuts by every schedule, resumption, hooks, bad input."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.errors import InputError, ModelError, NonFiniteError
from laconic.methods import (
    FilterPruning,
    FisherPruning,
    MagnitudePruning,
    MeanActivationPruning,
    NetworkTrimming,
    RandomPruning,
    ScorePruning,
    TaylorPruning,
)
from laconic.methods.common.masks import weight_masks_of
from laconic.methods.common.unit_masks import groups_of, plan_of
from laconic.schedules import Cubic, Geometric, Iterative, OneShot, removed_share
from laconic.sparsify.scores import gather_inputs, l2_groups, wanda_groups
from laconic.testing import check_method
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.job import Job, Stage, settings_of
from laconic.zoo import DigitsLSTM, DigitsMLP
from tests.helpers.method_suite import digits, train

METHODS = {
    "taylor": TaylorPruning,
    "filters": FilterPruning,
    "fisher": FisherPruning,
    "apoz": NetworkTrimming,
    "mean activation": MeanActivationPruning,
    "random": RandomPruning,
}


class Residual(nn.Module):
    """Two convolutions around which the stem's channels go, and batch norms."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.inner, self.outer = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(8, 10)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.3 * torch.randn(p.shape, generator=generator))

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(x + self.outer(F.relu(self.norm(self.inner(x)))))
        return self.head(x.mean((2, 3)))


def mlp(hidden=16):
    return DigitsMLP(hidden=hidden, generator=torch.Generator().manual_seed(2))


def own_schedule(progress, final):
    return final * progress


def wanda(module, coupling):
    return wanda_groups(module, coupling, gather_inputs(module, [digits()[0][:32]]))


@pytest.mark.parametrize(
    ("method", "build"),
    [
        (FilterPruning(0.4, Iterative(3), every=1, norm=2), mlp),
        (FisherPruning(0.4, every=1), mlp),
        (NetworkTrimming(0.4, every=1), Residual),
        (MeanActivationPruning(0.4, every=1), lambda: DigitsLSTM(generator=torch.Generator().manual_seed(2))),
        (RandomPruning(0.4, every=1), mlp),
        (ScorePruning(0.4, every=1, score=wanda), mlp),
    ],
    ids=["filters", "fisher", "apoz, residual", "mean activation, recurrent", "random", "own"],
)
def test_the_method_suite(method, build, tmp_path):
    small = check_method(method, build, tmp_path)
    assert 0 < small.facts["macs_after"] <= 0.4 * small.facts["macs_before"]
    assert sum(p.numel() for p in small.module.parameters()) < sum(p.numel() for p in build().parameters())


def left_by_step(method, steps=20, build=mlp):
    """Units of the hidden layer that are left after each step; none comes back, and the removed are zero."""
    x, y = digits()
    net = laconic.prepare(build(), method, x[:2], data_size=len(x), total_steps=steps)
    optimizer = torch.optim.Adam(laconic.param_groups(net, 0.01))
    coupling, _ = groups_of(net)
    left, before = [], set(range(16))
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        laconic.step(net, terms=len(x))
        (kept,) = plan_of(net, coupling).kept.values()
        assert set(kept) <= before
        removed = sorted(set(range(16)) - set(kept))
        first, second = [m for m in net.modules() if isinstance(m, nn.Linear)]
        assert (
            not first.weight[removed].any()
            and not first.bias[removed].any()
            and not second.weight[:, removed].any()
        )
        left.append(len(kept))
        before = set(kept)
    return left


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "schedule",
    [OneShot(0.25), Iterative(3, 0.1, 0.7), Cubic(0.0, 0.8), Geometric(end=1.0), own_schedule],
    ids=["1", "3", "cubic", "geometric", "own"],
)
def test_every_score_follows_every_schedule(name, schedule):
    """16 hidden units of equal cost: what is left is the least that the share allows, at every step."""
    left = left_by_step(METHODS[name](0.3, schedule=schedule, every=1))
    wanted = [int(np.floor(16 * (1 - removed_share(schedule, k / 20, 0.7)) + 1e-9)) for k in range(1, 21)]
    assert left == wanted
    assert left[-1] == 4 and (name != "random" or left[0] >= 4)


def test_a_schedule_is_looked_at_every_so_many_steps():
    assert left_by_step(RandomPruning(0.5, OneShot(0.0), every=6)) == [16] * 5 + [8] * 15


def test_weights_follow_the_same_schedules():
    x, y = digits()
    method = MagnitudePruning(0.9, every=1, schedule=Iterative(3, 0.0, 0.6))
    net = laconic.prepare(mlp(), method, x[:2], data_size=len(x), total_steps=10)
    optimizer = torch.optim.Adam(laconic.param_groups(net, 0.01))
    size = sum(m.numel() for m in weight_masks_of(net).values())
    cut = []
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        laconic.step(net, terms=len(x))
        cut.append(sum(int((~m).sum()) for m in weight_masks_of(net).values()))
    thirds = [int(share * size) for share in (0.9 / 3, 2 * 0.9 / 3, 0.9)]
    assert cut == [0, thirds[0], thirds[0], thirds[1], thirds[1], *[thirds[2]] * 5]


# --- what is remembered travels --------------------------------------------------------------------


def fitted(method, folder, kill=None):
    """A network fitted for four epochs; ``kill``: stopped after that epoch, and resumed."""
    x, y = digits()
    batches = [(x[k : k + 48], y[k : k + 48]) for k in range(0, 192, 48)]

    def prepared():
        return laconic.prepare(mlp(), method, x[:2], data_size=192, seed=5, total_steps=16)

    def stop(epoch, loss):
        if epoch == kill:
            raise KeyboardInterrupt

    config, path = FitConfig(epochs=4, lr=0.01), folder / "checkpoint.pt"
    if kill is not None:
        with pytest.raises(KeyboardInterrupt):
            net = prepared()
            fit(net, batches, config, Hooks.prepared(net), checkpoint=path, on_epoch=stop)
    net = prepared()
    fit(net, batches, config, Hooks.prepared(net), checkpoint=path if kill is not None else None)
    return net


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_was_killed_goes_on_to_the_same_bits(name, tmp_path):
    method = METHODS[name](0.3, schedule=Iterative(4, 0.0, 0.9), every=1)
    whole, resumed = fitted(method, tmp_path), fitted(method, tmp_path, kill=1)
    assert any("laconic_kept" in n for n in whole.state_dict())
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def hooks_of(net):
    return [h for m in net.modules() for h in (*m._forward_pre_hooks.values(), *m._forward_hooks.values())]


@pytest.mark.parametrize("method", [NetworkTrimming(0.4, every=1), MeanActivationPruning(0.4, every=1)])
def test_hooks_and_batches_go_with_convert_and_do_not_hinder_copies(method):
    x, y = digits()
    net = train(mlp(), method, steps=2)
    F.cross_entropy(net.train()(x[:64]), y[:64]).backward()  # between a forward pass and its step
    assert "_laconic_noted" in net.__dict__
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin.eval()(x), net.eval()(x))
        assert len(hooks_of(twin)) == len(hooks_of(net)) == 1
    small = laconic.convert(net).module
    assert hooks_of(small) == []
    assert not any("laconic" in n for m in small.modules() for n in (*vars(m), *m.state_dict()))
    laconic.step(net.train(), terms=64)  # the network stays trainable
    assert "_laconic_noted" not in net.__dict__


def test_evaluation_is_not_noted_and_dropout_does_not_count_as_zeros():
    x, _ = digits()
    plain = mlp()
    dropped = nn.Sequential(nn.Flatten(), plain.fc1, nn.ReLU(), nn.Dropout(0.9), plain.fc2)
    found = []
    for model in (plain, dropped):
        net = laconic.prepare(model, NetworkTrimming(0.4, memory=0.0), x[:2], data_size=len(x))
        net.eval()(x)
        laconic.step(net, terms=1)
        assert not net.laconic_importance_0.any()
        with torch.random.fork_rng():
            net.train()(x)
        laconic.step(net, terms=len(x))
        assert net.training and net.laconic_importance_0.any()
        found.append(net.laconic_importance_0)
    assert torch.equal(found[0], found[1])


# --- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: FilterPruning(0.0), r"share of multiply-accumulates to keep, in \(0, 1\], got 0.0"),
        (lambda: RandomPruning(min_units=-1), "min_units >= 0"),
        (lambda: RandomPruning(every=0), "every and epochs must be positive, got 0"),
        (lambda: RandomPruning(schedule=0.3), "a schedule is a function.*got 0.3. Cure: OneShot"),
        (lambda: TaylorPruning(schedule=lambda p, f: f * p / 2), "ends with 0.25 removed, not 0.5"),
        (lambda: MagnitudePruning(schedule=lambda p, f: 2 * f * p), "must lie between"),
        (lambda: FisherPruning(memory=1.0), r"memory, .* in \[0, 1\), got 1.0. Cure: 0.9"),
        (lambda: NetworkTrimming(memory=-0.1), "memory"),
        (lambda: TaylorPruning(memory=1.0), "memory"),
        (lambda: FilterPruning(norm=3), "norm must be 1 .* got 3"),
        (lambda: ScorePruning(score=1.0), "score must be a function of .* got 1.0. Cure"),
    ],
)
def test_settings_that_cannot_be(make, complaint):
    with pytest.raises(InputError, match=complaint):
        make()


@pytest.mark.parametrize(
    ("score", "error", "complaint"),
    [
        (lambda net, c: {"fc1.weight:0": np.ones(3)}, InputError, "has 16 units, its scores have shape"),
        (lambda net, c: {"fc1.weight:0": -np.ones(16)}, InputError, "are negative.*by_rank"),
        (lambda net, c: {"fc1.weight:0": np.full(16, np.nan)}, NonFiniteError, "16 of 16 scores of 'fc1"),
        (lambda net, c: {"nobody:0": np.ones(16)}, InputError, r"a group 'nobody:0'\. Cure: one of fc1"),
    ],
)
def test_scores_that_cannot_be(score, error, complaint):
    net = laconic.prepare(mlp(), ScorePruning(score=score), digits()[0][:2], data_size=9)
    with pytest.raises(error, match=complaint):
        laconic.convert(net)


class Attention(nn.Module):
    """Queries and keys meet in a product of activations, which no weight reads."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, n) for n in (6, 6, 8))
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        weights = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), -1)
        return self.out(F.relu(weights @ self.v(x)))


def test_units_that_no_weight_reads_stay_whole_and_are_named():
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    for method, whole in ((NetworkTrimming(0.7, grid=None), True), (FisherPruning(0.7, grid=None), False)):
        net = laconic.prepare(Attention(), method, x, data_size=9, total_steps=1)
        net(x).square().mean().backward()
        laconic.step(net, terms=3)
        small = laconic.convert(net)
        told = ["q.weight:0: no weight reads its units, so their activations are not seen: left whole"]
        assert small.facts["left_whole"] == (told if whole else [])
        assert ("q.weight:0" in small.facts["kept_units"]) != whole
        assert small.module.v.out_features < 8 and small.module(x).shape == x.shape


@pytest.mark.parametrize("kind", [TaylorPruning, FisherPruning])
def test_frozen_weights_leave_a_unit_its_importance(kind):
    """Where the weights that read it are frozen those that make it count; frozen on both sides it stays."""
    x, y = digits()
    model = mlp()
    model.fc2.weight.requires_grad_(False)
    net = laconic.prepare(model, kind(memory=0.0), x[:2], data_size=9)
    F.cross_entropy(net(x), y).backward()
    laconic.step(net, terms=9)
    products = (net.fc1.weight * net.fc1.weight.grad).detach()
    wanted = products.sum(1).square() if kind is TaylorPruning else 0.5 * products.square().sum(1)
    assert torch.allclose(net.laconic_importance_0, wanted, rtol=1e-4)
    model.fc1.weight.requires_grad_(False)
    with pytest.raises(ModelError, match=r"no group of units .* fc1.weight:0: its weights are frozen"):
        laconic.prepare(model, kind(), x[:2], data_size=9)


def _recorded(method):
    return settings_of(Job((Stage(method),)))["stages"][0]["method_settings"]


def test_a_record_names_functions_and_tells_schedules_apart():
    own = _recorded(ScorePruning(0.4, own_schedule, score=l2_groups))
    assert own["score"] == "laconic.sparsify.scores.magnitude.l2_groups"
    assert own["schedule"] == f"{__name__}.own_schedule"
    records = [_recorded(RandomPruning(0.4, s)) for s in (OneShot(), Iterative(), Cubic())]
    assert len({str(r["schedule"]) for r in records}) == 3
