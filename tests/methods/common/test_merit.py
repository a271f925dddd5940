"""The three figures of merit by hand, and the marginals of a network that lost units."""

import numpy as np
import pytest
import torch
from torch import nn

from laconic.bayes import GaussianFamily, NoiseSource, NormalJeffreys, make_bayesian
from laconic.methods import attach_gates, fold_gates, gates_of
from laconic.methods.common.group_marginals import marginals, positions_read
from laconic.methods.common.merit import merit_facts
from laconic.methods.gated_moments import gated_moments
from laconic.quantize.deep_compression import deep_compression_bits
from laconic.records import IntTensor, KeepPlan, UniformGrid, WeightStats
from laconic.structure import find_groups


def test_figures_by_hand():
    """1000 weights before; 6 and 4 left of two layers, one of 10 bits (1 + 3 + 6), one of 8 (1 + 3 + 4)."""
    stats = {
        "a": WeightStats("a", np.full((2, 3), 8.0, np.float32), np.full((2, 3), 2.0**-8, np.float32)),
        "b": WeightStats("b", np.full((1, 5), 0.5, np.float32), np.full((1, 5), 2.0**-6, np.float32)),
    }
    alive = {"a": np.ones((2, 3), bool), "b": np.array([[True, True, False, True, True]])}
    tensors = {n: IntTensor(n, np.ones(s.mean.shape, np.int32), UniformGrid(0.5)) for n, s in stats.items()}
    facts = merit_facts(1000, stats, alive, tensors)
    assert facts["posterior_bits"] == {"a": 10, "b": 8}
    assert facts["pruning_factor"] == 100.0 and facts["weights_left_dense"] == 10
    assert facts["fast_prediction_factor"] == pytest.approx(32000 / (6 * 10 + 4 * 8))
    coded = sum(deep_compression_bits(t.values()) for t in tensors.values())
    assert facts["maximum_compression_factor"] == pytest.approx(32000 / coded)
    assert facts["maximum_compression_bytes"] == -(-coded // 8)


def test_marginals_of_what_is_left_are_slices_of_the_whole():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = nn.Sequential(nn.Conv1d(1, 3, 2), nn.Flatten(), nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.zeros(1, 1, 4)
    coupling = find_groups(plain, x)
    wide = make_bayesian(plain, example=x, posterior=GaussianFamily(-3.0), noise=NoiseSource(0))
    extended = positions_read(wide, coupling)
    net = attach_gates(wide, extended, lambda g: NormalJeffreys.open(g.size, -2.0), NoiseSource(0)).eval()
    assert set(gates_of(net)) == {"0.weight:0", "2.weight:0", "positions of 2.weight"}
    kept = {"0.weight:0": (0, 2), "2.weight:0": (1, 2, 3), "positions of 2.weight": (0, 1, 3, 6, 8)}
    plan = KeepPlan(kept, {"0.weight:0": 3, "2.weight:0": 4, "positions of 2.weight": 9})
    moments = gated_moments(net)
    left = marginals(moments, fold_gates(net), coupling, extended, plan)
    assert left.before == 6 + 36 + 8 and left.small[2].in_features == 6
    columns, rows = [0, 1, 2, 6, 7, 8], [1, 2, 3]
    variance = moments["2.weight"][1][rows][:, columns].numpy()
    assert np.array_equal(left.stats["2.weight"].variance, variance)
    assert left.alive["2.weight"].all(0).tolist() == [True, True, False, True, False, True]
    mean = moments["2.weight"][0][rows][:, columns].numpy() * left.alive["2.weight"]
    assert np.allclose(left.stats["2.weight"].mean, mean, rtol=1e-6)
    assert np.array_equal(left.small[2].weight.detach().numpy(), left.stats["2.weight"].mean)
