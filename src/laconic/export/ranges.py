"""A module and example batches -> the activation ranges of the graph that its file will hold."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from laconic.errors import CaptureError, DataError, InputError, at
from laconic.export.build import build_packed
from laconic.export.int8_check import stays_float
from laconic.export.signature import as_arguments, one_call
from laconic.networks import flattened, is_nested
from laconic.records import ActivationRange, AnyArray, Tensor
from laconic.runtime import LeastOutputError, RangeChoice, calibrate
from laconic.runtime.precision import NO_CALIBRATION
from laconic.text import counted


def activation_ranges(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    example: Any,
    batches: Iterable[Any],
    choice: RangeChoice | LeastOutputError,
    examples: int,
    dynamic: Any = None,
) -> tuple[tuple[ActivationRange, ...], tuple[str, ...]]:
    """The ranges that ``examples`` examples of ``batches`` give (see ``laconic.quantize_activations``).

    Returns them, and notes on what stays in float32.
    """
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
        raise InputError(f"examples must be a positive whole number, got {examples!r}. Cure: 1024")
    model, notes = build_packed(module, tensors, example, dynamic)
    if model.graph is None:
        reason = " ".join(notes)
        raise CaptureError(f"int8 needs the network's graph, and it was not captured: {reason}")
    count = len(model.graph.inputs)
    with at("calibrating for int8"):
        arrays = _limited(_inputs(module, batches, count), examples)
        ready = calibrate(model, arrays, choice, threads=torch.get_num_threads())
    return ready.graph.ranges if ready.graph is not None else (), stays_float(ready)


def first_example(module: nn.Module, batches: Iterable[Any]) -> Any:
    """Two inputs of the first batch, to capture a plain module with.

    A tuple's entries are inputs as far as ``forward`` asks for them.
    """
    batch = next(iter(batches), None)
    if batch is None:
        raise _empty()
    if isinstance(batch, torch.Tensor):
        return batch[:2]
    if isinstance(batch, Mapping):
        batch = _inputs_of(module, batch)
        if is_nested(batch):
            return batch
        return {k: v[:2] if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    wanted = [p for p in inspect.signature(module.forward).parameters.values() if p.default is p.empty]
    named = [p for p in wanted if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    given = tuple(batch)[: len(named)]
    if is_nested(given):
        return given  # the examples of a recurrent layer's states lie along another axis
    return tuple(x[:2] for x in as_arguments(given))


def _inputs_of(module: nn.Module, batch: Any) -> Any:
    """A dictionary without what ``forward`` has no name for: labels, as a loader hands them out."""
    if not isinstance(batch, Mapping):
        return batch
    parameters = inspect.signature(module.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return batch
    return {name: value for name, value in batch.items() if name in parameters}


def _inputs(module: nn.Module, batches: Iterable[Any], count: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """The first ``count`` tensors of each batch."""
    if not isinstance(batches, Iterable) or isinstance(batches, torch.Tensor):
        raise DataError(
            f"calibration batches come as a {type(batches).__name__}. Cure: a list of batches, or a loader"
        )
    for batch in batches:
        view, inputs = flattened(module, _inputs_of(module, batch))
        given = one_call(view, inputs).tensors
        if len(given) < count:
            raise DataError(
                f"the network takes {counted(count, 'input')}, a calibration batch has {len(given)}. "
                "Cure: batches that begin with the network's inputs, in their order"
            )
        yield given[:count]


def _limited(inputs: Iterator[tuple[torch.Tensor, ...]], examples: int) -> list[tuple[AnyArray, ...]]:
    """Arrays of no more than ``examples`` examples."""
    held: list[tuple[AnyArray, ...]] = []
    left = examples
    for batch in inputs:
        size = len(batch[0]) if batch[0].ndim else 1
        held.append(tuple((x[:left] if x.ndim else x).numpy() for x in batch))
        left -= size
        if left <= 0:
            break
    if not held:
        raise _empty()
    return held


def _empty() -> DataError:
    return DataError(NO_CALIBRATION.format(what="the calibration loader gave no batch"))
