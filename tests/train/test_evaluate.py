from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.errors import DataError, InputError
from laconic.tasks import Classification, Regression, Segmentation, as_task
from laconic.train.evaluate import divergence, evaluate


def test_error_and_nll_are_those_of_the_whole_set_whatever_the_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    net = nn.Linear(4, 3)
    x, y = torch.randn(50, 4, generator=generator), torch.randint(3, (50,), generator=generator)
    out = net(x)
    for cuts in ([50], [7, 43], [1] * 50):
        score = evaluate(net, list(zip(x.split(cuts), y.split(cuts), strict=True)))
        assert score.terms == 50
        assert score.metric == pytest.approx(100 * float((out.argmax(1) != y).float().mean()))
        assert score.nll == pytest.approx(float(F.cross_entropy(out, y).detach()), rel=1e-5)


def test_it_runs_in_evaluation_mode_and_puts_the_mode_back() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9), nn.BatchNorm1d(2))
    net.train()
    net[1].eval()
    before = {n: t.clone() for n, t in net.state_dict().items()}
    batch = torch.randn(20, 2), torch.zeros(20, dtype=torch.int64)
    assert evaluate(net, [batch]) == evaluate(net, [batch])
    assert net.training
    assert not net[1].training, "each layer's own mode comes back"
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(DataError, match=r"evaluate: the loader gave no batch\. Cure"):
        evaluate(nn.Linear(2, 2), [])


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(DataError, match=r"label 2 is out of range for a network with 2 outputs"):
        evaluate(nn.Linear(2, 2), [(torch.zeros(3, 2), torch.tensor([0, 1, 2]))])


def test_dense_labels_count_one_by_one() -> None:
    generator = torch.Generator().manual_seed(1)
    net = nn.Conv2d(1, 3, 1)
    x = torch.randn(5, 1, 4, 6, generator=generator)
    y = torch.randint(3, (5, 4, 6), generator=generator)
    out = net(x)
    task = Segmentation(metric_name="accuracy")
    score = evaluate(net, [(x[:2], y[:2]), (x[2:], y[2:])], task)
    assert score.terms == 5 * 4 * 6
    assert score.metric == pytest.approx(100 * float((out.argmax(1) == y).float().mean()))
    assert 0 < score.metric < 100


def test_soft_labels_are_judged_by_their_largest() -> None:
    net = nn.Linear(3, 3, bias=False)
    net.weight.data = torch.eye(3)
    x = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    y = torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.9, 0.1]])
    assert evaluate(net, [(x, y)]).metric == 50.0


def test_labels_of_a_shape_that_says_nothing_are_refused() -> None:
    with pytest.raises(InputError, match=r"outputs are \(3, 2\) and targets \(3, 1\).*axis 1.*Cure"):
        evaluate(nn.Linear(2, 2), [(torch.zeros(3, 2), torch.zeros(3, 1))])


def test_a_plain_loss_is_its_own_metric() -> None:
    net, (x, y) = nn.Linear(2, 1), torch.randn(2, 10, 2, generator=torch.Generator().manual_seed(2))
    y = y[:, :1]
    score = evaluate(net, [(x[:3], y[:3]), (x[3:], y[3:])], as_task(F.mse_loss))
    assert score.metric == pytest.approx(float(F.mse_loss(net(x), y).detach()), rel=1e-5)


def test_ignored_labels_are_no_terms() -> None:
    net = nn.Linear(2, 2, bias=False)
    net.weight.data = torch.eye(2)
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 0, 7])
    score = evaluate(net, [(x, y)], Classification(ignore=7))
    assert (score.metric, score.terms) == (50.0, 2)
    with pytest.raises(DataError, match=r"every label is ignored.*Cure"):
        evaluate(net, [(x, torch.full((3,), 7))], Classification(ignore=7))


def test_a_likelihood_whose_parameters_are_not_known_is_nan_and_the_metric_stands():
    net, batches = nn.Linear(2, 1), [(torch.ones(4, 2), torch.zeros(4, 1))]
    score = evaluate(net, batches, Regression())
    assert math.isnan(score.nll)
    assert score.metric == pytest.approx(abs(float(net(torch.ones(1, 2)).detach())))
    known = evaluate(net, batches, Regression(), {"log_noise": torch.zeros(())})
    assert known.nll == pytest.approx(0.5 * math.log(2 * math.pi) + score.metric**2 / 2, rel=1e-5)


def test_a_divergence_is_the_mean_over_terms_whatever_the_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    net, other = nn.Linear(4, 3), nn.Linear(4, 3)
    x, y = torch.randn(50, 4, generator=generator), torch.randint(3, (50,), generator=generator)
    ours, theirs = net(x).log_softmax(1), other(x).log_softmax(1)
    expected = float((theirs.exp() * (theirs - ours)).sum(1).mean().detach())
    for cuts in ([50], [7, 43]):
        batches = list(zip(x.split(cuts), y.split(cuts), strict=True))
        assert divergence(net, other, batches) == pytest.approx(expected, rel=1e-5)
        assert divergence(net, net, batches) == 0.0


def test_positions_that_are_no_terms_do_not_count_in_a_divergence() -> None:
    net, other = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 1)
    x, y = torch.randn(2, 1, 4, 4), torch.full((2, 4, 4), 255)
    y[:, :2] = 1
    ours, theirs = net(x).log_softmax(1), other(x).log_softmax(1)
    every = (theirs.exp() * (theirs - ours)).sum(1).detach()
    task = Segmentation(ignore=255)
    assert divergence(net, other, [(x, y)], task) == pytest.approx(float(every[:, :2].mean()), rel=1e-4)
    with pytest.raises(DataError, match=r"divergence: no batch has a term"):
        divergence(net, other, [(x, torch.full((2, 4, 4), 255))], task)


def test_a_divergence_from_what_is_no_number_is_infinite() -> None:
    net, other = nn.Linear(2, 3), nn.Linear(2, 3)
    nn.init.constant_(net.weight, math.nan)
    assert divergence(net, other, [(torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))]) == math.inf
