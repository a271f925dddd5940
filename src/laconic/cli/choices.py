"""Names at the door: networks, methods and presets become objects here.

No torch until one of them does: the names themselves, and the presets, are plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from laconic.cli.settings import check_seed, configure, parse_size
from laconic.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from laconic.methods.contract import Target
    from laconic.train.fit import FitConfig
    from laconic.train.job import Job
    from laconic.zoo import TrainRecipe

# Classes by their names in laconic.methods and laconic.schedules.sparsity: a mistyped name is told before
# they, and torch with them, are imported.
METHODS: Mapping[str, str] = {
    "sparse-vd": "SparseVD",
    "vnq": "VNQ",
    "magnitude": "MagnitudePruning",
    "taylor": "TaylorPruning",
    "filters": "FilterPruning",
    "apoz": "NetworkTrimming",
    "mean-activation": "MeanActivationPruning",
    "fisher": "FisherPruning",
    "random": "RandomPruning",
}
SCHEDULES: Mapping[str, str] = {"one-shot": "OneShot", "iterative": "Iterative", "cubic": "Cubic"}


@dataclass(frozen=True)
class Network:
    """A built-in network: its class and usual training by their names in laconic.zoo, and its usual data."""

    kind: str
    data: str
    training: str

    def build(self, generator: torch.Generator) -> nn.Module:
        """The network with weights drawn from ``generator``."""
        from laconic import zoo

        made: nn.Module = getattr(zoo, self.kind)(generator=generator)
        return made

    @property
    def recipe(self) -> TrainRecipe:
        """Its usual training."""
        from laconic import zoo

        found: TrainRecipe = getattr(zoo, self.training)
        return found

    def reference(self, seed: int) -> FitConfig:
        """The usual training as a fit configuration."""
        from laconic.train.fit import FitConfig
        from laconic.train.optimizers import LinearDecay

        recipe = self.recipe
        return FitConfig(recipe.epochs, recipe.lr, schedule=LinearDecay(recipe.flat), seed=seed)


NETWORKS: Mapping[str, Network] = {
    "lenet5": Network("LeNet5", "mnist", "LENET5_MNIST"),
    "lenet300": Network("LeNet300", "mnist", "LENET300_MNIST"),
    "digits-mlp": Network("DigitsMLP", "digits", "DIGITS"),
    "digits-cnn": Network("DigitsCNN", "digits", "DIGITS"),
}

# Sparse VD with a KL weight above 1 until 60 % of the epochs, then the survivors alone (see studies/).
_SPARSE_VD: Mapping[str, Any] = {
    "kl_weight": 2.0,
    "held_kl_weight": 0.3,
    "fit.schedule.flat": 0.6,
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
            "fit.schedule.flat": 0.1,
            "warm_up.start": 1.0,
            "warm_up.end": 8.0,
        },
        "": {"fit.epochs": 60, "fit.schedule.flat": 0.0, "warm_up.start": 2.0, "warm_up.end": 10.0},
    },
    "magnitude": {"": {"fit.epochs": 20}},
    **dict.fromkeys(("taylor", "filters", "apoz", "mean-activation", "fisher", "random"), _UNITS),
}
# Minutes rather than an hour: weights of convolutions are drawn once a step, and what is left after a third
# of the epochs trains without noise (studies/results/demo/NOTES.md).
DEMO: Mapping[str, Mapping[str, Any]] = {
    "sparse-vd": {
        **_SPARSE_VD,
        "kl_weight": 3.0,
        "warm_up.end": 1.5,
        "hold_from": 2.5,
        "hold_noise": False,
        "sampling": "mixed",
        "grid.steps": [0.35, 0.5, 0.7, 1.0],
        "grid.prices": [0.0, 0.04, 0.09],
        "fit.epochs": 7,
        "fit.lr": 0.003,
        "fit.schedule.flat": 0.3,
        "fit.schedule.warmup": 0.05,
        "reference.epochs": 2,
        "reference.lr": 0.003,
        "reference.schedule.flat": 0.0,
        "reference.schedule.warmup": 0.2,
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
    from laconic import methods
    from laconic.train.fit import FitConfig
    from laconic.train.job import Job, Stage

    own = {k: v for k, v in settings.items() if not k.startswith(("fit.", "reference.", "data."))}
    stage = Stage(
        _configured(getattr(methods, pick(METHODS, method, "method"))(), own),
        _fit(FitConfig(seed=seed), settings, "fit."),
    )
    return Job((stage,), parse_target(target), seed)


def _configured(method: Any, settings: Mapping[str, Any]) -> Any:
    """The method with its settings; a schedule may be named, and its own settings stand beside its name.

    >>> from laconic.methods import RandomPruning
    >>> _configured(RandomPruning(), {"schedule": "iterative", "schedule.rounds": 3}).schedule
    Iterative(rounds=3, start=0.0, end=0.6)
    """
    named = settings.get("schedule")
    if named is None or not hasattr(method, "schedule"):
        return configure(method, settings)
    from laconic.schedules import sparsity

    parts = {k: v for k, v in settings.items() if k.startswith("schedule.")}
    rest = {k: v for k, v in settings.items() if k != "schedule" and k not in parts}
    schedule = replace(method, schedule=getattr(sparsity, pick(SCHEDULES, str(named), "schedule"))())
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
    from laconic.methods.contract import Target

    if text is None:
        return Target()
    unit, number = parse_size(text)
    return Target(max_drop=number) if unit == "pt" else Target(max_bytes=round(number))
