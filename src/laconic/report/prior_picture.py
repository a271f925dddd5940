"""The picture of a prior: log density above, below it the KL of Gaussians and the path of posteriors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from laconic.report.picture import COLOURS, GREY, INK, write_figure
from laconic.text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class PriorPicture:
    r"""What the picture of a prior shows.

    Attributes:
        title: The prior and its settings.
        improper: Whether the density is known up to a constant.
        weights: w, rising, shape (across,).
        log_density: :math:`\log p(w)`, nats, of that shape; infinite values are left out.
        stds: :math:`\sigma`, rising, shape (down,).
        kl: KL of :math:`N(w, \sigma^2)` in nats, shape (down, across); None where there is no rule.
        path_means: :math:`\mu` of some weights over training, shape (records, weights), or None.
        path_stds: Their :math:`\sigma`, of that shape, or None.
    """

    title: str
    improper: bool
    weights: Floats
    log_density: Floats
    stds: Floats
    kl: Floats | None = None
    path_means: Floats | None = None
    path_stds: Floats | None = None


def draw_prior_picture(picture: PriorPicture, path: Path) -> None:
    """Write the picture as a PNG; one version of matplotlib writes equal files of equal data.

    Args:
        picture: What is shown.
        path: Where the picture goes.

    Raises:
        InputError: matplotlib is not installed.
        WriteError: The file cannot be written.

    >>> import tempfile
    >>> w = np.linspace(-1, 1, 5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "prior.png"
    ...     draw_prior_picture(PriorPicture("flat", False, w, 0 * w, abs(w) + 0.1), path)
    ...     path.read_bytes()[1:4]
    b'PNG'
    """
    high = 7.2 if picture.kl is not None or picture.path_means is not None else 3.4
    write_figure(path, (7.5, high), lambda figure: _fill(figure, picture))


def _fill(figure: Figure, picture: PriorPicture) -> None:
    figure.suptitle(shortened(picture.title, 90), x=0.01, ha="left", fontsize=12, fontweight="bold")
    if picture.kl is None and picture.path_means is None:
        _density(figure.subplots(), picture)
        return
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 3])
    _density(above, picture)
    _landscape(below, picture)
    above.set_xlabel("")


def _density(ax: Axes, picture: PriorPicture) -> None:
    constant = ", up to a constant" if picture.improper else ""
    ax.set(title=f"Log density{constant}", xlabel="weight", ylabel="nats")
    shown = np.where(np.isfinite(picture.log_density), picture.log_density, np.nan)
    ax.plot(picture.weights, shown, color=COLOURS[0])
    if picture.path_means is not None:
        low = float(np.nanmin(shown))
        for record, colour, name in ((0, GREY, "means before"), (-1, COLOURS[1], "means after")):
            places = picture.path_means[record]
            ax.plot(places, np.full(len(places), low), "|", color=colour, ms=9, label=name)
        ax.legend(fontsize=7.5, loc="upper right")
    ax.set_xlim(picture.weights[0], picture.weights[-1])


def _landscape(ax: Axes, picture: PriorPicture) -> None:
    ax.set(xlabel="mean of the posterior", ylabel="standard deviation", yscale="log", title="Posteriors")
    if picture.kl is not None:
        constant = ", up to a constant" if picture.improper else ""
        ax.set_title(f"KL of a Gaussian posterior, nats{constant}")
        kl = np.where(np.isfinite(picture.kl), picture.kl, np.nan)
        low, high = np.nanpercentile(kl, (0, 97))
        image = ax.pcolormesh(
            picture.weights, picture.stds, kl, cmap="Blues", vmin=low, vmax=max(high, low + 1e-6),
            shading="nearest", rasterized=True,
        )  # fmt: skip
        ax.figure.colorbar(image, ax=ax, pad=0.02)
    if picture.path_means is not None and picture.path_stds is not None:
        means, stds = picture.path_means, np.maximum(picture.path_stds, picture.stds[0])
        ax.plot(means, stds, color=INK, lw=0.6, alpha=0.6)
        ax.plot(means[0], stds[0], "o", color=GREY, ms=2.5, label="start")
        ax.plot(means[-1], stds[-1], "o", color=COLOURS[1], ms=3.5, label="end")
        ax.legend(fontsize=7.5, loc="upper right")
    ax.set_ylim(picture.stds[0], picture.stds[-1])
