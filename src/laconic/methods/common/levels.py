r"""Any posterior on any codebook: the log-likelihood of each level, and the bits that layers need.

An atom of a posterior (a hard concrete gate is exactly zero with some probability) has no density. It counts
at the level nearest to it, spread over the codebook's smallest gap h, as a density does over its own cell:

.. math:: \log q(c_k) = \log\Big(p(c_k) + \sum_{a\,:\,c_k\text{ is nearest}} P_a / h\Big)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from laconic.quantize.codebook import nearest_level
from laconic.quantize.likelihood import BITS, Bools, Floats, LogLikelihood, bits_by_layer, most_likely
from laconic.records import IntArray, WeightStats


class Likelihood(Protocol):
    """What is asked of a posterior (:class:`laconic.bayes.Posterior`): density, atoms and moments."""

    def log_density(self, values: Tensor) -> Tensor:
        """Log of the density at values, without atoms."""

    def atoms(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Places and log probabilities of what has a probability above zero."""

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance."""


def level_likelihood(q: Likelihood, levels: Sequence[float]) -> LogLikelihood:
    """How likely a posterior makes each level of a codebook.

    Args:
        q: A posterior of any family.
        levels: The codebook, rising, in the weights' unit.

    Returns:
        From one of the levels to nats for each weight, float64, of the weight's shape.

    Raises:
        InputError: Levels that do not rise, or none.

    >>> from laconic.bayes.posteriors.hard_concrete import HardConcreteWeights
    >>> gated = HardConcreteWeights(torch.tensor([0.75]), torch.tensor([-4.0]))  # closed nearly always
    >>> of = level_likelihood(gated, (0.0, 0.25, 0.5, 0.75))
    >>> [round(float(of(level)[0]), 2) for level in (0.0, 0.25, 0.5, 0.75)]
    [1.3, -2.51, -3.24, -4.22]
    """
    with torch.no_grad():
        atoms = [
            (nearest_level(place.cpu(), levels), np.asarray(log_p.cpu(), np.float64))
            for place, log_p in q.atoms()
        ]
    book = [float(v) for v in levels]
    gap = np.log(np.diff(book).min()) if len(book) > 1 else 0.0

    def of(level: float) -> Floats:
        with torch.no_grad():
            density = q.log_density(torch.tensor(level, dtype=torch.float64, device=q.moments()[0].device))
        found = np.asarray(density.cpu(), np.float64)
        for places, log_p in atoms:
            there = np.where(places == book.index(level), log_p - gap, -np.inf)
            found = np.logaddexp(found, there)
        return found

    return of


def likeliest_levels(q: Likelihood, levels: Sequence[float], price: float = 0.0) -> IntArray:
    r"""The level that each weight takes: :math:`\arg\max_k \log q(c_k) - \lambda R_k`.

    Args:
        q: A posterior of any family.
        levels: The codebook, rising, in the weights' unit.
        price: :math:`\lambda`, nats of log-likelihood for one nat of rate, at least 0.

    Returns:
        int32 indices of the weight's shape. Under a normal posterior, at price 0, the nearest level to the
        mean.

    Raises:
        InputError: Levels that do not rise, or none; a negative price.

    >>> from laconic.bayes.posteriors import LogNormalPair
    >>> wide = LogNormalPair(*torch.tensor([[0.0], [0.7], [0.0], [0.7]]))  # mean 1.7, mode 0.4
    >>> likeliest_levels(wide, (0.0, 0.5, 1.0, 1.5, 2.0)).tolist()
    [1]
    """
    return most_likely(level_likelihood(q, levels), levels, price=price)


def posterior_bits_facts(
    stats: Mapping[str, WeightStats], keeps: Mapping[str, Bools] | None = None
) -> dict[str, dict[str, Any]]:
    """The fact that a method with a posterior tells of its weights: the bits that they need.

    Args:
        stats: Means and posterior variances by name; no statistics that stand in for a posterior.
        keeps: By the same names, booleans of the weight's shape: the weights that stay (None: all).

    Returns:
        The fact's name, and numbers by tensor, ready for a record.

    >>> stats = WeightStats("w", np.float32([1.0, -1.0]), np.float32([1 / 15, 1 / 15]))
    >>> posterior_bits_facts({"w": stats})["bits_by_posterior"]["w"]["mean"]
    2.0
    """
    return {BITS: {name: asdict(row) for name, row in bits_by_layer(stats, keeps).items()}}
