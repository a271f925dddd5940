"""The settings that a message names as a cure: they are fields, and changing them does what it says."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.methods import (
    L0,
    MIRACLE,
    VNQ,
    BayesianCompression,
    Distillation,
    FilterPruning,
    FisherPruning,
    GridChoice,
    ImprovedBayesianCompression,
    InputARD,
    MagnitudePruning,
    MCDropout,
    MeanActivationPruning,
    MeanField,
    Method,
    NetworkTrimming,
    NoCompression,
    PostTraining,
    RandomPruning,
    ScorePruning,
    SoftWeightSharing,
    SparseVD,
    StructuredBayesianPruning,
    TaylorPruning,
    VariationalDropout,
)
from laconic.methods.contract import Judge, Score
from laconic.methods.registry import find_method, method_names
from laconic.schedules import WarmUp
from laconic.sparsify.scores import l1_groups
from laconic.train.fit import FitConfig
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits

STEPS = 30
COARSE = GridChoice(steps=(2.0,), prices=(0.0,))
METHODS: tuple[Method, ...] = (
    SparseVD(kl_weight=2.0, warm_up=WarmUp(0.0, 1.0), grid=COARSE),
    VNQ(warm_up=WarmUp(0.0, 1.0)),
    MagnitudePruning(0.8, every=5, grid=COARSE),
    TaylorPruning(0.5, every=5, grid=COARSE),
    NoCompression(COARSE),
    Distillation(MagnitudePruning(0.8, every=5, grid=COARSE)),
    PostTraining(),
    StructuredBayesianPruning(kl_weight=2.0, warm_up=WarmUp(0.0, 1.0), noise_lr=100.0, grid=COARSE),
    L0((2.0,), open_probability=0.9, noise_lr=100.0, grid=COARSE),
    VariationalDropout(grid=COARSE),
    MCDropout(grid=COARSE),
)
# What their fields do shows after longer training than there is here: their names alone are checked.
LONGER: tuple[Method, ...] = (
    BayesianCompression(),
    ImprovedBayesianCompression(),
    InputARD(),
    MIRACLE(),
    MeanField(),
    SoftWeightSharing(),
)
SCORED = ScorePruning(0.5, score=l1_groups)
LIKE_TAYLOR: tuple[Method, ...] = (  # the same field, read by the same code
    FisherPruning(),
    FilterPruning(),
    MeanActivationPruning(),
    NetworkTrimming(),
    RandomPruning(),
    SCORED,
)


def named(cure: str) -> list[tuple[str, str]]:
    """The direction and the field of each part of a cure."""
    return [(words.split(" ")[0], words.rpartition(" ")[2]) for words in cure.split(", ")]


def value(method: Any, path: str) -> Any:
    for part in path.split("."):
        method = getattr(method, part)
    return method


def changed(method: Any, path: str, new: Any) -> Any:
    first, _, rest = path.partition(".")
    return replace(method, **{first: changed(getattr(method, first), rest, new) if rest else new})


def times(given: Any, factor: float) -> Any:
    return tuple(factor * v for v in given) if isinstance(given, tuple) else factor * given


# What "lower", "coarser" .. make of a value.
TURNS: dict[str, Callable[[Any], Any]] = {
    "lower": lambda v: times(v, 0.1),
    "higher": lambda v: times(v, 10 if isinstance(v, tuple) or v >= 1 else 1.2),  # a sparsity of 0.8 to 0.96
    "larger": lambda v: 1.9 * v,
    "smaller": lambda v: v[:-1] if isinstance(v, tuple) else v / 3,  # fewer levels
    "finer": lambda v: tuple(s / 4 for s in v),
    "coarser": lambda v: tuple(4 * s for s in v),
}


@cache
def reference() -> nn.Module:
    """A perceptron that has learnt 192 digits: an error of some percent, or none."""
    net = DigitsMLP(hidden=16, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x, y = digits()
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net


def score(net: nn.Module) -> Score:
    x, y = digits()
    with torch.no_grad():
        outputs = net(x)
    error = 100 * float((outputs.argmax(1) != y).float().mean())
    return Score(error, float(F.cross_entropy(outputs, y)), len(y))


def made(method: Method, folder: Path) -> tuple[int, float]:
    """Bytes of the file, and nats per example of its network."""
    x, y = digits()
    example = x[:2]
    net = laconic.prepare(
        *(copy.deepcopy(reference()), method, example),
        data_size=192,
        total_steps=STEPS,
        seed=0,
        batches=[(x, y)],
    )
    optimizer = torch.optim.Adam(laconic.param_groups(net, lr=3e-3))
    for k in range(STEPS):
        rows = slice(64 * (k % 3), 64 * (k % 3) + 64)
        optimizer.zero_grad()
        laconic.objective(net, (x[rows], y[rows])).backward()
        optimizer.step()
        laconic.step(net)
    small = laconic.convert(net, Judge(score))
    return laconic.save(small, folder / "net.lac"), score(small.module).nll


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cures")


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_following_a_cure_does_what_it_promises(method: Method, folder: Path) -> None:
    before = made(method, folder)
    for index, cure in ((1, method.gentler), (0, method.smaller)):
        for direction, path in named(cure):
            other = changed(method, path, TURNS[direction](value(method, path)))
            assert made(other, folder)[index] < before[index], (direction, path)


def test_every_registered_method_names_fields_of_its_own() -> None:
    every = (*METHODS, *LONGER, *LIKE_TAYLOR)
    assert {find_method(name).kind for name in method_names()} <= {type(method) for method in every}
    for method in every:
        for _, path in named(f"{method.gentler}, {method.smaller}"):
            assert value(method, path) is not None or method in LONGER, path  # there are defaults by size
    taylor = METHODS[3]
    assert {(m.gentler, m.smaller) for m in LIKE_TAYLOR} == {(taylor.gentler, taylor.smaller)}


def test_without_a_grid_its_steps_are_no_cure(folder: Path) -> None:
    plain = NoCompression()
    assert (plain.gentler, plain.smaller) == ("lower fit.lr", "value for grid")
    assert replace(SCORED, grid=None).smaller == "smaller macs"
    assert made(changed(plain, "grid", COARSE), folder)[0] < made(plain, folder)[0]
    assert hasattr(FitConfig(1), "lr")
    told = Distillation(plain)
    assert (told.gentler, told.smaller) == ("lower fit.lr", "value for method.grid")


class Own(Method):
    """A method of one's own that says nothing of its settings."""

    def prepare(self, model, example, context):
        return model

    def convert(self, module, context, judge=None):
        raise NotImplementedError


def test_a_method_that_names_no_setting_is_given_none() -> None:
    for cure in (Own().gentler, Own().smaller):
        assert re.fullmatch(r"setting of the method that compresses (less|more)", cure)
