"""Bytes against the metric for several runs: a table, and a picture on which each run is a point."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from laconic.errors import InputError
from laconic.files import write_bytes
from laconic.report.picture import _STYLE, COLOURS, DPI, GREY
from laconic.text import value_text


@dataclass(frozen=True)
class Point:
    """One run: what it was set to, the length of its file, and its metric.

    Args:
        name: Its settings, as ``kl_weight=2``.
        file_bytes: Length of the file.
        metric: On the test set, or on the validation split where there is no test set.
        nll: Validation likelihood, nats per term.
    """

    name: str
    file_bytes: int
    metric: float
    nll: float


def front(points: Sequence[Point], *, higher_is_better: bool) -> list[bool]:
    """For each point whether no other one is at least as small and as good, and better in one of the two.

    >>> points = [Point("a", 100, 2.0, 0.1), Point("b", 200, 1.5, 0.1), Point("c", 210, 1.5, 0.1)]
    >>> front(points, higher_is_better=False)
    [True, True, False]
    """
    sign = -1.0 if higher_is_better else 1.0
    pairs = [(p.file_bytes, sign * p.metric) for p in points]
    return [not any(a <= own[0] and b <= own[1] and (a, b) != own for a, b in pairs) for own in pairs]


def table(points: Sequence[Point], metric: str, unit: str, *, higher_is_better: bool) -> str:
    """Markdown rows, smallest file first; a star marks the runs that no other one beats.

    >>> print(table([Point("a", 100, 2.0, 0.1)], "error", "%", higher_is_better=False))
    | run | bytes | error | validation nats | best |
    |---|---|---|---|---|
    | a | 100 | 2.00 % | 0.1000 | * |
    """
    best = dict(zip(points, front(points, higher_is_better=higher_is_better), strict=True))
    rows = [
        f"| {p.name} | {p.file_bytes} | {value_text(p.metric, unit)} | {p.nll:.4f} "
        f"| {'*' if best[p] else ''} |"
        for p in sorted(points, key=lambda p: (p.file_bytes, p.name))
    ]
    head = [f"| run | bytes | {metric} | validation nats | best |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows])


def draw_trade_off(
    points: Sequence[Point], path: Path, metric: str, unit: str, *, higher_is_better: bool
) -> None:
    """Write bytes against the metric as a PNG; what no other run beats is joined by a line.

    Args:
        points: The runs.
        path: Where the picture goes.
        metric: Name of the metric.
        unit: Its unit.
        higher_is_better: Its direction.

    Raises:
        InputError: matplotlib is not installed.
        WriteError: The file cannot be written.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("no picture without matplotlib. Cure: pip install 'laconic[report]'") from error
    best = front(points, higher_is_better=higher_is_better)
    line = sorted((p.file_bytes, p.metric) for p, good in zip(points, best, strict=True) if good)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.0, 4.6), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        ax.plot([x for x, _ in line], [y for _, y in line], color=COLOURS[0], lw=1.2, zorder=1)
        for p, good in zip(points, best, strict=True):
            ax.scatter(p.file_bytes, p.metric, s=22, color=COLOURS[0] if good else GREY, zorder=2)
            ax.annotate(
                p.name, (p.file_bytes, p.metric), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
        ax.set(xscale="log", xlabel="bytes of the file", ylabel=f"{metric} ({unit})" if unit else metric)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": "laconic"})
    write_bytes(path, stream.getvalue())
