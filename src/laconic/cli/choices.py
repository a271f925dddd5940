"""Names at the door: networks, methods, presets and a user's own functions become objects here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from laconic.errors import InputError
from laconic.methods import VNQ, MagnitudePruning, SparseVD
from laconic.methods.contract import Target
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

METHODS: Mapping[str, type[Any]] = {"sparse-vd": SparseVD, "vnq": VNQ, "magnitude": MagnitudePruning}


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
            "tried_thresholds": [2.0, 1.0, 0.5, 0.0],
            "fit.epochs": 80,
            "fit.flat": 0.1,
            "warm_up.start": 1.0,
            "warm_up.end": 8.0,
        },
        "": {"fit.epochs": 60, "fit.flat": 0.0, "warm_up.start": 2.0, "warm_up.end": 10.0},
    },
    "magnitude": {"": {"fit.epochs": 20}},
}
DEMO: Mapping[str, Mapping[str, Any]] = {
    "sparse-vd": {
        **_SPARSE_VD,
        "kl_weight": 3.0,
        "fit.epochs": 20,
        "warm_up.end": 4.0,
        "hold_from": 11.0,
        "reference.epochs": 3,
    },
    "vnq": {"fit.epochs": 20, "reference.epochs": 3, "warm_up.start": 0.0, "warm_up.end": 5.0},
    "magnitude": {"fit.epochs": 8, "reference.epochs": 3},
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
    fit = {k[4:]: v for k, v in settings.items() if k.startswith("fit.")}
    own = {k: v for k, v in settings.items() if not k.startswith(("fit.", "reference.", "data."))}
    return Job(
        method=configure(pick(METHODS, method, "method")(), own),
        target=parse_target(target),
        fit=configure(FitConfig(seed=seed), fit),
        seed=seed,
    )


def make_reference(network: str | None, settings: Mapping[str, Any], seed: int) -> FitConfig | None:
    """How a built-in network is trained first: its recipe, with ``reference.*`` settings over it."""
    if network is None:
        return None
    own = {k[10:]: v for k, v in settings.items() if k.startswith("reference.")}
    config: FitConfig = configure(pick(NETWORKS, network, "network").reference(seed), own)
    return config


def configure(config: Any, settings: Mapping[str, Any]) -> Any:
    """A copy of a frozen dataclass with dotted fields replaced; unknown names are errors that list the known.

    >>> configure(SparseVD(), {"grid.max_drop": 0.2}).grid.max_drop
    0.2
    """
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        names = [f.name for f in dataclasses.fields(config)]
        if head not in names:
            raise InputError(
                f"{type(config).__name__} has no setting {head!r} (from {key}={value!r}). "
                f"Cure: one of {', '.join(names)}"
            )
        old = getattr(config, head)
        if rest and not dataclasses.is_dataclass(old):
            raise InputError(
                f"setting {head!r} of {type(config).__name__} has no parts (from {key}={value!r})"
            )
        new = configure(old, {rest: value}) if rest else _like(old, value, key)
        config = dataclasses.replace(config, **{head: new})
    return config


def _like(old: Any, value: Any, key: str) -> Any:
    """``value`` in the type of ``old``: lists become tuples, whole numbers floats where floats stood."""
    if isinstance(old, tuple):
        return tuple(value) if isinstance(value, list | tuple) else (value,)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if old is not None and not isinstance(value, type(old)):
        raise InputError(f"setting {key}: expected {type(old).__name__}, got {value!r}")
    return value


def parse_value(text: str) -> Any:
    """A command-line value: true, false, none, a number, a comma list, or a word."""
    if "," in text:
        return [parse_value(part) for part in text.split(",") if part]
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_target(text: str | None) -> Target:
    """``0.3pt`` (points of validation error), ``5kB``, ``5000B``; None asks for nothing.

    >>> parse_target("5kB").max_bytes
    5000
    """
    if text is None:
        return Target()
    units = (("pt", 1.0), ("kB", 1e3), ("MB", 1e6), ("B", 1.0))
    for unit, factor in units:
        if text.endswith(unit):
            try:
                number = float(text[: -len(unit)]) * factor
            except ValueError:
                break
            return Target(max_drop=number) if unit == "pt" else Target(max_bytes=round(number))
    raise InputError(
        f"target {text!r} is not understood. Cure: 0.3pt (points of error), 5kB or 5000B (file length)"
    )
