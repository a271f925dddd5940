"""The posterior's spread that a result keeps: factors by output and input, and the share of random zeros."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import laconic
from laconic.bayes.prepare import posteriors_of
from laconic.methods import MeanField
from laconic.methods.common.grid_settings import GridChoice
from laconic.methods.common.spreads import spreads_of
from laconic.records import IntTensor, UniformGrid, WeightStats
from laconic.tasks import Regression


def test_a_product_of_factors_is_found_and_removed_weights_count_for_nothing() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.exp(rng.standard_normal((6, 1, 1))), np.exp(rng.standard_normal((1, 8, 1)))
    std = np.broadcast_to(0.1 * rows * columns, (6, 8, 3)).copy()
    integers = rng.integers(-1, 2, std.shape).astype(np.int32)
    kept = (integers != 0) | (rng.random(std.shape) < 0.5)
    std[~kept] = 1e3
    stats = {"w": WeightStats("w", np.zeros(std.shape, np.float32), np.float32(std**2))}
    told = spreads_of(stats, {"w": kept}, {"w": IntTensor("w", integers, UniformGrid(0.125))})["w"]
    by_row, by_column = (np.array(f) for f in told["factors"])
    fitted = told["deviations"][0] * by_row[:, None, None] * by_column[None, :, None]
    np.testing.assert_allclose(np.broadcast_to(fitted, std.shape)[kept], std[kept], rtol=0.01)
    zeros = integers == 0
    assert told["share"] == round(float((kept & zeros).sum() / zeros.sum()), 4)


def test_a_converted_network_is_as_sure_as_the_prepared_one() -> None:
    """Most inputs are never active, and their weights nearly free: a median would take these for all."""
    task = Regression(noise=0.01)
    layer = nn.Linear(8, 2, bias=False)
    fine = GridChoice(steps=(0.001,), prices=(0.0,))
    net = laconic.prepare(layer, MeanField(grid=fine), torch.zeros(1, 8), data_size=100, task=task)
    with torch.no_grad():
        (q,) = posteriors_of(net).values()
        q.log_var[:, :3] = -9.0
        q.log_var[:, 3:] = -1.0
    x = torch.cat([torch.ones(1, 3), torch.zeros(1, 5)], 1)
    wanted = laconic.predict(net, x, samples=400).variance
    got = laconic.predict(laconic.convert(net), x, samples=400, task=task).variance
    assert bool((got / wanted > 0.7).all() and (got / wanted < 1.4).all())
