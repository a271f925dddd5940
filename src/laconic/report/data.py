"""The data of a run's picture, gathered from its record and its history into one frozen record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.errors import RunFolderError
from laconic.records import AnyArray, LayerRecord, RunRecord

if TYPE_CHECKING:
    from laconic.tasks import Metric

MOST_FILTERS = 64
MOST_SIDE = 11


@dataclass(frozen=True)
class Curve:
    """One number an epoch.

    Attributes:
        epochs: Numbers of the epochs, counted from 1 over all stages of the run.
        values: One value for each.

    >>> Curve((1, 2), (4.5, 3.5)).values[-1]
    3.5
    """

    epochs: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """Everything that the picture of a run shows.

    Attributes:
        title: The network, its data and the method.
        bytes_before: Bytes of all parameters in float32.
        file_bytes: Length of the file.
        metric: Name of the task's metric.
        unit: Unit of the metric.
        higher_is_better: Direction of the metric.
        validation_metric: Before and after, in the metric's unit.
        test_metric: The same on the test set; None without one.
        rows: By tensor: name, weights, non-zero weights, bytes in float32, bytes in the file.
        other_bytes: Bytes of the file that are not of tensors.
        metric_curve: The metric on the validation split after each epoch.
        left: By tensor, the share of its weights that was left after each epoch, in [0, 1].
        snr: For each epoch a histogram of posterior signal-to-noise ratios: weights in each bin.
        snr_bins: First edge, last edge and width of the bins, in powers of ten.
        cut: The signal-to-noise ratio below which a weight is removed; None without one.
        filters: Kernels (filters, height, width) of the first convolution before and after, or None.

    >>> from laconic.tasks import Classification
    >>> record = RunRecord({}, 0, {}, (), {}, file_bytes=10, bytes_before=40)
    >>> report = gather("a network", record, {}, metric=Classification().metric)
    >>> report.metric, report.bytes_before, report.file_bytes
    ('error', 40, 10)
    """

    title: str
    bytes_before: int
    file_bytes: int
    metric: str
    unit: str
    higher_is_better: bool
    validation_metric: tuple[float, float]
    test_metric: tuple[float, float] | None
    rows: tuple[tuple[str, int, int, int, int], ...]
    other_bytes: int
    metric_curve: Curve
    left: Mapping[str, Curve]
    snr: tuple[tuple[int, ...], ...]
    snr_bins: tuple[float, float, float]
    cut: float | None
    filters: tuple[tuple[tuple[tuple[float, ...], ...], ...], ...] | None


def gather(
    title: str,
    record: RunRecord,
    history: Mapping[str, Any],
    *,
    metric: Metric,
    filters: tuple[AnyArray, AnyArray] | None = None,
    cut: float | None = None,
) -> Report:
    """The report of a run.

    Args:
        title: The network, its data and the method.
        record: The run's record.
        history: What ``history.json`` holds: by epoch the validation metric, weights left, histograms.
        metric: The task's metric.
        filters: Kernels of the first convolution before and after, each (filters, channels, height, width);
            more than 64 filters, or larger ones than 11 pixels, are left out.
        cut: The signal-to-noise ratio below which a weight is removed.

    Returns:
        What the picture shows.

    >>> from laconic.tasks import Classification
    >>> record = RunRecord({}, 0, {}, (), {}, file_bytes=10, bytes_before=40)
    >>> gather("a network", record, {}, metric=Classification().metric).file_bytes
    10
    """
    epochs: Sequence[Mapping[str, Any]] = history.get("epochs", ())
    number = tuple(range(1, len(epochs) + 1))  # each stage of a run counts its own from 1
    weights = {layer.name: layer.weights for layer in record.layers}
    numbers = record.metrics
    return Report(
        title=title,
        bytes_before=record.bytes_before,
        file_bytes=record.file_bytes,
        metric=metric.name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        validation_metric=_before_and_after(numbers, "validation") or (0.0, 0.0),
        test_metric=_before_and_after(numbers, "test"),
        rows=tuple(_row(layer) for layer in record.layers),
        other_bytes=record.file_bytes - sum(layer.bytes_after for layer in record.layers),
        metric_curve=Curve(number, tuple(float(row["validation_metric"]) for row in epochs)),
        left=_left(epochs, number, weights),
        snr=_snr(epochs),
        snr_bins=tuple(history.get("snr_bins", (0.0, 0.0, 1.0))),
        cut=cut,
        filters=_filters(filters),
    )


def _before_and_after(metrics: Mapping[str, float], name: str) -> tuple[float, float] | None:
    before, after = metrics.get(f"original_{name}_metric"), metrics.get(f"{name}_metric")
    return None if before is None or after is None else (before, after)


def _snr(epochs: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, ...], ...]:
    """One histogram an epoch, empty ones for stages without posteriors; nothing where no stage has any."""
    bins = max((len(row["snr_counts"]) for row in epochs), default=0)
    return tuple(tuple(row["snr_counts"]) or (0,) * bins for row in epochs) if bins else ()


def _row(layer: LayerRecord) -> tuple[str, int, int, int, int]:
    return layer.name, layer.weights, layer.nonzeros, layer.bytes_before, layer.bytes_after


def _left(
    epochs: Sequence[Mapping[str, Any]], number: tuple[int, ...], weights: Mapping[str, int]
) -> dict[str, Curve]:
    """The share of each tensor's weights that is left, for tensors that every epoch names."""
    names = [n for n in weights if epochs and all(n in row["weights_left"] for row in epochs)]
    return {
        n: Curve(number, tuple(row["weights_left"][n] / max(1, weights[n]) for row in epochs)) for n in names
    }


def _filters(pair: tuple[AnyArray, AnyArray] | None) -> Any:
    """Kernels as nested tuples: before and after, each averaged over its input channels."""
    if pair is None or pair[0].shape != pair[1].shape or pair[0].ndim != 4:
        return None
    if len(pair[0]) > MOST_FILTERS or max(pair[0].shape[2:]) > MOST_SIDE:
        return None
    return tuple(
        tuple(tuple(tuple(float(v) for v in row) for row in kernel) for kernel in np.mean(side, axis=1))
        for side in pair
    )


def to_json(report: Report) -> dict[str, Any]:
    """A report as plain data.

    Args:
        report: The report.

    Returns:
        What ``json.dumps`` takes.

    >>> from laconic.tasks import Classification
    >>> record = RunRecord({}, 0, {}, (), {}, file_bytes=10, bytes_before=40)
    >>> to_json(gather("a network", record, {}, metric=Classification().metric))["file_bytes"]
    10
    """
    return asdict(report)


def from_json(data: Mapping[str, Any]) -> Report:
    """The inverse of :func:`to_json`.

    Args:
        data: What a run's ``report.json`` holds.

    Returns:
        The report.

    Raises:
        RunFolderError: A field that is missing or unknown.

    >>> from laconic.tasks import Classification
    >>> record = RunRecord({}, 0, {}, (), {}, file_bytes=10, bytes_before=40)
    >>> report = gather("a network", record, {}, metric=Classification().metric)
    >>> from_json(to_json(report)) == report
    True
    """
    try:
        curves = {name: _curve(curve) for name, curve in data["left"].items()}
        tuples = {key: _tuples(value) for key, value in data.items() if isinstance(value, list)}
        return Report(**{**data, **tuples, "left": curves, "metric_curve": _curve(data["metric_curve"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(f"not a report: {error}. Cure: use the report.json that a run wrote") from error


def _curve(data: Mapping[str, Any]) -> Curve:
    return Curve(tuple(data["epochs"]), tuple(data["values"]))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
