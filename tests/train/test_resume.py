"""What a checkpoint says is looked at before training goes on with it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import laconic
from laconic.errors import RunFolderError
from laconic.methods import SparseVD
from laconic.train.checkpoint import load_checkpoint, save_checkpoint
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.optimizers import SGD, Adam, OptimizerFactory

DATA = [(torch.eye(4), torch.arange(4))]
State = dict[str, Any]


def run(path: Path, epochs: int = 2, optimizer: OptimizerFactory = Adam()) -> nn.Module:  # noqa: B008 - frozen
    """Train a small network under Sparse VD, from ``path`` if that is there."""
    torch.manual_seed(0)
    net = laconic.prepare(nn.Linear(4, 4), SparseVD(), torch.eye(4), data_size=4)
    fit(net, DATA, FitConfig(epochs=epochs, optimizer=optimizer), Hooks.prepared(net), checkpoint=path)
    return net


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> State:
    path = tmp_path_factory.mktemp("good") / "c.pt"
    run(path)
    state = load_checkpoint(path)
    assert state is not None
    return state


def put(*keys: Any, value: Any) -> Callable[[State], None]:
    """Put ``value`` at these keys of a state."""

    def change(state: Any) -> None:
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value

    return change


NAN = torch.full((4, 4), math.nan)
MOMENT = ("optimizer", "state", 0, "exp_avg")
GROUP = ("optimizer", "param_groups", 0)
WRONG = {
    "epoch 99": (put("epoch", value=99), r"after epoch 99, which is none of 0\.\.1"),
    "epoch -5": (put("epoch", value=-5), "after epoch -5, which is none"),
    "epoch inf": (put("epoch", value=math.inf), "after epoch inf, which is none"),
    "epoch text": (put("epoch", value="one"), "after epoch 'one', which is none"),
    "epoch true": (put("epoch", value=True), "after epoch True, which is none"),
    "no epoch": (lambda s: s.pop("epoch"), "does not fit this"),
    "NaN weights": (put("net", "weight", value=NAN), "parameter 'weight' holds NaN or infinite"),
    "inf weights": (put("net", "bias", value=torch.full((4,), math.inf)), "parameter 'bias' holds NaN"),
    "weights of another type": (
        put("net", "weight", value=torch.zeros(4, 4, dtype=torch.int64)),
        r"'weight' is torch\.int64, not torch\.float32",
    ),
    "masks of numbers": (
        put("net", "laconic_mask_0", value=torch.ones(4, 4)),
        r"'laconic_mask_0' is torch\.float32, not torch\.int8",
    ),
    "weights that are text": (put("net", "weight", value="none"), "'weight' is str, not torch"),
    "weights of another shape": (put("net", "weight", value=torch.zeros(3, 4)), "does not fit this"),
    "weights that are a list": (put("net", value=[1, 2]), "does not fit this"),
    "progress that is none": (put("net", "laconic_progress", value=torch.tensor([1])), "does not fit this"),
    "NaN moments": (put(*MOMENT, value=NAN), "optimiser's exp_avg holds NaN or infinite"),
    "moments that are text": (put(*MOMENT, value="none"), "optimiser's exp_avg is a "),
    "moments of another shape": (put(*MOMENT, value=torch.zeros(2)), r"optimiser's exp_avg is \(2,\)"),
    "a NaN rate": (put(*GROUP, "lr", value=math.nan), "optimiser has lr=nan"),
    "a rate that is text": (put(*GROUP, "initial_lr", value="high"), "optimiser has initial_lr='high'"),
    "other flags": (put(*GROUP, "amsgrad", value="yes"), "optimiser has amsgrad='yes', not False"),
    "no such flag": (lambda s: s["optimizer"]["param_groups"][0].pop("betas"), "does not fit this"),
    "an optimiser that is a number": (put("optimizer", value=3), "does not fit this"),
    "groups that are none": (put("optimizer", "param_groups", value=None), "does not fit this"),
    "a step that is text": (put("hooks", "step", value="one"), "cannot stand at step 'one'"),
    "a step below 0": (put("hooks", "step", value=-1), "cannot stand at step -1"),
    "noise that is none": (put("hooks", "noise", value=7), "no noise state"),
    "generators that are text": (put("hooks", "noise", "generators", value="x"), "does not fit this"),
}


@pytest.mark.parametrize(("change", "complaint"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_is_refused_by_name(
    change: Callable[[State], None], complaint: str, good: State, tmp_path: Path
) -> None:
    path, state = tmp_path / "c.pt", copy.deepcopy(good)
    change(state)
    save_checkpoint(path, state)
    with pytest.raises(RunFolderError, match=rf"checkpoint .*c\.pt.*{complaint}.*Cure"):
        run(path)


@pytest.mark.parametrize("optimizer", [Adam(), SGD(), torch.optim.RMSprop], ids=["adam", "sgd", "torch"])
def test_what_a_run_wrote_is_taken(optimizer: OptimizerFactory, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    whole = run(tmp_path / "whole.pt", epochs=4, optimizer=optimizer)

    class Killed(Exception):
        pass

    def kill(epoch: int, value: float) -> None:
        if epoch == 1:
            raise Killed

    torch.manual_seed(0)
    net = laconic.prepare(nn.Linear(4, 4), SparseVD(), torch.eye(4), data_size=4)
    config = FitConfig(epochs=4, optimizer=optimizer)
    with pytest.raises(Killed):
        fit(net, DATA, config, Hooks.prepared(net), checkpoint=path, on_epoch=kill)
    resumed = run(path, epochs=4, optimizer=optimizer)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_run_that_was_finished_stays_so(good: State, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, good)
    assert torch.equal(run(path).state_dict()["weight"], good["net"]["weight"])


def test_masks_that_a_run_wrote_as_booleans_are_taken(good: State, tmp_path: Path) -> None:
    """They are int8 now, so that an average of the network can hold them."""
    path, state = tmp_path / "c.pt", copy.deepcopy(good)
    mask = state["net"]["laconic_mask_0"]
    mask[0] = 0
    state["net"]["laconic_mask_0"] = mask.bool()
    save_checkpoint(path, state)
    assert torch.equal(run(path).state_dict()["laconic_mask_0"], mask)
