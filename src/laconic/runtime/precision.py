"""Which arithmetic a file runs in: float32, or int8 where it holds activation ranges."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from laconic.errors import InputError
from laconic.records import PackedModel

Precision = Literal["auto", "fp32", "int8"]

NO_CALIBRATION = (
    "int8 needs the range of every activation, and {what}. Cure: calibrate on some training batches: "
    "laconic.save(small, path, calibrate=loader), or laconic compress ... --int8"
)


def with_precision(model: PackedModel, precision: Precision) -> PackedModel:
    """The model as asked: "auto" is int8 where it has ranges, "fp32" without them, "int8" only with them.

    Raises ``InputError`` when int8 is asked of a network that was not calibrated.
    """
    if precision not in ("auto", "fp32", "int8"):
        raise InputError(
            f"precision must be 'auto', 'fp32' or 'int8', got {precision!r}. Cure: precision='auto'"
        )
    if model.graph is None or precision == "auto":
        return model
    if precision == "fp32":
        return replace(model, graph=replace(model.graph, ranges=()))
    if not model.graph.ranges:
        raise InputError(NO_CALIBRATION.format(what="this file holds none"))
    return model
