"""Calibration inputs: taken from a loader's batches, and shared out between deciding and measuring.

Labels are not needed. Where a batch holds them, they say which positions are terms.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.errors import DataError, InputError
from laconic.methods.layerwise.calibration_checks import check_calls, check_values
from laconic.networks import call as run
from laconic.networks import inference, is_nested, to_device, with_tensors
from laconic.tasks import Task
from laconic.text import counted

TOGETHER, TOGETHER_BYTES = 256, 1 << 21
"""Examples that run in one call, and bytes of their inputs, where batches of one shape are joined.

A larger batch is split: what a network computes from an image takes tens of times its bytes.
"""


@dataclass(frozen=True, eq=False)
class Calls:
    """Calls of a network: their inputs, and which positions of their outputs are terms (None: all).

    Args:
        inputs: The inputs of each call.
        counted: For each call, booleans of the target's shape, or None.
        examples: Examples in all.
        targets: The labels of each call; empty where any call has none, or nobody asked for them.
    """

    inputs: tuple[Any, ...]
    counted: tuple[Any, ...]
    examples: int
    targets: tuple[Any, ...] = ()


def calibration_calls(
    module: nn.Module,
    batches: Iterable[Any],
    task: Task,
    examples: int,
    held_out: float,
    seed: int,
    *,
    labels: bool = False,
) -> tuple[Calls, Calls]:
    """The calls that decide, and those that measure; no example is in both.

    Args:
        module: The network.
        batches: Inputs alone, or inputs with labels, as the network and the task take them.
        task: What the network is for.
        examples: How many examples are used, the first of ``batches``.
        held_out: Share of them that measures.
        seed: Which of a batch's examples measure.
        labels: Whether the calls keep their labels.

    Returns:
        Calls that decide, and calls that measure.

    Raises:
        DataError: No batch, one example alone (nothing is left to measure on), inputs that are NaN or
            infinite, or all of whose numbers are equal.
        InputError: ``labels``, and a batch that has none.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    parts: tuple[list[_Part], list[_Part]] = ([], [])
    used = 0
    for number, whole in enumerate(_taken(module, batches, task, examples, labels=labels)):
        inputs, mask, target = to_device((whole.inputs, whole.counted, whole.target), device)
        whole = _Part(inputs, mask, target, whole.examples)
        used += whole.examples
        for part, index in zip(parts, _shared_out(whole.examples, held_out, number, generator), strict=True):
            if len(index):
                part.append(_some(whole, task.batch_axis, index))
    if not used:
        raise _no_batch()
    if held_out > 0 and not parts[1]:
        _take_one(parts, task.batch_axis)
    deciding, measuring = (_joined(part, task.batch_axis) for part in parts)
    check_values([*deciding.inputs, *measuring.inputs])
    check_calls(module, [*deciding.inputs, *measuring.inputs])
    return (deciding if deciding.examples else measuring), (measuring if measuring.examples else deciding)


def _take_one(parts: tuple[list[_Part], list[_Part]], axis: int) -> None:
    """Give the last example to the calls that measure, where all calls were too small to share."""
    deciding, measuring = parts
    last = deciding.pop()
    if last.examples > 1 and not is_nested(last.inputs):
        order = torch.arange(last.examples)
        deciding.append(_some(last, axis, order[:-1]))
        last = _some(last, axis, order[-1:])
    if not deciding:
        raise DataError(
            f"the calibration batches ({counted(last.examples, 'example')}) cannot be shared out: the "
            "divergence is measured on inputs that decided nothing. "
            "Cure: some hundred inputs, in several batches"
        )
    measuring.append(last)


def first_inputs(module: nn.Module, batches: Iterable[Any], task: Task) -> Any:
    """The inputs of the first batch; raises DataError where there is none."""
    for part in _taken(module, batches, task, 1, whole=True):
        return part.inputs
    raise _no_batch()


def _no_batch() -> DataError:
    return DataError("the calibration loader gave no example. Cure: check its data set and batch size")


class _Part(NamedTuple):
    inputs: Any
    counted: Any
    target: Any
    examples: int


def _some(part: _Part, axis: int, index: Tensor) -> _Part:
    inputs, mask = some_examples(part.inputs, part.counted, axis, part.examples, index)
    if is_nested(part.inputs):
        return _Part(inputs, mask, part.target, len(index))
    return _Part(inputs, mask, some_targets(part.target, axis, part.examples, index), len(index))


def _taken(
    module: nn.Module,
    batches: Iterable[Any],
    task: Task,
    examples: int,
    *,
    whole: bool = False,
    labels: bool = False,
) -> Iterator[_Part]:
    """The first examples (``whole`` batches), with which positions are terms where labels say so.

    Batches without an example are passed over.
    """
    left = examples
    for batch in batches:
        inputs, mask, target = _split(module, batch, task)
        size = examples_of(inputs, task.batch_axis)
        if not size:
            continue
        if labels and target is None:
            raise _no_labels()
        part = _Part(inputs, mask, target if labels else None, size)
        if size > left and not whole and not is_nested(inputs):
            part = _some(part, task.batch_axis, torch.arange(left))
        yield part
        left -= size
        if left <= 0:
            return


def _no_labels() -> InputError:
    return InputError(
        "refine.labels needs labels, and a calibration batch has none. "
        "Cure: batches (inputs, labels), or refine.labels=0"
    )


def _split(module: nn.Module, batch: Any, task: Task) -> tuple[Any, Any, Any]:
    """A batch's inputs, which positions are terms, and its labels; a batch without labels is all inputs."""
    parameters = inspect.signature(module.forward).parameters.values()
    if isinstance(batch, Mapping):
        target = batch.get(task.target) if isinstance(task.target, str) else None
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return batch, None, target
        known = {p.name for p in parameters}
        return {name: value for name, value in batch.items() if name in known}, None, target
    if not isinstance(batch, tuple | list):
        if not isinstance(batch, Tensor):
            raise DataError(f"a calibration batch is a {type(batch).__name__}. Cure: torch.as_tensor")
        return batch, None, None
    asked = [p for p in parameters if p.default is p.empty]
    wanted = [p for p in asked if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(batch) <= max(1, len(wanted)):
        return (batch[0] if len(batch) == 1 else tuple(batch)), None, None
    parts = task.split(batch)
    if not any(isinstance(x, Tensor) for x in tree_leaves(parts.target)):
        return parts.inputs, None, None  # labels are not needed, and these say nothing of positions
    return parts.inputs, task.counted(parts.target), parts.target


def examples_of(inputs: Any, axis: int) -> int:
    """The number of examples in a call's tensors: the first one's size along ``axis``, else 1."""
    sizes = [x.shape[axis] for x in tree_leaves(inputs) if isinstance(x, Tensor) and x.ndim > axis]
    return int(sizes[0]) if sizes else 1


def _shared_out(size: int, held_out: float, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positions that decide and positions that measure; of a batch too small to share, all or none."""
    order = torch.randperm(size, generator=generator)
    measuring = round(held_out * size)
    if measuring == 0 and held_out > 0:
        every = max(2, round(1 / (held_out * size)))
        measuring = size if number % every == every - 1 else 0
    return order[measuring:].sort().values, order[:measuring].sort().values


def some_examples(inputs: Any, mask: Any, axis: int, size: int, index: Tensor) -> tuple[Any, Any]:
    """Some examples of a call; what has another size along the axis is no part of an example.

    Args:
        inputs: The call's inputs; nested ones (states of a recurrent layer) stay whole.
        mask: Which positions are terms, or None.
        axis: The axis of the examples.
        size: How many examples the call has.
        index: Those that are wanted.

    Returns:
        Inputs and mask of these.

    >>> some_examples(torch.arange(3), None, 0, 3, torch.tensor([2]))
    (tensor([2]), None)
    """
    if is_nested(inputs) or len(index) == size:
        return inputs, mask

    def some(x: Tensor) -> Tensor:
        return x.index_select(axis, index.to(x.device)) if x.ndim > axis and x.shape[axis] == size else x

    return with_tensors(inputs, some), None if mask is None else _sliced_mask(mask, axis, size, index)


def some_targets(target: Any, axis: int, size: int, index: Tensor) -> Any:
    """The labels of some examples of a call: along ``axis`` or the first one, where they have ``size``.

    >>> some_targets(torch.arange(3), 0, 3, torch.tensor([2]))
    tensor([2])
    """
    if len(index) == size:
        return target
    return with_tensors(target, lambda x: _sliced_mask(x, axis, size, index))


def _sliced_mask(mask: Tensor, axis: int, size: int, index: Tensor) -> Tensor:
    """Some examples' terms: examples are stacked in the target as in the inputs, or along its first axis."""
    for along in (axis, 0):
        if mask.ndim > along and mask.shape[along] == size:
            return mask.index_select(along, index.to(mask.device))
    raise DataError(
        f"a calibration batch has {counted(size, 'example')} and labels of the shape {tuple(mask.shape)}. "
        "Cure: as many labels as inputs, or inputs alone"
    )


def _joined(parts: Sequence[_Part], axis: int) -> Calls:
    """Parts of one shape as one call, up to ``TOGETHER`` examples; larger ones in pieces."""
    groups: dict[Any, list[_Part]] = {}
    closed: list[list[_Part]] = []
    for part in (piece for whole in parts for piece in _pieces(whole, axis)):
        key = _shape_of(part, axis)
        if key is None:
            closed.append([part])
            continue
        open_group = groups.setdefault(key, [])
        if open_group and sum(p.examples for p in open_group) + part.examples > _most(part, axis):
            closed.append(open_group)
            groups[key] = open_group = []
        open_group.append(part)
    calls = [_one(group, axis) for group in (*closed, *groups.values()) if group]
    return Calls(
        tuple(c.inputs for c in calls),
        tuple(c.counted for c in calls),
        sum(c.examples for c in calls),
        () if any(c.target is None for c in calls) else tuple(c.target for c in calls),
    )


def _pieces(part: _Part, axis: int) -> Iterator[_Part]:
    """A part in pieces that each run in one call; whole where its examples cannot be told apart."""
    most = part.examples if is_nested(part.inputs) else _most(part, axis)
    if part.examples <= most:
        yield part
        return
    for index in torch.split(torch.arange(part.examples), most):
        yield _some(part, axis, index)


def _most(part: _Part, axis: int) -> int:
    """Examples like those of a part that run in one call."""
    tensors = [x for x in tree_leaves(part.inputs) if isinstance(x, Tensor) and x.ndim > axis]
    size = sum(x.numel() * x.element_size() for x in tensors if x.shape[axis] == part.examples)
    return max(1, min(TOGETHER, TOGETHER_BYTES * part.examples // max(1, size)))


def _shape_of(part: _Part, axis: int) -> Any:
    """What parts that may be joined have in common; None for a part that is not joined."""
    names = tuple(part.inputs) if isinstance(part.inputs, Mapping) else None
    tensors = [part.inputs] if isinstance(part.inputs, Tensor) else part.inputs
    tensors = list(tensors.values()) if isinstance(tensors, Mapping) else tensors
    if not isinstance(tensors, list | tuple) or axis != 0:
        return None
    if not all(isinstance(x, Tensor) and x.ndim and len(x) == part.examples for x in tensors):
        return None
    mask = None if part.counted is None else tuple(part.counted.shape[1:])
    if part.target is not None and not _stacked(part.target, part.examples):
        return None
    target = None if part.target is None else (part.target.shape[1:], part.target.dtype)
    form = names if names is not None else isinstance(part.inputs, Tensor)
    return form, tuple((x.shape[1:], x.dtype) for x in tensors), mask, target


def _stacked(target: Any, examples: int) -> bool:
    return isinstance(target, Tensor) and target.ndim > 0 and len(target) == examples


def _one(group: list[_Part], axis: int) -> _Part:
    if len(group) == 1:
        return group[0]
    examples = sum(part.examples for part in group)
    mask = None if group[0].counted is None else torch.cat([part.counted for part in group])
    target = None if group[0].target is None else torch.cat([part.target for part in group])
    if isinstance(group[0].inputs, Tensor):
        return _Part(torch.cat([part.inputs for part in group], axis), mask, target, examples)
    if isinstance(group[0].inputs, Mapping):
        named = {name: torch.cat([part.inputs[name] for part in group], axis) for name in group[0].inputs}
        return _Part(named, mask, target, examples)
    columns = zip(*(part.inputs for part in group), strict=True)
    return _Part(tuple(torch.cat(column, axis) for column in columns), mask, target, examples)


def has_target(module: nn.Module, batches: Iterable[Any], task: Task) -> bool:
    """Whether the first batch holds a target beside the network's inputs."""
    first = next(iter(batches), None)
    return first is not None and _split(module, first, task)[2] is not None


def learnt_of(
    module: nn.Module, task: Task, batches: Callable[[], Iterable[Any]] | None
) -> Mapping[str, Tensor]:
    """The likelihood's own parameters, as a noise that is learnt, from the first batch with a target.

    Raises InputError where the task has some and no batch has a target.
    """
    start = dict(task.learnt(None))
    if not start:
        return {}
    for batch in batches() if batches is not None else ():
        if isinstance(batch, tuple | list) and len(batch) > 1:
            device = next((p.device for p in module.parameters()), torch.device("cpu"))
            parts = task.split(to_device(batch, device))
            with inference():
                return dict(task.learnt(parts.target, task.prediction(run(module, parts.inputs))))
    raise InputError(
        f"{type(task).__name__} learns {', '.join(start)} from targets, and the calibration batches have "
        "none. Cure: give it, as Regression(noise=0.5), or batches (inputs, targets)"
    )
