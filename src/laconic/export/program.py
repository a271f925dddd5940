"""A module as a ``torch.export`` program: which dimension is free, and functional form."""

from __future__ import annotations

import copy
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from laconic.errors import CaptureError, InputError
from laconic.export.cures import untraceable
from laconic.export.in_place import mutates, without_in_place

_FREE_AXES: tuple[tuple[int | None, tuple[str, ...]], ...] = (
    (0, ()),
    (1, ("dimension 1 of the inputs is free; dimension 0 is fixed to the example's",)),
)
_FIXED = ("the batch size is fixed to the example's: the network computes with it",)

Example = torch.Tensor | tuple[Any, ...] | list[Any] | Mapping[str, Any]


def as_arguments(example: Example) -> tuple[torch.Tensor, ...]:
    """The example as a tuple of CPU tensors.

    Raises ``InputError`` for anything that is not a tensor.
    """
    items: tuple[Any, ...] = tuple(example) if isinstance(example, (tuple, list)) else (example,)
    for k, item in enumerate(items):
        if not isinstance(item, torch.Tensor):
            raise InputError(
                f"example input {k} must be a tensor, got {type(item).__name__}. Cure: torch.as_tensor"
            )
    return tuple(item.detach().cpu().clone() for item in items)  # a network may write into its input


def by_position(module: nn.Module, example: Any) -> tuple[nn.Module, Any]:
    """A view of ``module`` that takes an example's named tensors by position, in the order of ``forward``.

    Anything else that was named (a flag, a number) stays what it is in the example. The view shares all
    parameters; an example that has no names comes back with the module itself.
    """
    if not isinstance(example, Mapping):
        return module, example
    plain, order = type(module), list(inspect.signature(module.forward).parameters)
    names = sorted(example, key=lambda name: order.index(name) if name in order else len(order))
    tensors = {name: example[name] for name in names if isinstance(example[name], torch.Tensor)}
    fixed = {name: value for name, value in example.items() if name not in tensors}

    def forward(self: nn.Module, *values: torch.Tensor) -> Any:
        return plain.forward(self, **dict(zip(tensors, values, strict=True)), **fixed)

    view = copy.copy(module)
    view.__class__ = type(plain.__name__, (plain,), {"forward": forward})
    return view, tuple(tensors.values())


def evaluation_copy(module: nn.Module) -> nn.Module:
    """A copy on the CPU in evaluation mode; the module itself keeps its flags and its device."""
    try:
        return copy.deepcopy(module).cpu().eval()
    except (RuntimeError, TypeError) as error:
        raise CaptureError(
            f"the network cannot be copied ({error}). Cure: convert it to a plain module first"
        ) from error


def run_example(module: nn.Module, example: tuple[torch.Tensor, ...]) -> Any:
    """The module's answer to the example; a refusal is the example's fault and says the shapes."""
    try:
        with torch.no_grad():
            return module(*example)
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        shapes = ", ".join(f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in example)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{type(module).__name__} refuses the example input {shapes}: {reason}. "
            "Cure: give an example of the shape the network was trained on, batch first"
        ) from error


def traces(
    module: nn.Module, example: tuple[torch.Tensor, ...]
) -> Iterator[tuple[ExportedProgram, tuple[str, ...]]]:
    """Export with the first dimension free; then the second (time first); then none. Each with its notes.

    Raises ``CaptureError`` when PyTorch cannot trace the module at all.
    """
    failure: Exception | None = None
    any_worked = False
    for axis, note in (*_FREE_AXES, (None, _FIXED)):
        attempt = example if axis is None else _widened(module, example, axis)
        if attempt is None:
            continue
        try:
            program = _functional(_export(module, attempt, axis))
        except Exception as error:  # noqa: BLE001 - torch.export has no one class for "this cannot be free"
            failure = failure or error
            continue
        any_worked = True
        yield program, note
    if not any_worked:
        raise CaptureError(
            untraceable(type(module).__name__, failure or RuntimeError("no example"))
        ) from failure


def _export(module: nn.Module, example: tuple[torch.Tensor, ...], axis: int | None) -> ExportedProgram:
    free = None if axis is None else _like_signature(module, tuple({axis: Dim.DYNAMIC} for _ in example))
    fresh = tuple(x.clone() for x in example)  # torch.export leaves its marks of free axes on the tensors
    with _quiet(), inference():
        return torch.export.export(module, fresh, dynamic_shapes=free, strict=False)


def _like_signature(module: nn.Module, specs: tuple[Any, ...]) -> tuple[Any, ...]:
    """One spec per parameter of ``forward``; those that ``*args`` takes are nested."""
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return specs
    first = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*specs[:first], specs[first:])


def _widened(
    module: nn.Module, example: tuple[torch.Tensor, ...], axis: int
) -> tuple[torch.Tensor, ...] | None:
    """The example with at least two entries along ``axis``: sizes 0 and 1 are constants to torch.export."""
    if not example or any(x.ndim <= axis for x in example) or len({x.shape[axis] for x in example}) != 1:
        return None
    if example[0].shape[axis] > 1:
        return example
    wide = tuple(torch.cat([x, x], dim=axis) for x in example)
    try:
        with torch.no_grad():
            module(*wide)
    except Exception:  # noqa: BLE001 - any refusal means that this axis is not free
        return None
    return wide


def _functional(program: ExportedProgram) -> ExportedProgram:
    """The program without in-place operations, so that each value is written once."""
    if not any(mutates(node.target) for node in program.graph.nodes) or without_in_place(program):
        return program
    with _quiet():
        functional: ExportedProgram = program.run_decompositions({})
    return functional


def taken_apart(operations: set[Any]) -> set[Any]:
    """Those of these operations that PyTorch has a recipe for."""
    return set(_recipes(operations))


def _recipes(operations: set[Any]) -> dict[Any, Any]:
    if not operations:
        return {}
    known = torch.export.default_decompositions()
    table = {op: known[op] for op in operations if op in known}
    composite = [op for op in operations if isinstance(op, torch._ops.OpOverload) and op not in table]
    return table | {op: op.decompose for op in composite if op._can_decompose()}


def decomposed(program: ExportedProgram, operations: set[Any]) -> ExportedProgram | None:
    """The program with these operations taken apart by PyTorch, or None where it has no recipe."""
    table = _recipes(operations)
    if not table:
        return None
    try:
        with _quiet():
            simpler: ExportedProgram = program.run_decompositions(table)
            return simpler
    except Exception:  # noqa: BLE001 - the operation is then refused by its own name, which says more
        return None


@contextmanager
def inference() -> Iterator[None]:
    """How a network is traced and compared.

    No gradients, so that ``no_grad`` blocks leave no wrapper; no fused attention, which has no rule.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no trace logs: what failed is said once, in our own error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
