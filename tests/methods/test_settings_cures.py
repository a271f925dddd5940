"""Every setting that cannot be is refused with a cure: all fields of all methods, nested ones too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from laconic.errors import InputError
from laconic.methods import GridChoice, Target
from laconic.methods.common.unit_choice import UnitChoice
from laconic.methods.layerwise.refining import Refine
from laconic.methods.registry import find_method, method_names
from laconic.schedules import LinearDecay, WarmUp
from laconic.train.fit import FitConfig
from laconic.train.optimizers import SGD, Adam

WRONG = (-1e9, -1, 0, 2, 1e9, math.nan, math.inf, "no such word", (), (0,), (-1.0,), (math.nan, 1.0), None)
OTHERS = (GridChoice, UnitChoice, Refine, WarmUp, LinearDecay, FitConfig, Adam, SGD, Target)


def _refused(settings: Any) -> Iterator[tuple[str, Any, str]]:
    """The field, its wrong value and the message of each refusal; other errors are of wrong types."""
    for field in fields(settings):
        nested = getattr(settings, field.name)
        if is_dataclass(nested) and not isinstance(nested, type):
            yield from ((f"{field.name}.{name}", value, told) for name, value, told in _refused(nested))
        for value in WRONG:
            try:
                replace(settings, **{field.name: value})
            except InputError as error:
                yield field.name, value, str(error)
            except (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError):
                continue


def _settings() -> Iterator[Any]:
    for name in method_names():
        try:
            yield pytest.param(find_method(name).kind(), id=name)
        except TypeError:  # a method that cannot be without a function, as ScorePruning
            continue
    yield from (pytest.param(kind(), id=kind.__name__) for kind in OTHERS)


@pytest.mark.parametrize("settings", _settings())
def test_each_refusal_names_a_cure(settings: Any) -> None:
    found = list(_refused(settings))
    without = [f"{name}={value!r}: {told}" for name, value, told in found if " Cure: " not in told]
    assert not without, without
    assert found
