"""What calibration inputs are refused for: their numbers, or that the network does not take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.errors import DataError, at
from laconic.networks import call as run
from laconic.networks import inference
from laconic.networks.probe import check_model
from laconic.text import counted


def check_values(inputs: Sequence[Any]) -> None:
    """Refuse numbers that are not finite, and inputs that are all alike: they show nothing of the network.

    Args:
        inputs: The inputs of each call.

    Raises:
        DataError: Such inputs.

    >>> check_values([torch.eye(2)])
    """
    tensors = [x for x in tree_leaves(inputs) if isinstance(x, Tensor) and x.numel()]
    floats = [x for x in tensors if x.is_floating_point()]
    for x in floats:
        bad = int((~torch.isfinite(x)).sum())
        if bad:
            raise DataError(
                f"the calibration batches hold {counted(bad, 'number')} that are NaN or infinite. "
                "Cure: look for them in the data, or for a scale that divides by zero"
            )
    if floats and len(floats) == len(tensors):
        lowest, highest = min(float(x.min()) for x in floats), max(float(x.max()) for x in floats)
        if lowest == highest:
            raise DataError(
                f"all inputs of the calibration batches are {lowest:g}: they show nothing of the network. "
                "Cure: inputs like those that it will get, a few hundred of them"
            )


def check_calls(module: nn.Module, inputs: Sequence[Any]) -> None:
    """Run the network once on inputs of each shape.

    Args:
        module: The network.
        inputs: The inputs of each call.

    Raises:
        ModelError, InputError: A network that does not take them.

    >>> check_calls(nn.Linear(2, 1), [torch.eye(2)])
    """
    seen: set[Any] = set()
    for one in inputs:
        shapes = tuple((x.shape[1:], x.dtype) for x in tree_leaves(one) if isinstance(x, Tensor))
        if shapes in seen:
            continue
        seen.add(shapes)
        try:
            with inference():
                run(module, one)
        except Exception:
            with at("a calibration batch"):
                check_model(module, one)
            raise
