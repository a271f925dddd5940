"""The compiled sweep over weights: whether it is installed, whether it takes given tensors, and its call."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

# Weights that are added up at a time: the sums depend on it, hence not on the number of threads.
PIECE = 1 << 14


class Extension(Protocol):
    """What ``sweep.c`` offers."""

    def variants(self) -> list[str]:
        """Names of the code paths that this processor runs, the best last."""

    def sweep(self, *arguments: Any) -> tuple[float, float, float]:
        """Fill a range of the slopes (and values); the sums over it."""


@functools.cache
def extension() -> Extension | None:
    """The compiled module, or None where the package was installed without a compiler."""
    try:
        from laconic.bayes.kl import _sweep  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _sweep  # type: ignore[no-any-return]


def takes(*tensors: Tensor) -> bool:
    """Whether the compiled sweep is installed and takes these tensors: float32, on a CPU."""
    fit = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
    return fit and extension() is not None


@dataclass(frozen=True)
class Table:
    r"""A codebook as the compiled sweep takes it.

    ``numbers``: the levels, then by level :math:`-1/\tau_k^2`; ``zero``: the first is the level zero.
    """

    numbers: Sequence[float]
    zero: bool


def sweep(
    mean: Tensor,
    log_var: Tensor,
    scale: float,
    table: Table,
    out: tuple[Tensor | None, Tensor, Tensor],
    variant: int | None = None,
) -> tuple[float, float, float]:
    """Fill ``out`` (KL unless None, d KL / d mean, d KL / d log variance) from flat contiguous tensors.

    Returns three sums: of the KL, of mean times d KL / d mean, of d KL / d log variance. ``variant`` is the
    number of the code path, by default the best; all give the same bits, with any number of threads.
    """
    code = extension()
    if code is None:
        raise RuntimeError("the package was installed without its compiled sweep")  # see takes()
    value, to_mean, to_log_var = (None if t is None else t.detach().numpy() for t in out)
    arrays = (mean.detach().numpy(), log_var.detach().numpy(), to_mean, to_log_var, value)
    numbers = np.array(table.numbers, dtype=np.float32)
    chosen = len(code.variants()) - 1 if variant is None else variant
    count = mean.numel()

    def work(start: int) -> tuple[float, float, float]:
        end = min(start + PIECE, count)
        return code.sweep(*arrays, numbers, table.zero, scale, start, end, chosen)

    starts = range(0, count, PIECE)
    threads = min(torch.get_num_threads(), len(starts))
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            sums = list(pool.map(work, starts))
    else:
        sums = [work(start) for start in starts]
    total, along_mean, along_log_var = (sum(column) for column in zip((0.0, 0.0, 0.0), *sums, strict=True))
    return total, along_mean, along_log_var
