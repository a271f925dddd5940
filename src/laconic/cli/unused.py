"""Settings that nothing would look at are refused: what a user sets is obeyed, or they are told. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from laconic.cli.fields import FIT, check_field, check_value
from laconic.cli.settings import parse_size
from laconic.cli.sources import array_file
from laconic.errors import InputError
from laconic.registry import FIT_CHOICES
from laconic.rows import settings_of

Settings = Mapping[str, Any]
_ALLOWANCES = ("max_kl", "max_drop", "max_nll_ratio")
"""Fields of a grid's choice that say how much worse a network may become."""


def refuse_unused(asked: Settings, model: str | None, data: str, calibrate: str | None) -> None:
    """Refuse settings of data and of a reference that this run has not (a preset's own may stand unused).

    Args:
        asked: All settings that were given.
        model: The ``--model``, or None.
        data: The ``--data``; empty where there is none.
        calibrate: The ``--calibrate``, or None.

    Raises:
        InputError: Names the setting and the cure.
    """
    known = settings_of(FIT) or ()
    batches = data if calibrate is None else calibrate
    for key, value in asked.items():
        if key.startswith("data.") and (":" in batches or (calibrate and array_file(batches))):
            raise InputError(
                f"setting {key} is for built-in data; {batches} makes its own batches. "
                f"Cure: leave {key} out{'' if array_file(batches) else ', and batch in that function'}"
            )
        if key.startswith("reference."):
            if model is not None:
                raise InputError(
                    f"setting {key} is for training a built-in network; --model {model} is trained already. "
                    f"Cure: leave {key} out"
                )
            check_field(key.split(".")[1], known, key, value, "the training of the reference")
            check_value(FIT, key.partition(".")[2], value, key, FIT_CHOICES)


def refuse_training(asked: Settings) -> None:
    """Refuse settings of a training that a run with --calibrate does not have, rather than ignore them."""
    for key, value in asked.items():
        if re.match(r"(stage1\.)?fit\.", key):
            raise InputError(
                f"setting {key}={value!r}: --calibrate compresses without training. Cure: leave it out, or "
                "--data in place of --calibrate"
            )


def refuse_replaced(stages: Sequence[tuple[str, Settings]], target: str | None) -> None:
    """Refuse an allowance whose place another one takes, and parts of a refinement that is not asked for.

    Args:
        stages: Methods with the settings that were given for them; a preset's own are not looked at.
        target: The ``--target``, or None.

    Raises:
        InputError: Names the setting and the cure.

    >>> refuse_replaced([("magnitude", {"grid.max_kl": 0.1})], "0.5")
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: setting grid.max_kl=0.1: --target 0.5 takes its place. Cure: leave one of
    them out
    """
    for number, (method, settings) in enumerate(stages, 1):
        if target is not None:
            for key in replaced_by(target, settings, last=number == len(stages)):
                raise InputError(
                    f"setting {key}={settings[key]!r}: --target {target} takes its place. "
                    f"Cure: leave one of them out{_as_target(method, key, settings[key])}"
                )
        _refuse_two(settings)
        _refuse_refinement(method, settings)


def replaced_by(target: str, settings: Settings, *, last: bool) -> Iterator[str]:
    """The settings whose place a target takes, in a run's last stage or in one before it.

    >>> list(replaced_by("5kB", {"grid.max_nll_ratio": 1.1, "grid.max_kl": 0.01}, last=True))
    ['grid.max_nll_ratio', 'grid.max_kl']
    >>> list(replaced_by("5kB", {"grid.max_kl": 0.01}, last=False))
    []
    """
    unit, _ = parse_size(target)
    if unit == "B" and not last:  # the length of a file says nothing of what an earlier stage makes
        return
    for key in settings:
        *before, name = key.split(".")
        kept = name == "max_nll_ratio" and unit != "B"
        of_grid = before[-1:] == ["grid"] and name in _ALLOWANCES and not kept
        if of_grid or (name == "max_kl" and before in ([], ["method"])):
            yield key


def replaced_by_setting(preset: Settings, asked: Settings) -> Iterator[str]:
    """The allowances of a preset whose place another one takes that was asked for.

    >>> list(replaced_by_setting({"grid.max_kl": 0.001}, {"grid.max_drop": 0.2}))
    ['grid.max_kl']
    >>> list(replaced_by_setting({"grid.max_drop": 0.1, "grid.steps": 1.0}, {"grid.max_kl": 0.001}))
    ['grid.max_drop']
    """
    for key in preset:
        before, _, name = key.rpartition(".")
        others = _ALLOWANCES[1:] if name == "max_kl" else ("max_kl",)
        if name in _ALLOWANCES and any(asked.get(f"{before}.{other}") is not None for other in others):
            yield key


def _as_target(method: str, key: str, value: Any) -> str:
    """The target that asks for what a setting of post-training asks for."""
    return f", or --target {value}nats alone" if method == "post-training" and key == "max_kl" else ""


def _refuse_two(settings: Settings) -> None:
    """Refuse a grid's other allowances beside ``max_kl``, which takes their place."""
    for key, value in settings.items():
        before, _, name = key.rpartition(".")
        kl = f"{before}.max_kl"
        if name in _ALLOWANCES[1:] and settings.get(kl) is not None:
            raise InputError(
                f"setting {key}={value!r}: {kl}={settings[kl]!r} takes its place. Cure: leave one of them out"
            )


def _refuse_refinement(method: str, settings: Settings) -> None:
    """Refuse parts of the refinement where its steps are not given: it is off without them."""
    if method != "post-training" or "refine.steps" in settings:
        return
    for key, value in settings.items():
        if key.startswith("refine."):
            raise InputError(
                f"setting {key}={value!r}: there is no refinement without steps. "
                "Cure: --set refine.steps=300 beside it"
            )
