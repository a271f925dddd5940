"""Batch norm's running statistics under weights that were changed after training.

They were averaged while the weights had other values. A coarse codebook moves the mean and variance of every
pre-activation, most of all in depthwise layers, whose outputs are sums of few products.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from laconic.methods.contract import Context
from laconic.networks import call, to_device

BATCHES = 100
"""Training batches that are read: some thousand examples are enough (Wu & Johnson 2021)."""


def trained_norms(net: nn.Module, context: Context) -> dict[str, _BatchNorm]:
    """The batch norms with running statistics that are neither frozen nor kept by the user, by name."""
    found = {n: m for n, m in net.named_modules() if isinstance(m, _BatchNorm)}
    return {
        name: norm
        for name, norm in found.items()
        if norm.running_mean is not None
        and all(p.requires_grad for p in norm.parameters())
        and not context.policy.keeps(name)
    }


def estimate_norm_statistics(net: nn.Module, context: Context) -> int:
    """Average the running statistics anew over training batches, under the weights as they are, in place.

    Means and variances of each batch count alike. Source: Wu & Johnson, Rethinking "Batch" in BatchNorm,
    arXiv 2105.07576, section 3 (precise statistics).

    Args:
        net: A plain network; it ends in evaluation mode.
        context: Its ``batches`` are read as its ``task`` splits them; those of one example are passed over.

    Returns:
        Batches read: 0 without batches or batch norms, and then nothing has changed.
    """
    norms = trained_norms(net, context)
    if not norms or context.batches is None:
        return 0
    device = next(net.parameters()).device
    splits = (context.task.split(batch).inputs for batch in context.batches())
    several = (inputs for inputs in splits if _length(inputs) > 1)
    before = {name: (norm.momentum, norm.num_batches_tracked) for name, norm in norms.items()}
    looked = 0
    net.eval()
    with torch.no_grad():
        for looked, inputs in enumerate(itertools.islice(several, BATCHES), start=1):
            for norm in norms.values():
                norm.train()
                norm.num_batches_tracked, norm.momentum = None, 1.0 / looked
            call(net, to_device(inputs, device))
    for name, (momentum, tracked) in before.items():
        norms[name].momentum, norms[name].num_batches_tracked = momentum, tracked
    net.eval()
    return looked


def _length(inputs: object) -> int:
    """Length of the first tensor's first axis."""
    first = next((t for t in tree_leaves(inputs) if isinstance(t, Tensor) and t.ndim), None)
    return 0 if first is None else len(first)
