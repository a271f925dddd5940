"""The picture of a prior: its density, the KL of a Gaussian to it, and posteriors on their way in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from laconic.bayes.kl import kl_divergence
from laconic.bayes.posterior_path import PosteriorPath
from laconic.bayes.posteriors import Gaussian
from laconic.bayes.priors.density import DensityPrior, checked_density
from laconic.errors import InputError, NoKLRuleError
from laconic.report.prior_picture import Floats, PriorPicture, draw_prior_picture

_ACROSS, _DOWN = 601, 121
_DRAWS = 4000


def draw_prior(
    prior: Any,
    path: str | Path,
    *,
    width: float | None = None,
    posteriors: PosteriorPath | tuple[Floats, Floats] | None = None,
) -> None:
    r"""Draw a prior's log density and, for Gaussians :math:`N(\mu, \sigma^2)`, its KL over both numbers.

    The KL is a landscape in which posteriors move to the low places while they train, as the funnels of
    Achterhold et al. 2018, figure 2. A prior without a rule for Gaussians has its density alone.

    Args:
        prior: A prior with ``log_density``.
        path: The PNG file; an existing one is replaced.
        width: Weights from -width to width are shown (None: those of 99 % of the prior's draws, or 1 where it
            has none; and all means of ``posteriors``).
        posteriors: What :class:`PosteriorPath` recorded, or its means and standard deviations, each (records,
            weights).

    Raises:
        InputError: A prior without a density; a width that is not above 0; matplotlib is not installed.
        WriteError: The file cannot be written.

    >>> import tempfile
    >>> from laconic.bayes import Laplace
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw_prior(Laplace(0.1), Path(folder) / "laplace.png")
    ...     (Path(folder) / "laplace.png").read_bytes()[1:4]
    b'PNG'
    """
    draw_prior_picture(prior_picture(prior, width=width, posteriors=posteriors), Path(path))


def prior_picture(
    prior: Any,
    *,
    width: float | None = None,
    posteriors: PosteriorPath | tuple[Floats, Floats] | None = None,
) -> PriorPicture:
    """What :func:`draw_prior` draws, as arrays.

    Args:
        prior: A prior with ``log_density``.
        width: As there.
        posteriors: As there.

    Returns:
        The picture's data.

    Raises:
        InputError: A prior without a density, or a width that is not above 0.
    """
    if not callable(getattr(prior, "log_density", None)) or isinstance(prior, type):
        name = prior.__name__ if isinstance(prior, type) else type(prior).__name__
        raise InputError(
            f"{name} has no density of single weights to draw. Cure: a prior with log_density, as "
            "laconic.bayes.Laplace(0.1)"
        )
    if width is not None and not 0 < width < np.inf:
        raise InputError(f"the width of a picture must be above 0 and finite, got {width}. Cure: 0.5")
    paths = (posteriors.means, posteriors.stds) if isinstance(posteriors, PosteriorPath) else posteriors
    reach = width or max(_reach(prior), 0.0 if paths is None else 1.05 * float(np.abs(paths[0]).max()))
    weights = torch.linspace(-reach, reach, _ACROSS, dtype=torch.float64)
    low, high = reach / 300, reach
    if paths is not None and (paths[1] > 0).any():
        seen = paths[1][paths[1] > 0]
        low, high = min(low, 0.8 * float(seen.min())), max(high, 1.2 * float(seen.max()))
    stds = torch.logspace(np.log10(low), np.log10(high), _DOWN, dtype=torch.float64)
    with torch.no_grad():
        density = checked_density(prior, weights)
    return PriorPicture(
        title=str(prior),
        improper=bool(getattr(prior, "improper", False)),
        weights=weights.numpy(),
        log_density=density.double().numpy(),
        stds=stds.numpy(),
        kl=_landscape(prior, weights, stds),
        path_means=None if paths is None else paths[0],
        path_stds=None if paths is None else paths[1],
    )


def _reach(prior: Any) -> float:
    """The magnitude below which 99 % of a prior's draws are; 1 for a prior without draws."""
    if not isinstance(prior, DensityPrior):
        return 1.0
    try:
        draws = prior.sample((_DRAWS,), torch.Generator().manual_seed(0))
    except InputError:
        return 1.0
    return float(draws.abs().quantile(0.99))


def _landscape(prior: Any, weights: torch.Tensor, stds: torch.Tensor) -> Floats | None:
    """KL of Gaussians of these means (along the second axis) and deviations (along the first), nats."""
    shape = (len(stds), len(weights))
    q = Gaussian(weights.expand(shape), (2 * stds.log()).unsqueeze(1).expand(shape))
    try:
        with torch.no_grad():
            return kl_divergence(q, prior).to(torch.float32).numpy()
    except NoKLRuleError:
        return None
