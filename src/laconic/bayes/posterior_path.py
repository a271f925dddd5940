"""The path of some weights' posteriors over training: their means and standard deviations."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from laconic.bayes.prepare import posteriors_of
from laconic.errors import InputError
from laconic.files import AnyPath, read_input, write_bytes

Floats = npt.NDArray[np.float32]


class PosteriorPath:
    r"""Records :math:`(\mu, \sigma)` of some weights of a network in training.

    It is a callback: call it after each epoch or step, or hand it to :func:`laconic.train.fit.fit` as
    ``on_epoch``. :func:`laconic.bayes.draw_prior` draws the path in the landscape of a prior.

    Args:
        net: A prepared network. Its present posteriors are the first record.
        count: How many weights, drawn at random from all that have a posterior (all, if there are fewer).
        seed: Seed of which weights these are.

    Raises:
        InputError: A count below 1.
        NotPreparedError: A network without posteriors.

    >>> import laconic
    >>> from laconic.methods import SparseVD
    >>> net = laconic.prepare(nn.Linear(8, 4), SparseVD(), torch.zeros(1, 8), data_size=100)
    >>> path = PosteriorPath(net, count=5)
    >>> _ = path()
    >>> path.means.shape, round(float(path.stds[0, 0]), 4)
    ((2, 5), 0.0183)
    """

    def __init__(self, net: nn.Module, count: int = 60, seed: int = 0) -> None:
        if count < 1:
            raise InputError(f"a path needs at least one weight, got count={count}. Cure: count=60")
        self._net = net
        sizes = {name: q.expectation().numel() for name, q in posteriors_of(net).items()}
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(sum(sizes.values()), generator=generator)[:count].sort().values
        starts = np.cumsum([0, *sizes.values()])
        self._places = {
            name: drawn[(drawn >= first) & (drawn < last)] - int(first)
            for name, first, last in zip(sizes, starts, starts[1:], strict=False)
        }
        self._records: list[tuple[Floats, Floats]] = []
        self()

    def __call__(self, *unused: object) -> str:
        """Add a record.

        Args:
            unused: What a training loop tells its callbacks.

        Returns:
            An empty text, as a callback that adds nothing to the progress line.
        """
        parts = []
        with torch.no_grad():
            for name, q in posteriors_of(self._net).items():
                mean, variance = (t.flatten()[self._places[name].to(t.device)] for t in q.moments())
                parts.append(torch.stack([mean, variance.clamp_min(0).sqrt()]).float().cpu())
        mean, std = torch.cat(parts, 1).numpy()
        self._records.append((mean, std))
        return ""

    @property
    def means(self) -> Floats:
        r""":math:`\mu`, float32, shape (records, weights)."""
        return np.stack([mean for mean, _ in self._records])

    @property
    def stds(self) -> Floats:
        r""":math:`\sigma`, float32, shape (records, weights)."""
        return np.stack([std for _, std in self._records])

    def save(self, path: AnyPath) -> None:
        """Write the path as an .npz file, which ``laconic draw prior NAME --path FILE`` draws.

        Args:
            path: The file; an existing one is replaced.

        Raises:
            WriteError: The file cannot be written.
        """
        stream = io.BytesIO()
        np.savez(stream, means=self.means, stds=self.stds)
        write_bytes(path, stream.getvalue())


def read_path(path: AnyPath) -> tuple[Floats, Floats]:
    """Means and standard deviations of a file that :meth:`PosteriorPath.save` wrote.

    Args:
        path: The .npz file.

    Returns:
        Both float32, of shape (records, weights).

    Raises:
        ReadError: The file cannot be read.
        InputError: A file of something else.
    """
    cure = "Cure: a file that laconic.bayes.PosteriorPath.save wrote"
    data = read_input(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            means, stds = (np.asarray(found[name], np.float32) for name in ("means", "stds"))
    except (ValueError, KeyError, OSError, EOFError, TypeError) as error:
        raise InputError(f"{Path(path)} holds no path of posteriors ({error}). {cure}") from error
    finite = np.isfinite(means).all() and np.isfinite(stds).all() and (stds >= 0).all()
    if means.ndim != 2 or means.shape != stds.shape or not finite:
        raise InputError(
            f"{Path(path)} holds means of shape {means.shape} and standard deviations of shape {stds.shape}; "
            f"both must be (records, weights), finite, and the latter >= 0. {cure}"
        )
    return means, stds
