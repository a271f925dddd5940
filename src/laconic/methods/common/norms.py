"""Batch norm after training with noise: its running statistics, or those at the posterior mean.

A network that draws its weights or units in training averages the statistics of the draws: their variance is
that of the signal and of the noise. The network that is stored computes with means and has no noise, so its
normalised values are too small. Statistics taken anew at the mean repair this, but not always: they come from
few batches, and a network that relied on the others may be worse with them. So validation decides.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from laconic.methods.contract import Context, Judge
from laconic.methods.norm_statistics import estimate_norm_statistics, trained_norms

_BUFFERS = ("running_mean", "running_var")


def better_norms(plain: nn.Module, context: Context, judge: Judge | None) -> dict[str, Any]:
    """Take batch norm's running statistics anew at the present weights, and keep what validation prefers.

    They are taken over the training batches (:mod:`laconic.methods.norm_statistics`). The statistics with the
    lower negative log-likelihood on the validation split stay; without a judge the new ones do, since those
    that are stored belong to another network.

    Args:
        plain: A plain network at the posterior means, pruned as it will be stored; its buffers are written,
            and it ends in evaluation mode.
        context: The batches, and what the user keeps.
        judge: Scores both on the validation split.

    Returns:
        Facts: ``norm_batches``, the batches read where the new statistics stay (0 where they do not);
        ``norm_variance_ratio``, the largest of all ratios of a stored variance to a new one; with a judge
        ``norm_nll``, both likelihoods, the stored statistics' first. Empty where nothing was taken: no batch
        norm, or no batches.

    >>> import torch
    >>> from laconic.networks.noise import NoiseSource
    >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    >>> _ = net[0].weight.data.fill_(1.0), net[1].running_var.fill_(50.0)
    >>> batches = [(torch.tensor([[1.0], [3.0]]), torch.zeros(2))]
    >>> context = Context(data_size=2, noise=NoiseSource(0), batches=lambda: batches)
    >>> facts = better_norms(net, context, None)
    >>> facts["norm_batches"], round(facts["norm_variance_ratio"]), net[1].running_var.tolist()
    (1, 25, [2.0])
    """
    if not any(isinstance(module, _BatchNorm) for module in plain.modules()):
        return {}
    norms = trained_norms(plain, context)
    stored = {name: [_buffer(norm, b).clone() for b in _BUFFERS] for name, norm in norms.items()}
    plain.eval()
    before = judge.evaluate(plain).nll if judge is not None and norms and context.batches else math.nan
    looked = estimate_norm_statistics(plain, context)
    if not looked:
        return {}
    ratios = [
        float((stored[n][1] / _buffer(m, "running_var").clamp_min(m.eps)).max()) for n, m in norms.items()
    ]
    facts: dict[str, Any] = {"norm_batches": looked, "norm_variance_ratio": max(ratios)}
    if judge is None:
        return facts
    after = judge.evaluate(plain).nll
    if not (after < before or math.isnan(before)):
        for name, values in stored.items():
            for buffer, value in zip(_BUFFERS, values, strict=True):
                _buffer(norms[name], buffer).copy_(value)
        facts["norm_batches"] = 0
    return {**facts, "norm_nll": [before, after]}


def _buffer(norm: nn.Module, name: str) -> Tensor:
    buffer: Tensor = norm.get_buffer(name)
    return buffer
