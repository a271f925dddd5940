r"""Vectors in the outputs whose second moment is the likelihood's Hessian there.

With vectors v of an example, :math:`\sum_v v v^\top = H`, the backward pass of each gives a gradient
:math:`J^\top v`, and their outer products sum to the generalised Gauss-Newton matrix
:math:`J^\top H J`, which is the Fisher information here. Examples of one backward pass have independent
signs, so that the square of their common gradient is unbiased.

Sources: Schraudolph, Neural Computation 2002; Martens, JMLR 2020; Bekas, Kokiopoulou & Saad 2007 (signs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from laconic.bayes.laplace.settings import FisherSettings
from laconic.errors import InputError
from laconic.networks import is_nested, with_tensors
from laconic.tasks.predictive import Gaussian, Predictive
from laconic.tasks.task import Task

Vectors = Callable[[Tensor, Any], Iterator[Tensor]]
"""From the outputs of some examples, and their target or None, to vectors of the outputs' shape."""


def predictive_of(task: Task | None, outputs: Tensor, target: Any, temperature: float) -> Predictive:
    """What the outputs say of targets; outputs without a task have squared error.

    A regression whose noise is learnt takes it from the residuals of these targets, 1 without targets. Raises
    InputError for a task whose targets' distribution is not known.
    """
    if task is None:
        return Gaussian(temperature=temperature)
    found = task.predictive(**({} if target is None else task.learnt(target, outputs)))
    if found is None:
        raise InputError(
            f"{type(task).__name__} does not say how its targets are distributed. Cure: define its "
            "predictive(), or kind='empirical' with labels"
        )
    return found.at(temperature)


def vectors_of(
    kind: str,
    settings: FisherSettings,
    task: Task | None,
    predictive: Predictive | None,
    draw: torch.Generator,
) -> Vectors:
    """The function that gives the vectors of one estimate."""
    if kind == "empirical":
        return lambda outputs, target: _at_labels(task, outputs, target)
    if predictive is None:
        raise InputError(
            "an estimate without labels needs the targets' distribution. Cure: "
            "predictive=predictive_of(task, outputs, target, temperature)"
        )

    def vectors(outputs: Tensor, target: Any) -> Iterator[Tensor]:
        counted = None if task is None or target is None else task.counted(target)
        directions = _unit(outputs) if kind == "exact" else _signs(outputs, settings.draws, draw)
        for direction in directions:
            vector = predictive.masked(predictive.root(outputs, direction), counted)
            if bool(vector.any()):
                yield vector

    return vectors


def _at_labels(task: Task | None, outputs: Tensor, target: Any) -> Iterator[Tensor]:
    if task is None or target is None:
        raise InputError(
            "the empirical Fisher information needs a task and labels. Cure: task=... and batches with "
            "targets, or kind='sampled'"
        )
    z = outputs.detach().requires_grad_(True)
    yield torch.autograd.grad(task.nll(z, target, **task.learnt(target, z)), z)[0]


def _unit(outputs: Tensor) -> Iterator[Tensor]:
    for k in range(outputs.numel()):
        e = torch.zeros(outputs.numel(), dtype=outputs.dtype, device=outputs.device)
        e[k] = 1
        yield e.reshape(outputs.shape)


def _signs(outputs: Tensor, draws: int, draw: torch.Generator) -> Iterator[Tensor]:
    for _ in range(draws):
        yield (torch.randint(0, 2, outputs.shape, generator=draw).to(outputs) * 2 - 1) / draws**0.5


# --- examples of a batch -----------------------------------------------------------------------------


def examples_in(inputs: Any, axis: int) -> int:
    """The number of examples of a batch: the length of its first tensor along an axis. Raises InputError."""
    for leaf in tree_leaves(inputs):
        if isinstance(leaf, Tensor) and leaf.ndim > axis:
            return leaf.shape[axis]
    raise InputError(f"a calibration batch holds no tensor with an axis {axis}. Cure: tensors as in training")


def pieces(inputs: Any, target: Any, axis: int, size: int) -> Iterator[tuple[Any, Any]]:
    """A batch in pieces of so many examples; whole where it cannot be cut along the axis.

    Raises InputError where single examples are wanted of a batch that cannot be cut.
    """
    count = examples_in(inputs, axis)
    if count <= size:
        yield inputs, target
        return
    tensors = [t for t in tree_leaves(inputs) if isinstance(t, Tensor) and t.ndim > axis]
    whole = is_nested(inputs) or any(t.shape[axis] != count for t in tensors)
    if whole or (isinstance(target, Tensor) and (not target.ndim or len(target) != count)):
        if size == 1:
            raise InputError(
                f"a batch of {count} examples cannot be cut along axis {axis}: its tensors differ in that "
                "axis or are nested. Cure: batches of one example, or kind='sampled'"
            )
        yield inputs, target
        return
    for start in range(0, count, size):
        length = min(size, count - start)

        def cut(t: Tensor, start: int = start, length: int = length) -> Tensor:
            return t.narrow(axis, start, length) if t.ndim > axis else t

        piece = with_tensors(inputs, cut)
        yield piece, target[start : start + length] if isinstance(target, Tensor) else target
