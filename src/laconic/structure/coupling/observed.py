"""Rules for torch functions that have none: those that are seen to be elementwise.

The function is run again on its own arguments, with positions exchanged and with half of the positions
replaced. A function that gives the exchanged result, and at the other half the same result as before,
depends at each position on its operands at that position alone. So an activation function that torch adds,
or one that a table forgot, couples units as every other does. A rule that was seen on one run is only a
claim: trials check the groups (:mod:`laconic.structure.trials`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from laconic.networks.watching import Call
from laconic.structure.coupling.rules_math import elementwise
from laconic.structure.coupling.trace import Rule

_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
_SMALLEST = 4  # positions; fewer show too little


def observed(call: Call) -> Rule | None:
    """The rule of an elementwise function, as its own arguments show it; None for any other.

    Only for a result of the shape of every operand. A function that draws random numbers is not elementwise:
    two runs of it differ.
    """
    operands, result = call.tensors(), call.result
    if not isinstance(result, Tensor) or not result.is_floating_point() or "out" in call.kwargs:
        return None
    if not operands or any(t.shape != result.shape for t in operands) or result.numel() < _SMALLEST:
        return None
    with torch.random.fork_rng(devices=[]):
        try:
            zero_if = _observed(lambda values: _again(call, operands, values), operands)
        except (RuntimeError, TypeError, ValueError, IndexError):  # it takes no other values
            return None
    return None if zero_if is None else elementwise(zero_if)


def _again(call: Call, operands: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """The same call on other tensors."""
    swapped = {id(t): v.clone() for t, v in zip(operands, values, strict=True)}

    def other(leaf: Any) -> Any:
        return swapped[id(leaf)] if isinstance(leaf, Tensor) else leaf

    result: Tensor = call.function(*tree_map(other, call.args), **tree_map(other, dict(call.kwargs)))
    return result


def _observed(run: Callable[[Sequence[Tensor]], Tensor], operands: Sequence[Tensor]) -> str | None:
    """Where the result is zero, as :func:`laconic.structure.coupling.labels.broadcast` names it; or None."""
    generator = torch.Generator().manual_seed(0)
    count = operands[0].numel()
    order = torch.randperm(count, generator=generator).to(operands[0].device)
    exchanged = [t.reshape(-1)[order].reshape(t.shape) for t in operands]
    half = (torch.arange(count, device=order.device) % 2 == 0).reshape(operands[0].shape)
    replaced = [torch.where(half, e, t) for e, t in zip(exchanged, operands, strict=True)]
    first = run(operands)
    same = (
        _equal(run(operands), first)
        and _equal(run(exchanged), first.reshape(-1)[order].reshape(first.shape))
        and _equal(run(replaced)[~half], first[~half])
    )
    if not same or bool((first == first.reshape(-1)[0]).all()):  # a constant shows nothing
        return None
    return _zero_if(run, operands)


def _zero_if(run: Callable[[Sequence[Tensor]], Tensor], operands: Sequence[Tensor]) -> str:
    """Which operands must be zero for the result to be."""

    def zero_with(numbers: Sequence[int]) -> bool:
        values = [torch.zeros_like(t) if k in numbers else t for k, t in enumerate(operands)]
        return not bool(run(values).ne(0).any())  # NaN differs from 0

    everyone = range(len(operands))
    if not zero_with(everyone):
        return "never"
    if all(zero_with([k]) for k in everyone):
        return "any"
    return "first" if zero_with([0]) else "all"


def _equal(one: Tensor, other: Tensor) -> bool:
    """Up to rounding: vector instructions round otherwise at the end of an array."""
    tolerance = _TOLERANCE.get(one.dtype, 1e-2)
    return one.shape == other.shape and torch.allclose(one, other, tolerance, tolerance, equal_nan=True)
