"""The picture of a finished run: gathered from what the run recorded, drawn where matplotlib is installed."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

from torch import nn

from laconic.cli.request import Request
from laconic.records import AnyArray, RunRecord
from laconic.report import draw, gather, to_json
from laconic.train.job import Job
from laconic.train.run_folder import HISTORY, PICTURE_FILE, REPORT_FILE, RunFolder


def write_picture(
    request: Request, folder: RunFolder, record: RunRecord, job: Job, before: nn.Module, after: nn.Module
) -> str:
    """Write ``report.json`` and ``report.png`` into the folder; returns a line that says where or why not."""
    methods = ", ".join(stage.method for stage in request.stages)
    report = gather(
        f"{request.network or request.model} on {request.data}, {methods}",
        record,
        folder.read_json(HISTORY) or {},
        metric=job.task.metric,
        filters=first_kernels(before, after),
        cut=snr_cut(job.stages[-1].method),
    )
    folder.write_json(REPORT_FILE, to_json(report))
    if importlib.util.find_spec("matplotlib") is None:
        return "no picture: matplotlib is not installed. Cure: pip install 'laconic[report]'"
    draw(report, folder.path(PICTURE_FILE))
    return f"picture: {folder.path(PICTURE_FILE)}"


def snr_cut(method: Any) -> float | None:
    r"""The signal-to-noise ratio below which a method drops a weight: :math:`e^{-t/2}` for log alpha >= t.

    >>> from laconic.methods import SparseVD
    >>> round(snr_cut(SparseVD(threshold=3.0)), 3)
    0.223
    """
    threshold = getattr(method, "threshold", None)
    return math.exp(-threshold / 2) if isinstance(threshold, float) else None


def first_kernels(before: nn.Module, after: nn.Module) -> tuple[AnyArray, AnyArray] | None:
    """The kernels of the first 2-d convolution before and after; None without one of the same shape."""
    old, new = (_first(net) for net in (before, after))
    return None if old is None or new is None or old.shape != new.shape else (old, new)


def _first(net: nn.Module) -> AnyArray | None:
    layer = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    return None if layer is None else layer.weight.detach().float().numpy(force=True).copy()
