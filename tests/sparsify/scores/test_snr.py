"""Signal to noise by hand, against the threshold's log alpha, and a group whose noise dominates removed."""

import numpy as np
import pytest
import torch
from torch import nn

from laconic.errors import InputError
from laconic.records import WeightStats
from laconic.sparsify.scores import everything, snr_groups, snr_weights
from laconic.sparsify.selection.limit import plan_above
from laconic.sparsify.selection.threshold import log_alpha
from laconic.structure import find_groups, shrink


def test_of_a_weight_it_is_one_over_alpha():
    rng = np.random.default_rng(0)
    stats = WeightStats("w", rng.normal(size=50).astype(np.float32), rng.gamma(1, 1, 50).astype(np.float32))
    assert np.allclose(snr_weights([stats])["w"].log().numpy(), -log_alpha(stats), atol=1e-5)


def test_certain_and_absent_weights_are_finite():
    certain = WeightStats("w", np.float32([0, 1, 0]), np.float32([0, 0, 1]))
    scores = snr_weights([certain])["w"]
    assert torch.isfinite(scores).all() and scores[1] > 1e20 and scores[0] == scores[2] == 0


@pytest.fixture
def noisy():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    rng = np.random.default_rng(1)
    mean = rng.normal(size=(4, 3)).astype(np.float32)
    variance = np.full((4, 3), 0.01, np.float32)
    variance[2] = 50 * (mean[2] ** 2).sum()  # alpha = 150: noise dominates
    return net, find_groups(net, torch.zeros(2, 3)), WeightStats("0.weight", mean, variance)


def test_of_a_group_it_is_minus_the_log_dropout_rate(noisy):
    net, coupling, stats = noisy
    got = snr_groups(net, coupling, [stats])["0.weight:0"]
    for unit in range(4):
        signal = sum(float(m) ** 2 for m in stats.mean[unit])
        noise = sum(float(v) for v in stats.variance[unit])
        assert got[unit] == pytest.approx(np.log(signal / noise), rel=1e-5)


def test_a_group_whose_noise_dominates_is_removed_not_zeroed(noisy):
    net, coupling, stats = noisy
    coupling = type(coupling)(tuple(g for g in coupling.groups if not g.of_input))
    plan = plan_above(snr_groups(net, coupling, [stats]), coupling, -3.0)
    assert plan.kept["0.weight:0"] == (0, 1, 3)
    assert shrink(net, coupling, plan)[0].out_features == 3


def test_members_without_statistics_are_passed_over(noisy):
    net, coupling, stats = noisy
    assert np.array_equal(
        snr_groups(net, coupling, [stats])["0.weight:0"],
        snr_groups(net, coupling, [stats], members=everything)["0.weight:0"],
    )


def test_log_variances_are_refused():
    with pytest.raises(InputError, match=r"variance of 'w' is negative.*not their logs"):
        snr_weights([WeightStats("w", np.zeros(1, np.float32), np.float32([-3]))])
