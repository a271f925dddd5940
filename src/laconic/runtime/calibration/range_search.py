"""Ranges chosen by what they do to a network's outputs: it runs in int8 with each candidate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from laconic.errors import EngineError
from laconic.records import ActivationRange, AnyArray, Graph, PackedModel
from laconic.runtime.calibration.range_choice import Histogram, LeastOutputError, MinMax, range_of
from laconic.runtime.network import Network

Ranges = tuple[ActivationRange, ...]
Batch = tuple[AnyArray, ...]


def least_output_error(
    model: PackedModel,
    values: Sequence[int],
    seen: Sequence[Histogram],
    choice: LeastOutputError,
    held: Sequence[Batch],
    threads: int | None,
) -> Ranges:
    """The ranges of ``values`` that one candidate gives, then another for the network's inputs, for the rest.

    Inputs are apart because their distribution is the data's, not that of a layer's sums. The network's
    outputs keep their extremes: the runtime hands them out unrounded, so a candidate that cuts them off costs
    nothing there and much on a device. Where the int8 network does not run, the first candidate is taken.
    """
    graph = model.graph or Graph((), (), ())
    table = [
        tuple(
            range_of(v, *(MinMax() if v in graph.outputs else rule).bounds(h))
            for v, h in zip(values, seen, strict=True)
        )
        for rule in choice.candidates
    ]
    if all(row == table[0] for row in table):
        return table[0]
    error = _error_of(model, evenly_chosen(held, choice.examples), threads)
    inputs = {v for v in values if v < len(graph.inputs)}
    best = table[0]
    for group in (set(values), inputs, set(values) - inputs):
        if np.isfinite(error(best)):
            best = min([best, *(_mixed(best, row, group) for row in table)], key=error)
    return best


def _mixed(kept: Ranges, other: Ranges, group: Collection[int]) -> Ranges:
    """The ranges, those of a group replaced."""
    return tuple(b if b.value in group else a for a, b in zip(kept, other, strict=True))


def evenly_chosen(held: Sequence[Batch], examples: int) -> list[Batch]:
    """Batches of at least so many examples together, at equal distances."""
    sizes = [len(batch[0]) if batch[0].ndim else 1 for batch in held]
    wanted = max(1, round(len(held) * examples / max(1, sum(sizes))))
    return [held[k * len(held) // wanted] for k in range(min(wanted, len(held)))]


def _error_of(model: PackedModel, held: Sequence[Batch], threads: int | None) -> Callable[[Ranges], float]:
    """What ranges cost: the outputs' summed |y_int8 - y_float32|^2 / |y_float32|^2, each computed once."""
    graph = model.graph or Graph((), (), ())
    real = Network.from_packed(replace(model, graph=replace(graph, ranges=())), threads, engine="onnxruntime")
    wanted = [real.run(batch) for batch in held]

    @cache
    def error(ranges: Ranges) -> float:
        try:
            ready = replace(model, graph=replace(graph, ranges=ranges))
            net = Network.from_packed(ready, threads, engine="onnxruntime")
            return _relative(wanted, [net.run(batch) for batch in held])
        except EngineError:
            return np.inf

    return error


def _relative(wanted: Sequence[Sequence[AnyArray]], found: Sequence[Sequence[AnyArray]]) -> float:
    """The squared error of each output over its squares, summed; infinite where it is no number."""
    total = 0.0
    for outputs, others in zip(zip(*wanted, strict=True), zip(*found, strict=True), strict=True):
        lost = squares = 0.0
        for y, other in zip(outputs, others, strict=True):
            known = np.isfinite(y) & np.issubdtype(y.dtype, np.floating)
            exact = y[known].astype(np.float64)
            lost += float(np.square(other[known] - exact).sum())
            squares += float(np.square(exact).sum())
        total += lost / (squares or 1.0)
    return total if np.isfinite(total) else np.inf
