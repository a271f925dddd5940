"""The memory format of training: ``channels_last`` where a network runs with it, contiguous elsewhere.

``channels_last`` is faster on a CPU, but a network that flattens with ``.view`` refuses it. The format is
chosen at the first batch by running a copy of the network; the network itself is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from laconic.errors import ModelError
from laconic.networks import call, duplicate, with_tensors
from laconic.networks.layout import AS_GIVEN, CHANNELS_LAST, CONTIGUOUS, convert, in_format
from laconic.train.randomness import kept_generators


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
            moved.extend(convert(net, chosen[0]))
        return with_tensors(inputs, lambda x: in_format(x, chosen[0]))

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
    convert(twin, layout)
    with kept_generators(), torch.no_grad():
        try:
            call(twin, with_tensors(inputs, lambda x: in_format(x, layout)))
        except RuntimeError:
            return False
    return True
