"""A module as a ``torch.export`` program: which dimension is free, and functional form."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.nn.modules import transformer

from laconic.errors import CaptureError, InputError, ModelError
from laconic.export.cures import cannot_be_free, untraceable
from laconic.export.free_linspace import FreeLinspace
from laconic.export.in_place import mutates, without_in_place
from laconic.export.outputs import described
from laconic.export.recurrent import one_operation_each
from laconic.export.signature import FreeAxes
from laconic.networks import duplicate, inference, with_forward

_FREE_AXES: tuple[tuple[int | None, tuple[str, ...]], ...] = (
    (0, ()),
    (1, ("dimension 1 of the inputs is free; dimension 0 is fixed to the example's",)),
)
_FIXED_BATCH = (
    "the batch size is fixed to the example's: the network computes with it. Where another axis is the "
    "batch, say which are free: dynamic={input: {axis: 'batch'}}"
)


def flat(module: nn.Module) -> nn.Module:
    """A view of ``module`` that takes tensors by position and returns a plain tuple of tensors."""
    plain = type(module)

    def forward(self: nn.Module, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return described(plain.forward(self, *values)).tensors

    return with_forward(module, forward)


def evaluation_copy(module: nn.Module) -> nn.Module:
    """A copy on the CPU in evaluation mode; the module itself keeps its flags and its device."""
    try:
        return duplicate(module).cpu().eval()
    except ModelError as error:
        raise CaptureError(f"the network cannot be copied ({error})") from error


def run_example(module: nn.Module, example: tuple[torch.Tensor, ...]) -> Any:
    """The module's output for the example. Raises ``InputError`` with the shapes if the module fails."""
    try:
        with torch.no_grad():
            return module(*(x.clone() for x in example))  # a network may write into its input
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        shapes = ", ".join(f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in example)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{type(module).__name__} refuses the example input {shapes}: {reason}. "
            "Cure: give an example of the shape the network was trained on, batch first"
        ) from error


def traces(
    module: nn.Module, example: tuple[torch.Tensor, ...], free: FreeAxes | None = None
) -> Iterator[tuple[ExportedProgram, tuple[str, ...]]]:
    """Export with the first dimension free; then the second (time first); then none. Each with its notes.

    Where the user said which axes are free, with those and no others. ``module`` takes tensors by position.

    Raises ``CaptureError`` when PyTorch cannot trace the module at all.
    """
    if free is not None:
        yield _with_free_axes(module, free), ()
        return
    failure: Exception | None = None
    any_worked = False
    for axis, note in (*_FREE_AXES, (None, (_FIXED_BATCH,))):
        attempt = example if axis is None else _widened(module, example, axis)
        if attempt is None:
            continue
        dims = None if axis is None else tuple({axis: Dim.DYNAMIC} for _ in example)
        try:
            exported = _export(module, attempt, dims)
            program = _functional(exported)
        except Exception as error:  # noqa: BLE001 - torch.export has no one class for "this cannot be free"
            failure = failure or error
            continue
        any_worked = True
        yield program, note
    if not any_worked:
        raise CaptureError(
            untraceable(type(module).__name__, failure or RuntimeError("no example"))
        ) from failure


def _with_free_axes(module: nn.Module, free: FreeAxes) -> ExportedProgram:
    """The program with the user's free axes; unproven conditions on sizes are left to run time."""
    hints = tuple(dict.fromkeys(dims, Dim.DYNAMIC) for dims in free.dims)
    failure: Exception | None = None
    # a size with a bound (a table of positions) or a factor (a U-Net's halves) is free, but no plain Dim
    for dims, deferred in ((free.dims, False), (hints, True)):
        try:
            program = _export(module, free.grown, dims, deferred)
            return _functional(program)
        except Exception as error:  # noqa: BLE001 - torch.export has no one class for "this cannot be free"
            failure = failure or error
            if "must always be equal" in str(error):
                break
    failure = failure or RuntimeError("no example")
    network = type(module).__name__
    raise CaptureError(cannot_be_free(failure, free.places) or untraceable(network, failure)) from failure


def _export(
    module: nn.Module,
    example: tuple[torch.Tensor, ...],
    dims: tuple[Mapping[int, Any], ...] | None,
    deferred: bool = False,
) -> ExportedProgram:
    fresh = tuple(x.clone() for x in example)  # torch.export stores the free axes on the tensors
    shapes = None if dims is None else (tuple(dict(spec) for spec in dims),)  # all inputs are one *values
    with _quiet(), inference(), one_operation_each(), _masks_unread(), FreeLinspace():
        return torch.export.export(
            module,
            fresh,
            dynamic_shapes=shapes,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=deferred,
        )


@contextmanager
def _masks_unread() -> Iterator[None]:
    """Skips nn.Transformer's test whether a mask is causal: it only selects a fast path, and reads values."""
    before = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = before


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


def decomposable(operations: set[Any]) -> set[Any]:
    """Those of these operations that PyTorch has a decomposition for."""
    return set(_decompositions(operations))


def _decompositions(operations: set[Any]) -> dict[Any, Any]:
    if not operations:
        return {}
    known = torch.export.default_decompositions()
    table = {op: known[op] for op in operations if op in known}
    composite = [op for op in operations if isinstance(op, torch._ops.OpOverload) and op not in table]
    return table | {op: op.decompose for op in composite if op._can_decompose()}


def decomposed(program: ExportedProgram, operations: set[Any]) -> ExportedProgram | None:
    """The program with these operations decomposed by PyTorch, or None where it has no decomposition."""
    table = _decompositions(operations)
    if not table:
        return None
    try:
        with _quiet():
            simpler: ExportedProgram = program.run_decompositions(table)
            return simpler
    except Exception:  # noqa: BLE001 - the operation is then refused by its own name
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no trace logs: a failure is reported once, in laconic's own error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
