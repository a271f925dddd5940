"""Properties of every task, a user's own included, checked on one batch."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from laconic.errors import InputError
from laconic.tasks import Metric, Task
from laconic.testing.requirements import require

RELATIVE = 1e-5
"""Relative difference that is taken for equal: float32 against float64."""


def check_task(task: Task, outputs: Tensor, target: Tensor) -> None:
    """Check all properties of a task on a batch; nothing is drawn at random.

    That is: the task is a frozen dataclass, equal to one made of the same settings. Terms, likelihood and
    metric add up over parts of a batch, so that batches of any size give one number. The likelihood is one
    finite number in nats, computed in 32 bits of 16-bit outputs, with the gradient that finite differences
    give. The distribution of targets, where the task states one, has the likelihood's Hessian. The metric
    leaves its arrays as they are. Without torch the likelihood is the same number, or None.

    Args:
        task: The task.
        outputs: What a network may return for a batch, floating-point, with the examples on axis 0; at least
            2 of them.
        target: The batch's target, with the examples on axis 0.

    Raises:
        AssertionError: A property does not hold; the message names it.
        InputError: A batch of fewer than two examples.

    >>> from laconic.tasks import Classification
    >>> check_task(Classification(), torch.tensor([[2.0, 0.0], [0.5, 1.0]]), torch.tensor([0, 0]))
    """
    if len(outputs) < 2:
        raise InputError(
            f"check_task splits the batch, got {len(outputs)} examples. Cure: two examples or more"
        )
    _check_record(task)
    _check_terms_add_up(task, target)
    _check_nll(task, outputs, target)
    _check_metric(task, outputs, target)
    _check_nats(task, outputs, target)
    _check_gradient(task, outputs, target)
    _check_predictive(task, outputs, target)
    task.check(outputs, target)


def _check_record(task: Task) -> None:
    """The task is a value: a frozen dataclass with a Metric, equal to its copy, hashable."""
    told = f"the class {task.__name__}" if isinstance(task, type) else type(task).__name__
    require(isinstance(task, Task), f"a task is an object of a class that inherits Task (got {told})")
    for kind in type(task).__mro__[: type(task).__mro__.index(Task)]:
        require(_is_record(kind), f"a task is a frozen dataclass ({kind.__name__} has no @dataclass)")
    copy = type(task)(**{f.name: getattr(task, f.name) for f in fields(task) if f.init})
    require(copy == task, "a task made of the same settings is equal")
    require(_hash(copy) == _hash(task), "a task made of the same settings has the same hash")
    require(repr(copy) == repr(task), "a task made of the same settings reads the same")
    require(isinstance(task.metric, Metric), "metric is a laconic.tasks.Metric")
    try:
        task.target = None  # type: ignore[misc]
    except AttributeError:
        return
    require(False, "a task is a frozen dataclass")


def _is_record(kind: type) -> bool:
    """Whether a class is a dataclass itself, or adds no field and no way to be made to those it inherits."""
    if "__dataclass_fields__" in vars(kind):
        return True
    own = [name for name, said in inspect.get_annotations(kind).items() if "ClassVar" not in str(said)]
    return not own and "__init__" not in vars(kind)


def _hash(task: Task) -> int:
    try:
        return hash(task)
    except TypeError as error:
        text = f"a task has a hash ({error}): frozen, its settings tuples and not lists"
        raise AssertionError(f"does not hold: {text}") from error


def _check_terms_add_up(task: Task, target: Tensor) -> None:
    """Terms of a batch: a whole number, the sum of its parts', and the same of a NumPy array."""
    terms = task.terms(target)
    require(type(terms) is int and terms > 0, f"terms are a positive int (got {terms!r})")
    require(terms == sum(task.terms(part) for part in _halves(target)), "terms add up over batches")
    require(terms == task.terms(target.numpy()), "terms of a tensor and of its NumPy array are equal")
    counted = task.counted(target)
    if counted is not None:
        require(int(counted.sum()) == terms, "counted is True for as many positions as there are terms")


def _check_nll(task: Task, outputs: Tensor, target: Tensor) -> None:
    """The likelihood is one finite number, and a sum over the terms, not a mean."""
    learnt = task.learnt(target)
    whole = task.nll(outputs, target, **learnt)
    require(whole.numel() == 1, f"nll is one number (got shape {tuple(whole.shape)})")
    require(math.isfinite(float(whole)), f"nll is finite (got {float(whole)})")
    parts = zip(_halves(outputs), _halves(target), strict=True)
    total = sum(float(task.nll(o, t, **learnt)) for o, t in parts)
    require(
        _close(float(whole), total), f"nll adds up over batches ({float(whole)} of both, {total} one by one)"
    )
    half = task.nll(outputs.bfloat16(), target, **learnt)
    require(half.dtype in (torch.float32, torch.float64), "nll of 16-bit outputs is computed in 32 bits")


def _check_metric(task: Task, outputs: Tensor, target: Tensor) -> None:
    """The metric's statistics add up over batches; the arrays they are computed from stay as they are."""
    arrays = outputs.numpy(), target.numpy()
    before = [a.copy() for a in arrays]
    sums = task.measure(*arrays)
    require(
        isinstance(sums, np.ndarray) and sums.dtype == np.float64, "measure returns a float64 NumPy array"
    )
    same = all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(arrays, before, strict=True)
    )
    require(same, "measure leaves its arguments as they are")
    value = task.value(sums)
    require(type(value) is float and math.isfinite(value), f"the metric is a finite float (got {value!r})")
    parts = [
        task.measure(o.numpy(), t.numpy()) for o, t in zip(_halves(outputs), _halves(target), strict=True)
    ]
    together = task.value(task.add(*parts))
    require(_close(value, together), f"statistics add up over batches ({value} of both, {together} summed)")


def _check_nats(task: Task, outputs: Tensor, target: Tensor) -> None:
    """Without torch, the likelihood is the same number, or None."""
    nats = task.nats(outputs.numpy(), target.numpy())
    if nats is None:
        return
    require(not task.learnt(target), "nats is None where the likelihood has parameters that are learnt")
    nll = float(task.nll(outputs, target))
    require(_close(nll, nats), f"nats equals nll ({nats} and {nll})")


def _check_gradient(task: Task, outputs: Tensor, target: Tensor) -> None:
    """The gradient of nll, by its outputs and what is learnt, is that of finite differences (float64)."""
    learnt = {name: value.double() for name, value in task.learnt(target).items()}
    variables = [v.contiguous() for v in (outputs.double(), *learnt.values())]
    target = target.double() if target.is_floating_point() else target

    def nll(*values: Tensor) -> Tensor:
        return task.nll(values[0], target, **dict(zip(learnt, values[1:], strict=True)))

    leaves = [v.detach().clone().requires_grad_() for v in variables]
    found = torch.autograd.grad(nll(*leaves), leaves, allow_unused=True)
    step = 1e-5
    for which, gradient in enumerate(found):
        require(gradient is not None, "nll is differentiable by the outputs and by what is learnt")
        for place in range(0, variables[which].numel(), max(1, variables[which].numel() // 24)):
            sides = []
            for sign in (1, -1):
                moved = [v.clone() for v in variables]
                moved[which].view(-1)[place] += sign * step
                sides.append(float(nll(*moved)))
            slope = (sides[0] - sides[1]) / (2 * step)
            along = float(gradient.reshape(-1)[place])
            text = f"the gradient of nll is {along}, finite differences give {slope}"
            require(abs(along - slope) <= 1e-4 * max(1.0, abs(slope)), text)


def _check_predictive(task: Task, outputs: Tensor, target: Tensor) -> None:
    """The square of the predictive distribution's root is the Hessian of nll, at one example in float64."""
    learnt = {name: value.double() for name, value in task.learnt(target).items()}
    predictive = task.predictive(**learnt)
    if predictive is None:
        return
    z, target = outputs[1:2].double(), target[1:2]
    target = target.double() if target.is_floating_point() else target
    hessian: Tensor = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda values: task.nll(values, target, **learnt), z
    )
    directions = torch.eye(z.numel(), dtype=torch.float64).reshape(-1, *z.shape)
    counted = task.counted(target)
    columns = torch.stack([predictive.masked(predictive.root(z, e), counted).reshape(-1) for e in directions])
    error = float((columns.T @ columns - hessian.reshape(z.numel(), -1)).abs().max())
    text = f"the root of predictive squared is the Hessian of nll (they differ by {error})"
    require(error <= 1e-6 * max(1.0, float(hessian.abs().max())), text)


def _halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """The first part of a batch and the rest, of different sizes where that is possible."""
    first = max(1, len(values) // 3)
    return values[:first], values[first:]


def _close(a: float, b: float) -> bool:
    """Equal up to float32."""
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=1e-6)
