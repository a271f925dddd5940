"""Names at the door: networks, methods, presets and a user's own functions become objects here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from laconic.cli.settings import check_seed, configure, parse_size
from laconic.errors import InputError
from laconic.methods import (
    VNQ,
    FilterPruning,
    FisherPruning,
    MagnitudePruning,
    MeanActivationPruning,
    NetworkTrimming,
    RandomPruning,
    SparseVD,
    TaylorPruning,
)
from laconic.methods.contract import Target
from laconic.sparsify.timetables import Cubic, Iterative, OneShot
from laconic.train.compress import Job
from laconic.train.fit import FitConfig
from laconic.zoo import (
    DIGITS,
    LENET5_MNIST,
    LENET300_MNIST,
    DigitsCNN,
    DigitsMLP,
    LeNet5,
    LeNet300,
    TrainRecipe,
)

METHODS: Mapping[str, type[Any]] = {
    "sparse-vd": SparseVD,
    "vnq": VNQ,
    "magnitude": MagnitudePruning,
    "taylor": TaylorPruning,
    "filters": FilterPruning,
    "apoz": NetworkTrimming,
    "mean-activation": MeanActivationPruning,
    "fisher": FisherPruning,
    "random": RandomPruning,
}
SCHEDULES: Mapping[str, type[Any]] = {"one-shot": OneShot, "iterative": Iterative, "cubic": Cubic}


@dataclass(frozen=True)
class Network:
    """A built-in network: how to make it, its usual data, and its usual training."""

    build: Callable[[torch.Generator], nn.Module]
    data: str
    recipe: TrainRecipe

    def reference(self, seed: int) -> FitConfig:
        """The usual training as a fit configuration."""
        return FitConfig(epochs=self.recipe.epochs, lr=self.recipe.lr, flat=self.recipe.flat, seed=seed)


NETWORKS: Mapping[str, Network] = {
    "lenet5": Network(lambda g: LeNet5(generator=g), "mnist", LENET5_MNIST),
    "lenet300": Network(lambda g: LeNet300(generator=g), "mnist", LENET300_MNIST),
    "digits-mlp": Network(lambda g: DigitsMLP(generator=g), "digits", DIGITS),
    "digits-cnn": Network(lambda g: DigitsCNN(generator=g), "digits", DIGITS),
}

# Sparse VD with a KL weight above 1 until 60 % of the epochs, then the survivors alone (see studies/).
_SPARSE_VD: Mapping[str, Any] = {
    "kl_weight": 2.0,
    "held_kl_weight": 0.3,
    "fit.flat": 0.6,
    "grid.max_drop": 0.05,
    "grid.max_nll_ratio": 1.08,
}

# Methods that prune units differ in what a unit is worth and when it goes, not in how much is left.
_UNITS: Mapping[str, Mapping[str, Any]] = {
    "lenet5": {"macs": 0.12, "fit.epochs": 20},
    "": {"macs": 0.3, "fit.epochs": 20},
}

# What (method, network) train with when nothing else is said; "" is any other network.
FULL: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "sparse-vd": {
        "lenet5": {**_SPARSE_VD, "fit.epochs": 60, "warm_up.end": 8.0, "hold_from": 36.0},
        "lenet300": {**_SPARSE_VD, "fit.epochs": 100, "warm_up.end": 15.0, "hold_from": 60.0},
        "": {**_SPARSE_VD, "fit.epochs": 40, "warm_up.end": 5.0, "hold_from": 24.0},
    },
    "vnq": {
        "lenet5": {
            "kl_weight": 0.5,
            "init_scale": 0.12,
            "tried_thresholds": [2.0, 1.0, 0.5, 0.3, 0.1, 0.0, -0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.8],
            "fit.epochs": 195,
            "fit.flat": 0.1,
            "warm_up.start": 1.0,
            "warm_up.end": 8.0,
        },
        "": {"fit.epochs": 60, "fit.flat": 0.0, "warm_up.start": 2.0, "warm_up.end": 10.0},
    },
    "magnitude": {"": {"fit.epochs": 20}},
    **dict.fromkeys(("taylor", "filters", "apoz", "mean-activation", "fisher", "random"), _UNITS),
}
DEMO: Mapping[str, Mapping[str, Any]] = {
    "sparse-vd": {
        **_SPARSE_VD,
        "fit.epochs": 20,
        "warm_up.end": 4.0,
        "hold_from": 11.0,
        "reference.epochs": 3,
    },
    "vnq": {"fit.epochs": 20, "reference.epochs": 3, "warm_up.start": 0.0, "warm_up.end": 5.0},
    "magnitude": {"fit.epochs": 8, "reference.epochs": 3},
    **dict.fromkeys(
        ("taylor", "filters", "apoz", "mean-activation", "fisher", "random"),
        {"fit.epochs": 8, "reference.epochs": 3},
    ),
}


def pick(table: Mapping[str, Any], name: str, what: str) -> Any:
    """``table[name]``, or an InputError that lists the names there are."""
    if name not in table:
        raise InputError(f"no {what} is called {name!r}. Cure: one of {', '.join(sorted(table))}")
    return table[name]


def preset(name: str, method: str, network: str | None) -> dict[str, Any]:
    """Dotted settings of a preset for one method on one network."""
    if name not in ("full", "demo"):
        raise InputError(f"no preset is called {name!r}. Cure: one of demo, full")
    table = pick(FULL, method, "method")
    settings = dict(table.get(network or "", table[""]))
    if name == "demo":
        settings.update(pick(DEMO, method, "method"))
    return settings


def make_job(method: str, settings: Mapping[str, Any], target: str | None, seed: int) -> Job:
    """The job that a method's name and dotted settings describe."""
    own = {k: v for k, v in settings.items() if not k.startswith(("fit.", "reference.", "data."))}
    return Job(
        method=_configured(pick(METHODS, method, "method")(), own),
        target=parse_target(target),
        fit=_fit(FitConfig(seed=seed), settings, "fit."),
        seed=seed,
    )


def _configured(method: Any, settings: Mapping[str, Any]) -> Any:
    """The method with its settings; a schedule may be named, and its own settings stand beside its name.

    >>> _configured(RandomPruning(), {"schedule": "iterative", "schedule.rounds": 3}).schedule
    Iterative(rounds=3, start=0.0, end=0.6)
    """
    named = settings.get("schedule")
    if named is None or not hasattr(method, "schedule"):
        return configure(method, settings)
    parts = {k: v for k, v in settings.items() if k.startswith("schedule.")}
    rest = {k: v for k, v in settings.items() if k != "schedule" and k not in parts}
    schedule = replace(method, schedule=pick(SCHEDULES, str(named), "schedule")())
    return configure(configure(schedule, parts), rest)


def make_reference(network: str | None, settings: Mapping[str, Any], seed: int) -> FitConfig | None:
    """How a built-in network is trained first: its recipe, with ``reference.*`` settings over it."""
    if network is None:
        return None
    return _fit(pick(NETWORKS, network, "network").reference(seed), settings, "reference.")


def _fit(usual: FitConfig, settings: Mapping[str, Any], prefix: str) -> FitConfig:
    own = {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}
    config: FitConfig = configure(usual, own, prefix)
    check_seed(config.seed, f"{prefix}seed")
    return config


def parse_target(text: str | None) -> Target:
    """``0.3pt`` (points of validation error), ``5kB``, ``5000B``; None asks for nothing.

    >>> parse_target("5kB").max_bytes
    5000
    """
    if text is None:
        return Target()
    unit, number = parse_size(text)
    return Target(max_drop=number) if unit == "pt" else Target(max_bytes=round(number))
