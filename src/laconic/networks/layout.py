"""Memory formats of images and of the networks that take them: ``channels_last``, contiguous, or as given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.networks.inputs import call, with_tensors

CHANNELS_LAST, CONTIGUOUS, AS_GIVEN = torch.channels_last, torch.contiguous_format, torch.preserve_format


def contiguous(x: Tensor) -> Tensor:
    """A copy of ``x`` in the order of its dimensions.

    ``x.contiguous()`` is not enough: it returns an image with one channel as it is, by pixel or not.
    """
    return x.clone(memory_format=CONTIGUOUS)


def run(module: nn.Module, inputs: Any) -> Any:
    """The outputs of ``module``, computed with contiguous inputs where it refuses their memory format.

    Args:
        module: Any network.
        inputs: One tensor, a tuple of arguments or a dictionary of keyword arguments.
    """
    try:
        return call(module, inputs)
    except RuntimeError:
        if all(contiguous(x).stride() == x.stride() for x in tree_leaves(inputs) if isinstance(x, Tensor)):
            raise
    return call(module, with_tensors(inputs, contiguous))


def in_format(x: Tensor, layout: torch.memory_format) -> Tensor:
    """A batch of images in a memory format; other tensors as they are."""
    if x.ndim != 4 or layout is AS_GIVEN:
        return x
    return contiguous(x) if layout is CONTIGUOUS else x.contiguous(memory_format=layout)


def convert(net: nn.Module, layout: torch.memory_format) -> list[tuple[Tensor, torch.memory_format]]:
    """Change the memory format of 4-d parameters and buffers in place; returns them with their old format.

    ``nn.Module.to`` would also change 5-d ones, for which torch has another format.
    """
    moved = []
    for tensor in (*net.parameters(), *net.buffers()) if layout is not AS_GIVEN else ():
        if tensor.ndim == 4:
            new = contiguous(tensor.data) if layout is CONTIGUOUS else tensor.data.to(memory_format=layout)
            if new.stride() != tensor.stride():
                last = tensor.is_contiguous(memory_format=CHANNELS_LAST) and not tensor.is_contiguous()
                moved.append((tensor, CHANNELS_LAST if last else CONTIGUOUS))
                tensor.data = new
    return moved
