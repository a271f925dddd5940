"""Memory formats: ``channels_last`` where a network runs with it, contiguous elsewhere.

``channels_last`` is faster on a CPU, but a network that flattens with ``.view`` refuses it. The format is
chosen at the first batch by running a copy of the network; the network itself is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.errors import ModelError
from laconic.networks import call, duplicate, with_tensors
from laconic.train.randomness import kept_generators

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


@contextmanager
def laid_out(net: nn.Module, channels_last: bool) -> Iterator[Callable[[Any], Any]]:
    """A function that gives a batch the chosen memory format; the network has it, too, until the block ends.

    Without ``channels_last`` batches keep the format that they have, unless the network takes only contiguous
    ones.
    """
    chosen: list[torch.memory_format] = []
    moved: list[tuple[Tensor, torch.memory_format]] = []

    def lay_out(inputs: Any) -> Any:
        if not chosen:
            wanted = CHANNELS_LAST if channels_last else AS_GIVEN
            chosen.append(wanted if _runs(net, inputs, wanted) else CONTIGUOUS)
            moved.extend(_convert(net, chosen[0]))
        return with_tensors(inputs, lambda x: _batch(x, chosen[0]))

    try:
        yield lay_out
    finally:
        for tensor, before in moved:
            # Weights of one channel have both formats at once and keep their strides, on which the last bits
            # of a convolution depend.
            tensor.data = tensor.data.contiguous(memory_format=before)


def _runs(net: nn.Module, inputs: Any, layout: torch.memory_format) -> bool:
    """Whether a copy of ``net``, in its present mode, takes these inputs in this memory format."""
    try:
        twin = duplicate(net)
    except ModelError:
        return False
    _convert(twin, layout)
    with kept_generators(), torch.no_grad():
        try:
            call(twin, with_tensors(inputs, lambda x: _batch(x, layout)))
        except RuntimeError:
            return False
    return True


def _batch(x: Tensor, layout: torch.memory_format) -> Tensor:
    if x.ndim != 4 or layout is AS_GIVEN:
        return x
    return contiguous(x) if layout is CONTIGUOUS else x.contiguous(memory_format=layout)


def _convert(net: nn.Module, layout: torch.memory_format) -> list[tuple[Tensor, torch.memory_format]]:
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
