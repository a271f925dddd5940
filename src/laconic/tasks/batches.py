"""How a batch becomes a network's inputs and a target, by position or by name; shapes are not looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from laconic.errors import DataError

Target = str | int | None


class Batch(NamedTuple):
    """A batch, split.

    Args:
        inputs: What the network is called with: one tensor, a tuple of positional arguments, or a dictionary
            of keyword arguments.
        target: What its outputs are compared with.

    >>> Batch(inputs="image", target="label").target
    'label'
    """

    inputs: Any
    target: Any


def split(batch: Any, target: Target = None, inputs: tuple[str, ...] | None = None) -> Batch:
    """The inputs and the target of a batch.

    Of a tuple or list, the target is the entry at ``target`` (None: the last) and the others are the inputs;
    one input that is itself a tuple or a dictionary is the network's arguments. Of a dictionary, ``target``
    is a key, and ``inputs`` are the keys of the inputs (None: all others).

    Args:
        batch: A tuple, list or dictionary of tensors.
        target: Where the target stands.
        inputs: Which keys are inputs.

    Returns:
        The batch, split.

    Raises:
        DataError: A batch of another kind, or one that lacks the target or an input.

    >>> split(("image", "label"))
    Batch(inputs='image', target='label')
    >>> split(("left", "right", "label")).inputs
    ('left', 'right')
    >>> split({"ids": 1, "mask": 2, "labels": 3}, "labels")
    Batch(inputs={'ids': 1, 'mask': 2}, target=3)
    """
    if isinstance(batch, Mapping):
        return _of_mapping(batch, target, inputs)
    if not isinstance(batch, tuple | list):
        raise DataError(
            f"a batch is a {type(batch).__name__}, not (inputs, target). "
            "Cure: a tuple whose last entry is the target, or a dictionary and the task's target=KEY"
        )
    if isinstance(target, str):
        raise DataError(
            f"the task's target is the key {target!r}, but a batch is a {type(batch).__name__}. Cure: "
            "target=None, or batches that are dictionaries"
        )
    place = len(batch) - 1 if target is None else target
    if len(batch) < 2 or not -len(batch) <= place < len(batch):
        raise DataError(
            f"a batch has {len(batch)} entries, the target is number {place}. Cure: (inputs, target)"
        )
    rest = [part for k, part in enumerate(batch) if k != place % len(batch)]
    if len(rest) > 1:
        return Batch(tuple(rest), batch[place])
    only = rest[0]
    return Batch(tuple(only) if isinstance(only, list) else only, batch[place])


def _of_mapping(batch: Mapping[Any, Any], target: Target, inputs: tuple[str, ...] | None) -> Batch:
    keys = ", ".join(map(repr, batch))
    if not isinstance(target, str):
        raise DataError(
            f"a batch is a dictionary of {keys}, and which of them is the target was not said. "
            "Cure: the task's target=KEY"
        )
    wanted = (target, *(inputs or ()))
    for key in wanted:
        if key not in batch:
            raise DataError(f"a batch has no {key!r}. Cure: one of {keys}")
    chosen = inputs if inputs is not None else tuple(k for k in batch if k != target)
    return Batch({key: batch[key] for key in chosen}, batch[target])


def as_arrays(tree: Any) -> Any:
    """Tensors as NumPy arrays, in tuples, lists and dictionaries too; 16-bit floats become float32.

    Args:
        tree: Outputs, targets or a whole batch.

    Returns:
        The same structure; tuples and lists become tuples.

    >>> import torch
    >>> as_arrays({"x": torch.ones(2, dtype=torch.bfloat16)})["x"].dtype
    dtype('float32')
    """
    import torch  # tasks that score arrays do without

    if isinstance(tree, torch.Tensor):
        value = tree.detach()
        value = value.float() if value.dtype in (torch.bfloat16, torch.float16) else value
        return np.asarray(value.cpu())
    if isinstance(tree, Mapping):
        return {key: as_arrays(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(as_arrays(value) for value in tree)
    return tree
