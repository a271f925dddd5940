"""What a run writes of each epoch."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import laconic
from laconic.methods import MagnitudePruning, SparseVD
from laconic.methods.contract import Score
from laconic.schedules import Cubic, WarmUp
from laconic.train.fit import FitConfig
from laconic.train.history import SNR_BINS, EpochRow, read_history, recorder, snr_counts
from laconic.train.run_folder import open_run

X, Y = torch.eye(4).repeat(8, 1), torch.arange(4).repeat(8)


def scored(net: nn.Module) -> Score:
    return Score(25.0, 1.5, 4)


def test_a_compression_writes_a_row_an_epoch(tmp_path) -> None:
    laconic.compress(
        nn.Linear(4, 4), [(X, Y)], [(X, Y)], SparseVD(), fit=FitConfig(epochs=3), out=tmp_path / "run"
    )
    rows = json.loads((tmp_path / "run" / "history.json").read_text())["epochs"]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all(0 <= row["validation_metric"] <= 100 and row["validation_nll"] > 0 for row in rows)
    assert all(sum(row["snr_counts"]) == 16 and 0 <= row["weights_left"]["weight"] <= 16 for row in rows)
    assert rows[0]["penalty"] != 0.0  # in nats per term: with the loss the two parts of the ELBO


def test_magnitude_pruning_tells_what_is_left_and_has_no_posterior(tmp_path) -> None:
    method = MagnitudePruning(0.5, every=1, schedule=Cubic(end=0.5))
    laconic.compress(
        nn.Linear(4, 4), [(X, Y)], [(X, Y)], method, fit=FitConfig(epochs=4), out=tmp_path / "run"
    )
    rows = json.loads((tmp_path / "run" / "history.json").read_text())["epochs"]
    assert rows[-1]["weights_left"] == {"weight": 8}
    assert rows[-1]["snr_counts"] == []
    assert rows[-1]["penalty"] is None


def test_a_resumed_run_keeps_the_rows_before_it(tmp_path) -> None:
    net = laconic.prepare(nn.Linear(4, 4), SparseVD(), X[:2], data_size=32)
    with open_run(tmp_path / "run", {}) as folder:
        first = recorder(net, SparseVD(), scored, folder, 0)
        for epoch in range(3):
            first(epoch, 0.5)
        recorder(net, SparseVD(), scored, folder, 2)(2, 0.75)  # killed after its third epoch's row
        rows = read_history(folder)
    assert [(row.epoch, row.loss) for row in rows] == [(1, 0.5), (2, 0.5), (3, 0.75)]
    assert isinstance(rows[0], EpochRow)
    assert rows[0].validation_metric == 25.0


def test_the_penalty_is_that_of_the_finished_epoch(tmp_path) -> None:
    method = SparseVD(prior=laconic.bayes.Normal(std=0.5), warm_up=WarmUp(0.0, 0.0))
    net = laconic.prepare(nn.Linear(4, 4), method, X[:2], data_size=32)
    with open_run(tmp_path / "run", {}) as folder:
        recorder(net, method, scored, folder, 0)(0, 0.5)
        (row,) = read_history(folder)
    kl = sum(laconic.bayes.kl_total(q, method.prior) for q in laconic.bayes.posteriors_of(net).values())
    assert row.penalty == pytest.approx(float(kl.detach()) / 32)


def test_the_histogram_puts_a_ratio_of_ten_into_the_bin_of_ten() -> None:
    net = laconic.prepare(nn.Linear(1, 1), SparseVD(), X[:2, :1], data_size=32)
    with torch.no_grad():
        net.weight.fill_(1.0)
        net.weight_log_var.fill_(2 * torch.log(torch.tensor(0.1)) - 1e-3)  # a ratio a little above ten
    counts = snr_counts(net)
    low, high, width = SNR_BINS
    assert len(counts) == round((high - low) / width)
    assert counts.index(1) == round((1 - low) / width)
    assert sum(counts) == 1


def test_a_held_weight_falls_into_the_lowest_bin() -> None:
    net = laconic.prepare(nn.Linear(1, 1), SparseVD(), X[:2, :1], data_size=32)
    with torch.no_grad():
        net.weight.zero_()
    assert snr_counts(net)[0] == 1
