"""The picture of a run: bytes by tensor, weights left, the metric, signal-to-noise ratios, filters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.errors import InputError
from laconic.files import write_bytes
from laconic.report.data import Report
from laconic.text import shortened, value_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: distinct under the common kinds of colour blindness, and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY, INK, CUT = "#9AA0A6", "#202124", "#D55E00"
DPI = 130
_STYLE: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5F6368",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": "#5F6368",
    "ytick.color": "#5F6368",
    "legend.frameon": False,
}


def draw(report: Report, path: Path) -> None:
    """Write the picture as a PNG; one version of matplotlib writes equal files of equal reports.

    Args:
        report: What is shown.
        path: Where the picture goes.

    Raises:
        InputError: matplotlib is not installed.
        WriteError: The file cannot be written.

    >>> import tempfile
    >>> from laconic.records import RunRecord
    >>> from laconic.report import gather
    >>> from laconic.tasks import Classification
    >>> record = RunRecord({}, 0, {}, (), {}, file_bytes=10, bytes_before=40)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "report.png"
    ...     draw(gather("a network", record, {}, metric=Classification().metric), path)
    ...     path.read_bytes()[1:4]
    b'PNG'
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "no picture without matplotlib. Cure: pip install 'laconic[report]', or --no-picture"
        ) from error
    import io

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(11.5, 7.2), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        _fill(figure, report)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": "laconic"})
    write_bytes(path, stream.getvalue())


def _fill(figure: Figure, report: Report) -> None:
    ratio = report.bytes_before / max(1, report.file_bytes)
    figure.suptitle(
        f"{report.title}: {_count(report.bytes_before)} → {_count(report.file_bytes)} bytes, "
        f"{ratio:.1f}x smaller{_scores(report)}",
        x=0.01,
        ha="left",
        fontsize=13,
        fontweight="bold",
    )
    grid = figure.subplot_mosaic([["bytes", "left", "metric"], ["bytes", "snr", "filters"]])
    _bytes(grid["bytes"], report)
    _left(grid["left"], report)
    draw_metric(grid["metric"], report)
    _snr(grid["snr"], report)
    _filters(grid["filters"], report)


def _scores(report: Report) -> str:
    name = "validation" if report.test_metric is None else "test"
    before, after = report.validation_metric if report.test_metric is None else report.test_metric
    shown = (value_text(value, report.unit) for value in (before, after))
    return f"; {name} {report.metric} {' → '.join(shown)}"


def _count(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _bytes(ax: Axes, report: Report) -> None:
    """Bytes of each tensor before and after, and of all else in the file, on a logarithmic scale."""
    rows = [(name, before, after) for name, _, _, before, after in report.rows if before]
    rows = sorted(rows, key=lambda row: row[1], reverse=True)[:12]
    names = [shortened(name, 24) for name, _, _ in rows] + ["names, graph, ..."]
    y = np.arange(len(names))
    ax.barh(y[:-1] - 0.2, [b for _, b, _ in rows], 0.38, color=GREY, label="float32")
    after = [a for _, _, a in rows] + [report.other_bytes]
    ax.barh(y + 0.2, after, 0.38, color=COLOURS[0], label="in the file")
    for place, value in zip(y, after, strict=True):
        ax.text(max(value, 1) * 1.15, place + 0.2, _count(value), va="center", fontsize=7.5, color=COLOURS[0])
    ax.set(xscale="log", yticks=y, yticklabels=names, xlabel="bytes", title="Bytes by tensor")
    ax.set_xlim(left=1)
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="lower right")


def _left(ax: Axes, report: Report) -> None:
    ax.set(title="Weights left", xlabel="epoch", ylabel="share of the tensor, %")
    if not report.left:
        return _nothing(ax, "not recorded by this method")
    largest = sorted(report.left, key=lambda n: -next(w for name, w, *_ in report.rows if name == n))
    for name, colour in zip(largest, COLOURS, strict=False):
        curve = report.left[name]
        shares = [100 * v for v in curve.values]
        ax.plot(curve.epochs, shares, color=colour, marker="o", ms=3)
        ax.annotate(
            shortened(name, 24),
            (curve.epochs[-1], shares[-1]),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            color=colour,
            fontsize=7.5,
        )
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_ylim(top=130)
    _whole_epochs(ax)
    return None


def draw_metric(ax: Axes, report: Report) -> None:
    """The validation metric after each epoch, the original's as a line, the file's as a point."""
    better = "higher is better" if report.higher_is_better else "lower is better"
    ax.set(
        title=f"Validation {report.metric}, without noise",
        xlabel="epoch",
        ylabel=f"{report.unit or report.metric} ({better})",
    )
    curve = report.metric_curve
    if not curve.epochs:
        return _nothing(ax, "not recorded")
    ax.plot(curve.epochs, curve.values, color=COLOURS[0], marker="o", ms=3, label="trained network")
    before, after = report.validation_metric
    ax.axhline(before, color=GREY, ls="--", lw=1, label="original network")
    ax.plot([curve.epochs[-1]], [after], marker="D", color=COLOURS[1], ls="none", label="in the file")
    _room_for_legend(ax, [*curve.values, before, after])
    _whole_epochs(ax)
    ax.legend(fontsize=7.5, loc="upper right", ncols=1)
    return None


def _room_for_legend(ax: Axes, values: Sequence[float]) -> None:
    """Limits that leave the upper third free for the legend and include zero where the values are near it."""
    low, high = min(values), max(values)
    low = 0.0 if 0 <= low <= 0.5 * high else low
    span = (high - low) or abs(high) or 1.0
    ax.set_ylim(low - 0.05 * span if low else 0.0, high + 0.5 * span)


def _snr(ax: Axes, report: Report) -> None:
    """A column an epoch: how many weights have which signal-to-noise ratio, on a logarithmic colour scale."""
    ax.set(
        title="Posterior signal-to-noise ratio of the weights",
        xlabel="epoch",
        ylabel="|mean| / standard deviation",
    )
    if not report.snr:
        return _nothing(ax, "no posterior: a point estimate")
    from matplotlib.colors import LogNorm

    low, high, width = report.snr_bins
    counts = np.asarray(report.snr, dtype=float).T
    first = report.metric_curve.epochs[0]
    image = ax.imshow(
        np.where(counts > 0, counts, np.nan),
        origin="lower",
        aspect="auto",
        extent=(first - 0.5, first + counts.shape[1] - 0.5, low, high),
        norm=LogNorm(1, max(2.0, float(counts.max()))),
        cmap="Blues",
        interpolation="nearest",
    )
    seen = np.flatnonzero(counts.sum(axis=1))
    ax.set_ylim(low, low + (int(seen.max(initial=0)) + 3) * width)
    ax.yaxis.set_major_formatter(lambda value, _: f"$10^{{{value:g}}}$")
    ax.yaxis.set_major_locator(_whole())
    if report.cut is not None:
        ax.axhline(np.log10(report.cut), color=CUT, lw=1.2)
        ax.text(
            first + counts.shape[1] - 0.6,
            np.log10(report.cut) + 0.15,
            "weights below are removed",
            ha="right",
            color=CUT,
            fontsize=7.5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        )
    _whole_epochs(ax)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
    bar.set_label("weights")
    return None


def _filters(ax: Axes, report: Report) -> None:
    ax.set_axis_off()
    if report.filters is None:
        ax.set_title("")
        return
    ax.set_title("First filters, before and after")
    before, after = (np.asarray(side) for side in report.filters)
    limit = float(np.abs(before).max(initial=0.0)) or 1.0
    wide = min(len(before), 10)
    sheet = np.vstack([_sheet(before, wide), _gap(before, wide), _sheet(after, wide)])
    ax.imshow(sheet, cmap="PuOr", vmin=-limit, vmax=limit, interpolation="nearest")


def _sheet(kernels: Any, wide: int) -> Any:
    """Kernels side by side, ``wide`` in a row, NaN between them."""
    high, across = kernels.shape[1:]
    rows = -(-len(kernels) // wide)
    sheet = np.full((rows * (high + 1), wide * (across + 1)), np.nan)
    for k, kernel in enumerate(kernels):
        top, left = (k // wide) * (high + 1), (k % wide) * (across + 1)
        sheet[top : top + high, left : left + across] = kernel
    return sheet


def _gap(kernels: Any, wide: int) -> Any:
    return np.full((2, wide * (kernels.shape[2] + 1)), np.nan)


def _nothing(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, color="#5F6368")
    ax.set(xticks=[], yticks=[])


def _whole() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, integer=True)


def _whole_epochs(ax: Axes) -> None:
    ax.xaxis.set_major_locator(_whole())
