"""Memory layouts: images by pixel (channels_last) where a network can run so, plain where it cannot.

By pixel is faster on a CPU, but a network that flattens with ``.view`` refuses it. Which layout serves shows
at the first batch, on a copy of the network: nothing of the network itself moves.
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

BY_PIXEL, PLAIN, AS_GIVEN = torch.channels_last, torch.contiguous_format, torch.preserve_format


def plain(x: Tensor) -> Tensor:
    """A copy of ``x`` in the order of its dimensions.

    ``x.contiguous()`` is not enough: it returns an image with one channel as it is, by pixel or not.
    """
    return x.clone(memory_format=PLAIN)


def run(module: nn.Module, inputs: Any) -> Any:
    """The outputs of ``module``, computed a second time with inputs laid out plainly if it refuses their
    layout.

    Args:
        module: Any network.
        inputs: One tensor, a tuple of arguments or a dictionary of keyword arguments.
    """
    try:
        return call(module, inputs)
    except RuntimeError:
        if all(plain(x).stride() == x.stride() for x in tree_leaves(inputs) if isinstance(x, Tensor)):
            raise
    return call(module, with_tensors(inputs, plain))


@contextmanager
def laid_out(net: nn.Module, by_pixel: bool) -> Iterator[Callable[[Any], Any]]:
    """A function that lays a batch out; at its first call the network follows, until the block ends.

    Without ``by_pixel`` batches stay as they are given, unless only plain ones fit the network.
    """
    chosen: list[torch.memory_format] = []
    moved: list[tuple[Tensor, torch.memory_format]] = []

    def lay_out(inputs: Any) -> Any:
        if not chosen:
            wanted = BY_PIXEL if by_pixel else AS_GIVEN
            chosen.append(wanted if _runs(net, inputs, wanted) else PLAIN)
            moved.extend(_convert(net, chosen[0]))
        return with_tensors(inputs, lambda x: _batch(x, chosen[0]))

    try:
        yield lay_out
    finally:
        for tensor, before in moved:
            # Weights of one channel are in both layouts at once, and stay as they lie: a convolution's last
            # bits depend on it.
            tensor.data = tensor.data.contiguous(memory_format=before)


def _runs(net: nn.Module, inputs: Any, layout: torch.memory_format) -> bool:
    """Whether a copy of ``net``, in its present mode, takes these inputs in this layout."""
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
    return plain(x) if layout is PLAIN else x.contiguous(memory_format=layout)


def _convert(net: nn.Module, layout: torch.memory_format) -> list[tuple[Tensor, torch.memory_format]]:
    """Lay 4-d parameters and buffers out, in place; returns those that moved, each with its old layout.

    ``nn.Module.to`` would also touch 5-d ones, which have no layout by this name.
    """
    moved = []
    for tensor in (*net.parameters(), *net.buffers()) if layout is not AS_GIVEN else ():
        if tensor.ndim == 4:
            new = plain(tensor.data) if layout is PLAIN else tensor.data.to(memory_format=layout)
            if new.stride() != tensor.stride():
                pixels = tensor.is_contiguous(memory_format=BY_PIXEL) and not tensor.is_contiguous()
                moved.append((tensor, BY_PIXEL if pixels else PLAIN))
                tensor.data = new
    return moved
