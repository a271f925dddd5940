"""Loops of a user's own: phases in which weights are frozen, an early end, and verbs that were forgotten."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.errors import InputError
from laconic.methods import (
    VNQ,
    Distillation,
    FilterPruning,
    FisherPruning,
    MagnitudePruning,
    MeanActivationPruning,
    Method,
    NetworkTrimming,
    RandomPruning,
    SparseVD,
    TaylorPruning,
)
from laconic.methods.common.last_batch import UNJUDGED
from laconic.schedules import Cubic, WarmUp

SOON = WarmUp(0.0, 0.5)
METHODS: dict[str, Method] = {
    "sparse-vd": SparseVD(warm_up=SOON),
    "sparse-vd, held": SparseVD(warm_up=SOON, hold_from=0.5),
    "sparse-vd, held without noise": SparseVD(warm_up=SOON, hold_from=0.5, hold_noise=False),
    "vnq": VNQ(warm_up=SOON),
    "magnitude": MagnitudePruning(0.5, every=1),
    "magnitude by layer": MagnitudePruning(0.5, every=1, per_layer=True),
    "distillation": Distillation(),
    **{
        kind.__name__: kind(0.5, every=1)
        for kind in (
            TaylorPruning,
            FisherPruning,
            FilterPruning,
            RandomPruning,
            NetworkTrimming,
            MeanActivationPruning,
        )
    },
}
X = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
STEPS = 6


def _prepared(method: Method, steps: int | None = STEPS) -> nn.Module:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    return laconic.prepare(model, method, X[:2], data_size=64, total_steps=steps)


def _train(net: nn.Module, steps: int = 1) -> None:
    optimizer = torch.optim.Adam(laconic.param_groups(net, 0.01))
    for _ in range(steps):
        optimizer.zero_grad()
        loss = laconic.objective(net, (X, Y))
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
        laconic.step(net)


@pytest.mark.parametrize("frozen", [("0",), ("2",), ("0", "2")], ids="".join)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_weights_may_be_frozen_for_a_phase(method: Method, frozen: tuple[str, ...]) -> None:
    """As in alternating training: two steps on, two off, two on, and a conversion in an off phase."""
    net = _prepared(method)
    _train(net, 2)
    layers = [net.get_submodule(name) for name in frozen]
    for layer in layers:
        layer.requires_grad_(False)
    means = [layer.weight.detach().clone() for layer in layers]
    _train(net, 2)
    for layer, before in zip(layers, means, strict=True):
        moved = (layer.weight != before) & (layer.weight != 0)  # a cut may set weights to zero
        assert not moved.any() or "vnq" in repr(method).lower()  # VNQ keeps means between its spikes
    for layer in layers:
        layer.requires_grad_(True)
    _train(net, 2)
    for layer in layers:
        layer.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = laconic.convert(net)
    assert small.module(X).shape == (64, 3)
    for name, tensor in small.tensors.items():
        assert np.array_equal(tensor.values(), small.module.state_dict()[name].numpy())


def test_a_converted_phase_keeps_what_was_pruned_before_it() -> None:
    net = _prepared(MagnitudePruning(0.5, every=1, schedule=Cubic(end=0.5)))
    _train(net, STEPS)
    net.requires_grad_(False)
    small = laconic.convert(net)
    weights = [small.tensors[n].values() for n in ("0.weight", "2.weight")]
    assert sum((w == 0).sum() for w in weights) >= (96 + 24) // 2


# --- an early end ---------------------------------------------------------------------------------------


def test_weights_converted_early_keep_the_sparsity_reached() -> None:
    """A quarter of the way along a cubic schedule to 90 %: 1 - (3/4)^3 of it, not all of it."""
    net = _prepared(MagnitudePruning(0.9, every=1, schedule=Cubic(end=1.0)), steps=8)
    _train(net, 2)
    reached = 0.9 * (1 - 0.75**3)
    said = (
        rf"stands at {100 * reached:.1f} % of the weights removed after 2 epochs, 90.0 % were asked for.*Cure"
    )
    with pytest.warns(UserWarning, match=said):
        small = laconic.convert(net)
    zeros = sum((small.tensors[n].values() == 0).sum() for n in ("0.weight", "2.weight"))
    assert int(reached * 120) <= zeros <= int(reached * 120) + 12  # quantising may round a few more to zero
    assert any("90.0 % were asked for" in note for note in small.facts["notes"])


def test_units_converted_early_keep_what_the_schedule_left() -> None:
    net = _prepared(TaylorPruning(0.25, every=1, schedule=Cubic(end=1.0)), steps=8)
    _train(net, 2)
    left = 1 - 0.75 * (1 - 0.75**3)
    with pytest.warns(UserWarning, match=r"% of the multiply-accumulates removed.* 75.0 % were asked for"):
        small = laconic.convert(net)
    assert left - 1 / 8 < small.facts["macs_after"] / small.facts["macs_before"] <= left


def test_a_schedule_at_its_end_says_nothing() -> None:
    net = _prepared(MagnitudePruning(0.9, every=1))
    _train(net, STEPS)
    assert all(note.startswith(UNJUDGED) for note in laconic.convert(net).facts["notes"])


# --- verbs that were forgotten ----------------------------------------------------------------------------


def _by_hand(net: nn.Module, *, penalised: bool, stepped: bool) -> None:
    optimizer = torch.optim.SGD(laconic.param_groups(net, 0.01))
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(X), Y)
        (loss + laconic.penalty(net) if penalised else loss).backward()
        optimizer.step()
        if stepped:
            laconic.step(net, terms=len(X))


@pytest.mark.parametrize(
    ("penalised", "stepped", "said"),
    [
        (False, False, r"laconic\.objective \(or penalty\) and step was never called: its schedules.*Cure"),
        (True, False, r"laconic\.step was never called: its schedules stand at their beginning.*Cure"),
        (False, True, r"laconic\.objective \(or penalty\) was never called: .* without the KL.*Cure"),
    ],
)
def test_a_loop_that_forgot_a_verb_is_told(penalised: bool, stepped: bool, said: str) -> None:
    net = _prepared(SparseVD(warm_up=WarmUp(0.0, 0.0)))
    _by_hand(net, penalised=penalised, stepped=stepped)
    with pytest.warns(UserWarning, match=said):
        laconic.convert(net)


def test_a_loop_that_forgot_nothing_is_told_nothing() -> None:
    net = _prepared(SparseVD(warm_up=WarmUp(0.0, 0.0)))
    _by_hand(net, penalised=True, stepped=True)
    assert all(note.startswith(UNJUDGED) for note in laconic.convert(net).facts["notes"])
    net = _prepared(MagnitudePruning(0.5))  # has no penalty
    _by_hand(net, penalised=False, stepped=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        laconic.convert(net)
    assert not [w for w in caught if "never called" in str(w.message)]


def test_a_step_whose_terms_nobody_said_is_refused() -> None:
    net = _prepared(SparseVD())
    with pytest.raises(
        InputError, match=r"how many likelihood terms .* Cure: laconic\.objective\(net, batch\)"
    ):
        laconic.step(net)
    laconic.objective(net, (X, Y))
    laconic.step(net)
    with pytest.raises(InputError, match="was not said"):  # the batch was counted already
        laconic.step(net)
