import pytest
import torch

from laconic.bayes.objective import Objective
from laconic.errors import ScaleError
from laconic.schedules import WarmUp

KL = torch.tensor(600.0)


def test_nats_per_example():
    objective = Objective(200, kl_weight=0.5, warm_up=WarmUp(2, 6))
    assert [objective.beta(t) for t in (0, 2, 4, 6, 9)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert objective.penalty(KL, 4).item() == pytest.approx(0.5 * 0.5 * 600 / 200)
    assert objective.loss(torch.tensor([1.0, 2.0]), KL, 9).item() == pytest.approx(1.5 + 1.5)
    assert objective.loss(torch.tensor(1.5), KL, 0, batch_size=64).item() == pytest.approx(1.5)


def test_summed_over_an_epoch_it_is_the_elbo():
    """Mean losses of batches, weighted by their sizes, add up to -log likelihood + KL."""
    nll, objective = torch.rand(10, generator=torch.Generator().manual_seed(0)), Objective(10)
    total = sum(objective.loss(b, KL, 0) * len(b) for b in nll.split(4))
    assert total.item() == pytest.approx((nll.sum() + KL).item(), rel=1e-5)


@pytest.mark.parametrize("size", [0, -5, 2.5, 60000.0, True, "60000"])
def test_data_size_is_a_count(size):
    with pytest.raises(ScaleError, match="number of likelihood terms"):
        Objective(size)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_kl_weight_is_not_negative(weight):
    with pytest.raises(ScaleError, match="kl_weight"):
        Objective(100, kl_weight=weight)


@pytest.mark.parametrize("weight", [1 / 60000, 2 / 60000])
def test_one_over_n_twice_is_found_out(weight):
    with pytest.raises(ScaleError, match="looks like 1/data_size.*already"):
        Objective(60000, kl_weight=weight)


@pytest.mark.parametrize(("weight", "size"), [(0.0, 60000), (0.001, 60000), (1.0, 9), (5.0, 9), (0.01, 150)])
def test_usual_weights_pass(weight, size):
    penalty = Objective(size, kl_weight=weight).penalty(torch.tensor(float(size)), 0)
    assert penalty.item() == pytest.approx(weight)


def test_a_batch_larger_than_the_data():
    objective = Objective(10)
    with pytest.raises(ScaleError, match="data_size=10"):
        objective.loss(torch.rand(11), KL, 0)
    with pytest.raises(ScaleError, match="data_size=10"):
        objective.loss(torch.tensor(1.0), KL, 0, batch_size=128)
    with pytest.raises(ScaleError, match="at least one"):
        objective.loss(torch.rand(0), KL, 0)
    with pytest.raises(ScaleError, match="holds 4"):
        objective.loss(torch.rand(4), KL, 0, batch_size=5)


def test_shapes_that_hide_a_wrong_scale():
    with pytest.raises(ScaleError, match="one number for the whole network"):
        Objective(10).penalty(torch.ones(3), 0)
    with pytest.raises(ScaleError, match="one number per example"):
        Objective(10).loss(torch.rand(2, 5), KL, 0)
