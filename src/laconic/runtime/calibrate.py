"""Activation ranges from example batches, in NumPy: what an int8 network needs beside its weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from laconic.errors import DataError, InputError, WeightsOnlyError
from laconic.records import AnyArray, PackedModel
from laconic.runtime.network import Network
from laconic.runtime.precision import NO_CALIBRATION
from laconic.runtime.steps import to_calibrate

if TYPE_CHECKING:
    from laconic.records import ActivationRange

BINS = 2048


class Histogram(NamedTuple):
    """How often a value's entries fell into each of ``BINS`` equal bins between ``low`` and ``high``."""

    low: float
    high: float
    counts: npt.NDArray[np.int64]

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of each bin."""
        width = (self.high - self.low) / len(self.counts)
        return np.asarray(self.low + width * (np.arange(len(self.counts)) + 0.5), np.float64)


class RangeChoice(Protocol):
    """How a range is chosen: real bounds from what was seen of a value."""

    def bounds(self, seen: Histogram) -> tuple[float, float]:
        """The smallest and largest number that must be representable."""
        ...


@dataclass(frozen=True)
class MinMax:
    """All that was seen, outliers included.

    >>> MinMax().bounds(Histogram(-1.0, 3.0, np.ones(BINS, np.int64)))
    (-1.0, 3.0)
    """

    def bounds(self, seen: Histogram) -> tuple[float, float]:
        """The extremes."""
        return seen.low, seen.high


@dataclass(frozen=True)
class Percentile:
    """All but a share: ``percent`` of the entries are inside, the rest in equal parts beyond both ends.

    >>> low, high = Percentile(50.0).bounds(Histogram(0.0, 1.0, np.ones(BINS, np.int64)))
    >>> round(low, 2), round(high, 2)
    (0.25, 0.75)
    """

    percent: float = 99.99

    def __post_init__(self) -> None:
        if not 50.0 <= self.percent <= 100.0:
            raise InputError(f"percent must be in 50..100, got {self.percent}")

    def bounds(self, seen: Histogram) -> tuple[float, float]:
        """Bin edges, so that no more than the share is cut off."""
        total = np.cumsum(seen.counts) / max(1, int(seen.counts.sum()))
        tail = (1.0 - self.percent / 100.0) / 2
        first = int(np.searchsorted(total, tail, side="right"))
        last = min(len(total) - 1, int(np.searchsorted(total, 1.0 - tail, side="left")))
        width = (seen.high - seen.low) / len(total)
        return seen.low + first * width, seen.low + (last + 1) * width


@dataclass(frozen=True)
class LeastSquares:
    """The bounds, a common share of the extremes, that give 256 levels the least mean squared error.

    Rounding costs step^2 / 12 inside, clipping (x - bound)^2 outside. ``tries`` shares between 0.2 and 1.
    """

    tries: int = 65

    def bounds(self, seen: Histogram) -> tuple[float, float]:
        """The best of ``tries`` shares; with the extremes themselves among them."""
        centres, counts = seen.centres, seen.counts
        best, chosen = np.inf, (seen.low, seen.high)
        for share in np.linspace(0.2, 1.0, self.tries):
            low, high = seen.low * share, seen.high * share
            beyond = centres - np.clip(centres, low, high)
            step = (max(high, 0.0) - min(low, 0.0)) / 255
            error = float((counts * np.where(beyond == 0, step * step / 12, beyond * beyond)).sum())
            if error < best:
                best, chosen = error, (float(low), float(high))
        return chosen


def range_of(value: int, low: float, high: float) -> ActivationRange:
    """The range that covers ``low``, ``high`` and zero in 256 levels, zero being one of them.

    >>> range_of(1, 0.0, 127.5)
    ActivationRange(value=1, scale=0.5, zero_point=-128)
    """
    from laconic.records import ActivationRange

    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.clip(np.float32((high - low) / 255), np.float32(2.0**-64), np.float32(2.0**64)))
    if high == low:
        scale = 1.0
    return ActivationRange(value, scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def calibrate(
    model: PackedModel,
    batches: Iterable[Sequence[AnyArray]],
    choice: RangeChoice = MinMax(),
    *,
    threads: int | None = None,
) -> PackedModel:
    """The model with an activation range for every value that int8 arithmetic writes.

    ``batches`` are the network's inputs, as it takes them (a sequence of arrays each). Weights and graph
    stay as they are, so the network also still runs in float32.

    Raises ``WeightsOnlyError`` (no graph), ``DataError`` (no batch, NaN on the way), ``InputError`` (inputs
    that do not fit, a network without a linear layer or convolution).

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
    ranges = tuple(range_of(v, *choice.bounds(h)) for v, h in zip(values, seen, strict=True))
    return replace(model, graph=replace(model.graph, ranges=ranges))


def _histograms(probe: Network, held: list[tuple[AnyArray, ...]], count: int) -> list[Histogram]:
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
