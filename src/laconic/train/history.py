"""Results of each epoch, kept in the run folder, so that figures can be drawn without training again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from laconic.bayes.prepare import posteriors_of
from laconic.methods.contract import Method, Score
from laconic.prepared import is_prepared, prepared
from laconic.train.run_folder import HISTORY, RunFolder

SNR_BINS = (-4.0, 4.0, 0.25)
"""First and last edge of the signal-to-noise histogram, and the width of a bin, as exponents of ten."""


@dataclass(frozen=True)
class EpochRow:
    """One finished epoch, counted from 1.

    ``loss``: mean objective in nats per likelihood term, the penalty included. ``validation_metric``: the
    task's, in its unit, without noise. ``validation_nll``: nats per term. ``weights_left``: weights of each
    tensor that would stay if training ended here (empty where the method does not say). ``stage``: counted
    from 1. ``snr_counts``: how many weights have a posterior signal-to-noise ratio in each bin of
    ``SNR_BINS`` (empty without posteriors). ``penalty``: the method's at the end of the epoch, in nats per
    likelihood term: the weighted KL of a Bayesian method (None where it has none). ``loss - penalty`` is then
    the expected negative log-likelihood of the training data, the other part of the negative ELBO.
    """

    epoch: int
    loss: float
    validation_metric: float
    validation_nll: float
    weights_left: Mapping[str, int] = field(default_factory=dict)
    snr_counts: Sequence[int] = ()
    stage: int = 1
    penalty: float | None = None


def recorder(
    net: nn.Module,
    method: Method,
    score: Callable[[nn.Module], Score],
    folder: RunFolder,
    first: int,
    stage: int = 1,
) -> Callable[[int, float], None]:
    """A function of (epoch from 0, mean loss) that adds a row to the folder's history.

    Rows of earlier stages and of epochs before ``first`` are kept; a resumed run writes the others again.
    """
    rows = [row for row in read_history(folder) if (row.stage, row.epoch) <= (stage, first)]

    def add(epoch: int, loss: float) -> None:
        found = score(net)
        rows.append(
            EpochRow(
                epoch + 1,
                loss,
                found.metric,
                found.nll,
                method.weights_left(net),
                snr_counts(net),
                stage,
                penalty_of(net),
            )
        )
        folder.write_json(HISTORY, {"snr_bins": SNR_BINS, "epochs": [asdict(row) for row in rows]})

    return add


def read_history(folder: RunFolder) -> list[EpochRow]:
    """The rows that a run has written so far; an unreadable row ends the list."""
    data: Any = folder.read_json(HISTORY) or {}
    rows: list[EpochRow] = []
    for row in data.get("epochs", ()):
        try:
            rows.append(EpochRow(**row))
        except TypeError:
            break
    return rows


def penalty_of(net: nn.Module) -> float | None:
    """The penalty of a prepared network as it stands, nats per likelihood term; None without one.

    >>> penalty_of(nn.Linear(2, 2)) is None
    True
    """
    if not is_prepared(net):
        return None
    state = prepared(net, "history")
    if not state.method.in_nats:
        return None
    with torch.no_grad():
        return float(state.method.penalty(net, state.context)) / state.context.data_size


def snr_counts(net: nn.Module) -> tuple[int, ...]:
    r"""Histogram of :math:`\log_{10}(|\theta| / \sigma)` over weights with a posterior; ends hold the rest.

    >>> snr_counts(nn.Linear(2, 2))
    ()
    """
    low, high, width = SNR_BINS
    bins = round((high - low) / width)
    counts = np.zeros(bins, np.int64)
    with torch.no_grad():
        for q in posteriors_of(net).values():
            std = q.std_of(lambda table: table)
            ratio = (q.expectation().abs().clamp_min(1e-30) / std).log10().cpu().numpy().ravel()
            index = np.clip(np.floor((ratio - low) / width), 0, bins - 1).astype(np.int64)
            counts += np.bincount(index, minlength=bins)
    return tuple(int(n) for n in counts) if counts.any() else ()
