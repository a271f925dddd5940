"""The tensor that a task is about in what a network returns. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

PREDICTIONS = ("logits", "last_hidden_state", "out")
"""Names of predictions, as Hugging Face's networks and torchvision's segmentation networks have them."""


def main_tensor(returned: Any) -> Any:
    """The prediction among the things that a network returns by name: in a dictionary or a dataclass.

    Args:
        returned: What the network returned, tensors of any library.

    Returns:
        The first that there is of ``PREDICTIONS``; else the only tensor, if there is one alone; else, and for
        anything but a dictionary or a dataclass, ``returned`` itself.

    Source: transformers.utils.ModelOutput, whose fields without a value are None.

    >>> import numpy as np
    >>> main_tensor({"loss": np.zeros(()), "logits": np.ones((1, 2))}).shape
    (1, 2)
    >>> main_tensor({"embedding": np.zeros(3), "states": None}).shape, main_tensor((1, 2))
    ((3,), (1, 2))
    """
    fields = _by_name(returned)
    tensors = {name: value for name, value in fields.items() if _is_tensor(value)}
    for name in PREDICTIONS:
        if name in tensors:
            return tensors[name]
    return next(iter(tensors.values())) if len(tensors) == 1 else returned


def _by_name(returned: Any) -> Mapping[Any, Any]:
    if _is_tensor(returned) or isinstance(returned, type):
        return {}
    if isinstance(returned, Mapping):
        return returned
    if dataclasses.is_dataclass(returned):
        return {field.name: getattr(returned, field.name) for field in dataclasses.fields(returned)}
    return {}


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")
