"""The suite that every task must pass, a user's own among them.

``check_task(task, outputs, target)`` tries the task's promises on one batch and raises AssertionError with
the promise that was broken. It needs nothing but the library and torch, and draws no random numbers.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laconic.tasks import Metric, Task

RELATIVE = 1e-5  # float32 against float64


def check_task(task: Task, outputs: Tensor, target: Tensor) -> None:
    """All promises of a task.

    Args:
        task: The task.
        outputs: What a network may return for a batch, floating-point, with the examples on axis 0; at least
            2 of them.
        target: The batch's target, with the examples on axis 0.

    Raises:
        AssertionError: A promise is broken; the message says which.
    """
    if len(outputs) < 2:
        raise AssertionError("the suite needs a batch of at least two examples, to split it")
    check_record(task)
    check_terms_add_up(task, target)
    check_nll(task, outputs, target)
    check_metric(task, outputs, target)
    check_nats(task, outputs, target)
    check_gradient(task, outputs, target)
    task.check(outputs, target)


def check_record(task: Task) -> None:
    """The task is a value: equal to its copy, with a hash, and its metric says what it is."""
    copy = type(task)(**{f.name: getattr(task, f.name) for f in fields(task)})
    promise(copy == task and hash(copy) == hash(task), "a task made of the same settings is equal")
    promise(repr(copy) == repr(task), "a task made of the same settings reads the same")
    promise(isinstance(task.metric, Metric), "metric is a laconic.tasks.Metric")
    try:
        task.target = None  # type: ignore[misc]
    except AttributeError:
        return
    raise AssertionError("broken promise: a task is frozen")


def check_terms_add_up(task: Task, target: Tensor) -> None:
    """Terms of a batch: a whole number, the sum of its parts', and the same of a NumPy array."""
    terms = task.terms(target)
    promise(type(terms) is int and terms > 0, f"terms are a positive int (got {terms!r})")
    promise(terms == sum(task.terms(part) for part in halves(target)), "terms add up over batches")
    promise(terms == task.terms(target.numpy()), "terms of a tensor and of its NumPy array are equal")


def check_nll(task: Task, outputs: Tensor, target: Tensor) -> None:
    """The likelihood is one finite number, and a sum over the terms, not a mean."""
    learnt = task.learnt(target)
    whole = task.nll(outputs, target, **learnt)
    promise(whole.numel() == 1, f"nll is one number (got shape {tuple(whole.shape)})")
    promise(math.isfinite(float(whole)), f"nll is finite (got {float(whole)})")
    parts = zip(halves(outputs), halves(target), strict=True)
    total = sum(float(task.nll(o, t, **learnt)) for o, t in parts)
    promise(
        close(float(whole), total), f"nll adds up over batches ({float(whole)} of both, {total} one by one)"
    )
    half = task.nll(outputs.bfloat16(), target, **learnt)
    promise(half.dtype in (torch.float32, torch.float64), "nll of 16-bit outputs is computed in 32 bits")


def check_metric(task: Task, outputs: Tensor, target: Tensor) -> None:
    """The metric's statistics add up over batches; the arrays they are computed from stay as they are."""
    arrays = outputs.numpy(), target.numpy()
    before = [a.copy() for a in arrays]
    sums = task.measure(*arrays)
    promise(
        isinstance(sums, np.ndarray) and sums.dtype == np.float64, "measure returns a float64 NumPy array"
    )
    same = all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(arrays, before, strict=True)
    )
    promise(same, "measure leaves its arguments as they are")
    value = task.value(sums)
    promise(type(value) is float and math.isfinite(value), f"the metric is a finite float (got {value!r})")
    parts = [task.measure(o.numpy(), t.numpy()) for o, t in zip(halves(outputs), halves(target), strict=True)]
    together = task.value(parts[0] + parts[1])
    promise(close(value, together), f"statistics add up over batches ({value} of both, {together} summed)")


def check_nats(task: Task, outputs: Tensor, target: Tensor) -> None:
    """Without torch, the likelihood is the same number, or None."""
    nats = task.nats(outputs.numpy(), target.numpy())
    if nats is None:
        return
    promise(not task.learnt(target), "nats is None where the likelihood has parameters that are learnt")
    nll = float(task.nll(outputs, target))
    promise(close(nll, nats), f"nats equals nll ({nats} and {nll})")


def check_gradient(task: Task, outputs: Tensor, target: Tensor) -> None:
    """The gradient of nll, by its outputs and what is learnt, is that of finite differences (float64)."""
    learnt = {name: value.double() for name, value in task.learnt(target).items()}
    variables = [outputs.double(), *learnt.values()]
    target = target.double() if target.is_floating_point() else target

    def nll(*values: Tensor) -> Tensor:
        return task.nll(values[0], target, **dict(zip(learnt, values[1:], strict=True)))

    leaves = [v.detach().clone().requires_grad_() for v in variables]
    found = torch.autograd.grad(nll(*leaves), leaves, allow_unused=True)
    step = 1e-5
    for which, gradient in enumerate(found):
        promise(gradient is not None, "nll is differentiable by the outputs and by what is learnt")
        for place in range(0, variables[which].numel(), max(1, variables[which].numel() // 24)):
            sides = []
            for sign in (1, -1):
                moved = [v.clone() for v in variables]
                moved[which].view(-1)[place] += sign * step
                sides.append(float(nll(*moved)))
            slope = (sides[0] - sides[1]) / (2 * step)
            text = (
                f"the gradient of nll is {float(gradient.view(-1)[place])}, finite differences give {slope}"
            )
            promise(abs(float(gradient.view(-1)[place]) - slope) <= 1e-4 * max(1.0, abs(slope)), text)


def halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """The first part of a batch and the rest, of different sizes where that is possible."""
    first = max(1, len(values) // 3)
    return values[:first], values[first:]


def close(a: float, b: float) -> bool:
    """Equal up to float32."""
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=1e-6)


def promise(kept: Any, text: str) -> None:
    """Raises AssertionError with the promise, unless it is kept."""
    if not kept:
        raise AssertionError(f"broken promise: {text}")
