"""Batches that a refinement trains on: random examples of the calibration calls, augmented and mixed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves

from laconic.errors import InputError
from laconic.methods.layerwise.calibration import Calls, some_examples, some_targets
from laconic.networks import with_tensors

Augment = Callable[[Any, torch.Generator], Any]
"""(inputs of a call, generator) to inputs of the same shapes and types, with the same meaning."""


class TrainingBatch(NamedTuple):
    """Examples of one step.

    Attributes:
        inputs: What the network is called with.
        counted: Which positions are terms (None: all).
        unmixed: The same inputs before they were mixed with each other.
        target: The labels of ``unmixed``; None where there are none.
    """

    inputs: Any
    counted: Any
    unmixed: Any
    target: Any


def training_batches(
    calls: Calls,
    axis: int,
    batch: int,
    mix: float,
    augment: Augment | None,
    generator: torch.Generator,
) -> Iterator[TrainingBatch]:
    """Batches without end: random examples of random calls.

    Args:
        calls: The calls.
        axis: The axis of their inputs along which examples are stacked.
        batch: Examples in a batch; fewer where a call has fewer.
        mix: How much of another example is mixed into each, at most; only where inputs are floating-point
            numbers and all positions are terms.
        augment: Changes the inputs first, see :data:`Augment`.
        generator: Of all that is random.

    Yields:
        Batches.

    Raises:
        InputError: An augmentation that changes shapes or types, or gives NaN or infinity.

    >>> calls = Calls((torch.eye(4),), (None,), 4)
    >>> batches = training_batches(calls, 0, 2, 0.0, None, torch.Generator().manual_seed(0))
    >>> next(batches).inputs.shape
    torch.Size([2, 4])
    """
    sizes = torch.tensor([float(size) for size in _sizes(calls, axis)])
    while True:
        k = int(torch.multinomial(sizes, 1, generator=generator))
        size = int(sizes[k])
        index = torch.randperm(size, generator=generator)[:batch]
        unmixed, mask = some_examples(calls.inputs[k], calls.counted[k], axis, size, index)
        target = some_targets(calls.targets[k], axis, size, index) if calls.targets else None
        if augment is not None:
            unmixed = augmented(unmixed, augment, generator)
        inputs = unmixed
        if mix > 0 and len(index) > 1 and (mask is None or bool(mask.all())):
            inputs = _mixed(unmixed, axis, len(index), mix, generator)
        yield TrainingBatch(inputs, mask, unmixed, target)


def augmented(inputs: Any, augment: Augment, generator: torch.Generator) -> Any:
    """Inputs that a caller's function has changed, checked; the function gets a copy.

    The global generator of the CPU is seeded from ``generator`` meanwhile, and is as before afterwards.

    Args:
        inputs: The inputs of a call.
        augment: The function.
        generator: What it draws from.

    Returns:
        What it returned.

    Raises:
        InputError: A function that raises; other shapes or types than before, or NaN or infinity.

    >>> augmented(torch.ones(2), lambda x, generator: 2 * x, torch.Generator())
    tensor([2., 2.])
    """
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # many transforms draw from the global generator
        try:
            returned = augment(with_tensors(inputs, torch.clone), generator)
        except Exception as error:
            raise InputError(
                f"refine.augment raised {type(error).__name__}: {error}. Cure: a function (inputs, "
                "generator) that takes the inputs of one call and returns as many"
            ) from error
        found = with_tensors(returned, _same)
    before, after = (tree_flatten(tree) for tree in (with_tensors(inputs, _same), found))
    if before[1] != after[1]:
        raise InputError(
            f"refine.augment returned a {type(found).__name__} of another structure than the inputs "
            f"({type(inputs).__name__}). Cure: return what it was given, with other values"
        )
    for old, new in zip(before[0], after[0], strict=True):
        if isinstance(old, Tensor):
            _check_tensor(old, new)
    return found


def _same(x: Tensor) -> Tensor:
    return x


def _check_tensor(old: Tensor, new: Any) -> None:
    if not isinstance(new, Tensor) or (new.shape, new.dtype, new.device) != (
        old.shape,
        old.dtype,
        old.device,
    ):
        told = _told(new) if isinstance(new, Tensor) else f"a {type(new).__name__}"
        raise InputError(
            f"refine.augment made {told} of inputs {_told(old)}. Cure: keep shape, type and device"
        )
    if new.is_floating_point() and not bool(torch.isfinite(new).all()):
        bad = int((~torch.isfinite(new)).sum())
        raise InputError(
            f"refine.augment gave {bad} values that are NaN or infinite, in a tensor {_told(new)}. "
            "Cure: look for a division by zero in it"
        )


def _told(x: Tensor) -> str:
    return f"{tuple(x.shape)} of {x.dtype} on {x.device}"


def _sizes(calls: Calls, axis: int) -> list[int]:
    """Examples of each call."""
    leaves = [
        [x for x in tree_leaves(one) if isinstance(x, Tensor) and x.ndim > axis] for one in calls.inputs
    ]
    return [int(found[0].shape[axis]) if found else 1 for found in leaves]


def _mixed(inputs: Any, axis: int, size: int, mix: float, generator: torch.Generator) -> Any:
    """Each example with a share, up to ``mix``, of another one of its batch."""
    tensors = [x for x in tree_leaves(inputs) if isinstance(x, Tensor)]
    if not all(x.is_floating_point() and x.ndim > axis and x.shape[axis] == size for x in tensors):
        return inputs
    other = torch.randperm(size, generator=generator)
    share = mix * torch.rand(size, generator=generator)

    def mixed(x: Tensor) -> Tensor:
        a = share.to(x).reshape([-1 if k == axis else 1 for k in range(x.ndim)])
        return x + a * (x.index_select(axis, other.to(x.device)) - x)

    return with_tensors(inputs, mixed)
