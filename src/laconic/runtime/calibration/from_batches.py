"""Activation ranges from example batches, in NumPy: what an int8 network needs beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from laconic.errors import DataError, InputError, WeightsOnlyError
from laconic.records import AnyArray, PackedModel
from laconic.runtime.calibration.range_choice import BINS, Histogram, LeastOutputError, RangeChoice, range_of
from laconic.runtime.int8.schedule import to_calibrate
from laconic.runtime.network import Network
from laconic.runtime.precision import NO_CALIBRATION

Batch = tuple[AnyArray, ...]


def calibrate(
    model: PackedModel,
    batches: Iterable[Sequence[AnyArray]],
    choice: RangeChoice | LeastOutputError = LeastOutputError(),  # noqa: B008 - frozen
    *,
    threads: int | None = None,
) -> PackedModel:
    """The model with an activation range for every value that int8 arithmetic writes.

    Weights and graph stay as they are, so the network also still runs in float32.

    Args:
        model: Records with a graph.
        batches: The network's inputs, a sequence of arrays for each batch. All are held in memory.
        choice: ``MinMax()``, ``Percentile(99.99)`` or ``LeastError(2.0)``, which look at each value by
            itself, or a ``LeastOutputError()``, which tries several of these on the network.
        threads: Cores that one run of the network uses; None for all.

    Returns:
        The same records with a range for each such value in ``graph.ranges``.

    Raises:
        WeightsOnlyError: The records have no graph.
        DataError: There is no batch, or an activation is NaN or infinite.
        InputError: Inputs do not fit, or the network has no linear layer or convolution.

    >>> from laconic.records import Graph, Node, RawTensor, ValueSpec
    >>> graph = Graph((ValueSpec("float32", (None, 1)),), (Node("linear", (0, -1)),), (1,))
    >>> model = PackedModel((RawTensor("w", np.ones((1, 1), np.float32)),), graph)
    >>> ready = calibrate(model, [(np.float32([[0.0], [127.5]]),)])
    >>> [(r.value, r.scale, r.zero_point) for r in ready.graph.ranges]
    [(0, 0.5, -128), (1, 0.5, -128)]
    """
    if model.graph is None:
        raise WeightsOnlyError(
            "a network without a graph cannot be calibrated. Cure: save it with an example"
        )
    values = to_calibrate(model.graph)
    if not values:
        raise InputError(
            "the network has no linear layer or convolution with weights of its own, and all else (recurrent "
            "layers, too) runs in float32, so int8 would change nothing. Cure: save it without calibration"
        )
    graph = replace(model.graph, outputs=values, ranges=(), output_names=(), keyed=False)
    probe = Network.from_packed(replace(model, graph=graph), threads)
    held = [tuple(np.asarray(array) for array in batch) for batch in batches]
    if not sum(len(batch[0]) for batch in held if batch and batch[0].ndim):
        raise DataError(NO_CALIBRATION.format(what="the calibration batches are empty"))
    seen = _histograms(probe, held, len(values))
    if isinstance(choice, LeastOutputError):
        from laconic.runtime.calibration.range_search import least_output_error

        ranges = least_output_error(model, values, seen, choice, held, threads)
    else:
        ranges = tuple(range_of(v, *choice.bounds(h)) for v, h in zip(values, seen, strict=True))
    return replace(model, graph=replace(model.graph, ranges=ranges))


def _histograms(probe: Network, held: list[Batch], count: int) -> list[Histogram]:
    """Two passes: the extremes, then the counts between them."""
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    for batch in held:
        for k, array in enumerate(probe.run(batch)):
            if not np.isfinite(array).all():
                raise DataError(
                    "an activation is NaN or infinite on the calibration batches. "
                    "Cure: look for such values in the inputs and the weights"
                )
            low[k] = min(low[k], float(array.min(initial=np.inf)))
            high[k] = max(high[k], float(array.max(initial=-np.inf)))
    counts = [np.zeros(BINS, np.int64) for _ in range(count)]
    for batch in held:
        for k, array in enumerate(probe.run(batch)):
            counts[k] += np.histogram(array, BINS, (low[k], high[k]))[0]
    return [Histogram(float(a), float(b), c) for a, b, c in zip(low, high, counts, strict=True)]
