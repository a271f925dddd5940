"""A conversion that nobody measured: told in the facts, and by a warning where it lost the network."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

import laconic
from laconic.methods import Judge, MagnitudePruning
from laconic.methods.common.last_batch import UNJUDGED
from laconic.methods.contract import Method, Score
from laconic.methods.miracle import MIRACLE
from laconic.methods.soft_weight_sharing import SoftWeightSharing
from laconic.train.fit import FitConfig, Hooks, fit

FIRST = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
LABELS = FIRST[:, :4].argmax(1)
BATCH = (FIRST, LABELS)


def _trained() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
    fit(model, [BATCH], FitConfig(epochs=150, lr=0.02), Hooks.plain(model))
    return model


def _steps(net: nn.Module, count: int) -> None:
    optimizer = torch.optim.Adam(laconic.param_groups(net, lr=1e-3))
    for _ in range(count):
        optimizer.zero_grad()
        laconic.objective(net, BATCH).backward()
        optimizer.step()
        laconic.step(net)


@pytest.mark.parametrize(
    "method",
    [SoftWeightSharing(), MIRACLE(bits=80, block_bits=4), MagnitudePruning(0.97, every=1)],
    ids=lambda method: type(method).__name__,
)
def test_a_network_that_lost_everything_is_told_in_one_warning(method: Method) -> None:
    model = _trained()
    net = laconic.prepare(model, method, FIRST, data_size=64, total_steps=4)
    _steps(net, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        small = laconic.convert(net)
    told = [str(w.message) for w in caught if UNJUDGED in str(w.message)]
    assert len(told) == 1 and "lost much" in told[0] and "Cure: " in told[0]
    assert small.facts["notes"][-1] == told[0] and small.facts["judged"] is False
    found = small.facts["last_batch"]
    logits = small.module(FIRST)
    assert found["nll"] == pytest.approx(float(nn.functional.cross_entropy(logits, LABELS)), rel=1e-4)
    assert found["nll"] > found["original_nll"] + 0.5 and found["terms"] == 64


def test_a_network_that_keeps_its_function_is_only_noted() -> None:
    model = _trained()
    net = laconic.prepare(model, MagnitudePruning(0.1, every=1), FIRST, data_size=64, total_steps=4)
    _steps(net, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = laconic.convert(net)
    assert small.facts["notes"][-1].startswith(UNJUDGED)
    found, before, after = small.facts["last_batch"], net.eval()(FIRST), small.module(FIRST)
    kl = (before.softmax(1) * (before.log_softmax(1) - after.log_softmax(1))).sum(1).mean()
    assert found["divergence"] == pytest.approx(float(kl), abs=1e-6) and 0 < found["divergence"] < 0.05


def test_a_judge_measures_and_nothing_is_noted() -> None:
    net = laconic.prepare(_trained(), MagnitudePruning(0.1, every=1), FIRST, data_size=64, total_steps=4)
    _steps(net, 4)
    facts = laconic.convert(net, Judge(lambda network: Score(1.0, 0.1, 64))).facts
    assert "last_batch" not in facts and "judged" not in facts
    assert not any(UNJUDGED in note for note in facts.get("notes", ()))


def test_without_training_the_batches_of_prepare_are_looked_at_and_else_nothing() -> None:
    model, method = _trained(), MagnitudePruning(0.97)
    net = laconic.prepare(model, method, FIRST, data_size=64, batches=[BATCH])
    with pytest.warns(UserWarning, match="lost much"):
        laconic.convert(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facts = laconic.convert(laconic.prepare(model, method, FIRST, data_size=64)).facts
    assert "last_batch" not in facts and facts["notes"][-1].startswith(UNJUDGED)


def test_outputs_that_are_no_distribution_are_compared_by_their_distance() -> None:
    model = nn.Sequential(nn.Linear(12, 12))
    net = laconic.prepare(
        model, MagnitudePruning(0.99, every=1), FIRST, data_size=64, task=lambda y, t: (y - t).abs().mean()
    )
    laconic.objective(net, (FIRST, FIRST)).backward()
    with pytest.warns(UserWarning, match="% of their size"):
        small = laconic.convert(net)
    before, after = model(FIRST), small.module(FIRST)
    assert small.facts["last_batch"]["distance"] == pytest.approx(
        float((after - before).norm() / before.norm()), rel=1e-5
    )


def test_copies_know_the_batch_and_pickles_do_not() -> None:
    net = laconic.prepare(_trained(), MagnitudePruning(0.1, every=1), FIRST, data_size=64, total_steps=2)
    kept = copy.deepcopy(net)
    _steps(net, 2)
    assert laconic.convert(kept).facts["last_batch"]["terms"] == 64
    assert len(pickle.dumps(net.__dict__["_laconic"])) < 20_000 + 8 * FIRST.numel()
    again = pickle.loads(pickle.dumps(net.__dict__["_laconic"]))
    assert again.last_batch is None and again.original is None
