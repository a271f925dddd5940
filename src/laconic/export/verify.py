"""Checks, before a graph is written, that it computes what the module computes, by running both."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from laconic.export.outputs import described
from laconic.export.program import evaluation_copy
from laconic.export.signature import OneCall, of_size
from laconic.networks import inference
from laconic.pack.graph.section import decode_graph, encode_graph
from laconic.records import AnyArray, PackedModel, ValueSpec
from laconic.runtime import Network

TOLERANCE = 1e-4
"""Largest difference over the largest output. Rounding stays far below, a wrong rule far above."""

_BY_SIZE = (
    ": the network computes differently at other sizes (a branch on a shape, a number made of one). "
    "Cure: leave that axis out of dynamic, or write one formula for all sizes"
)
_ROUNDING = 1e-6  # rounding error of float32 sums that cancel to zero


def disagreement(call: OneCall, model: PackedModel) -> str | None:
    """Description of a difference between the file's graph and the module; None when they agree.

    Both compute the example, and then perturbed examples with other sizes along the free axes.
    The module is left as it was.
    """
    try:
        network = Network.from_packed(as_read(model), threads=torch.get_num_threads())
    except Exception as error:  # noqa: BLE001 - whatever keeps the file from running is reported to the user
        return f"the captured graph does not run ({_first_line(error)})"
    for inputs, is_example in _trials(call.tensors, network.inputs):
        wanted = _answer(call.module, inputs)
        if wanted is None and not is_example:
            continue  # the module itself refuses these sizes
        try:
            result = network.run(tuple(x.numpy() for x in inputs))
        except Exception as error:  # noqa: BLE001 - see above
            return f"the captured graph does not run on {_shapes(inputs)} ({_first_line(error)})"
        problem = compare(result, wanted or [])
        if problem:
            cure = "" if is_example else _BY_SIZE
            return f"the captured graph gives {problem}, for inputs {_shapes(inputs)}{cure}"
    return None


def as_read(model: PackedModel) -> PackedModel:
    """The model with the graph that a reader will find."""
    if model.graph is None:
        return model
    data = encode_graph(model.graph)
    return replace(model, graph=decode_graph(data, len(model.tensors)))


def _trials(
    example: tuple[torch.Tensor, ...], specs: tuple[ValueSpec, ...]
) -> Iterator[tuple[tuple[torch.Tensor, ...], bool]]:
    """The example itself, then perturbed ones with other sizes along the free axes.

    Image networks often accept multiples of 2 or 4 only, so one trial doubles the axes. Where an axis was
    named, one trial has fewer entries: it finds constants that depend on the example's size.
    """
    yield example, True
    draws = torch.Generator().manual_seed(0)
    sizes = {
        name: size
        for spec, x in zip(specs, example, strict=True)
        for name, size in zip(spec.sizes, x.shape, strict=True)
        if isinstance(name, str)
    }
    trials = [{name: size + 1 + k for k, (name, size) in enumerate(sizes.items())}]
    if any(spec.axes for spec in specs):
        trials.append({name: size * 2 for name, size in sizes.items()})
        trials.append({name: max(1, size // 2) for name, size in sizes.items()})
    for trial in trials:
        yield tuple(_varied(x, spec, trial, draws) for x, spec in zip(example, specs, strict=True)), False


def _varied(
    x: torch.Tensor, spec: ValueSpec, sizes: Mapping[str, int], draws: torch.Generator
) -> torch.Tensor:
    wanted = {k: sizes[name] for k, name in enumerate(spec.sizes) if isinstance(name, str) and x.shape[k]}
    x = of_size(x, wanted)
    return x + 0.5 * torch.randn(x.shape, generator=draws) if x.is_floating_point() else x


def padded_otherwise(call: OneCall) -> str | None:
    """A note if PyTorch's fast path and the separate layers give different results; None for most networks.

    ``nn.TransformerEncoder`` takes a padded batch apart in evaluation mode without gradients; its outputs at
    the padded positions are then zeros.
    """
    if not any(getattr(part, "use_nested_tensor", False) is True for part in call.module.modules()):
        return None
    wanted = _answer(call.module, call.tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns that nested tensors are a prototype
        got = _answer(call.module, call.tensors, torch.no_grad())
    if got is None or compare(got, wanted or []) is None:
        return None
    return (
        "without gradients PyTorch's nn.TransformerEncoder returns zeros at padded positions, and the file "
        "what its layers compute there (as with gradients); the other positions agree. To have the same "
        "numbers in PyTorch: nn.TransformerEncoder(..., enable_nested_tensor=False)"
    )


def _answer(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], mode: AbstractContextManager[object] | None = None
) -> list[AnyArray] | None:
    """The module's outputs, computed by a copy (a forward pass may write into buffers); None on refusal.

    ``mode``: how gradients and fast paths are switched; without it as a file computes.
    """
    copied = evaluation_copy(module)
    try:
        with mode or inference(), torch.random.fork_rng(devices=[]):
            result = copied(*(x.clone() for x in inputs))
    except Exception:  # noqa: BLE001 - a module may refuse inputs in any way
        return None
    return [x.detach().numpy() for x in described(result).tensors]


def compare(got: list[AnyArray], wanted: list[AnyArray]) -> str | None:
    """Description of how two lists of outputs differ; None where rounding explains it.

    >>> compare([np.float32([1, 2])], [np.float32([1, 3])])
    'other numbers than the module (largest difference 1, largest output 3)'
    """
    if len(got) != len(wanted):
        return f"{len(got)} outputs, the module {len(wanted)}"
    for a, b in zip(got, wanted, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"an output of shape {a.shape} and type {a.dtype}, the module {b.shape} and {b.dtype}"
        x, y = a.astype(np.float64), b.astype(np.float64)
        usual = np.isfinite(x) & np.isfinite(y)
        if not np.array_equal(x[~usual], y[~usual], equal_nan=True):
            return "NaN or infinite outputs elsewhere than the module"
        worst = float(np.abs(x[usual] - y[usual]).max(initial=0.0))
        largest = float(np.abs(y[usual]).max(initial=0.0))
        if worst > max(TOLERANCE * largest, _ROUNDING):
            sizes = f"largest difference {worst:.3g}, largest output {largest:.3g}"
            return f"other numbers than the module ({sizes})"
    return None


def _shapes(inputs: tuple[torch.Tensor, ...]) -> str:
    return ", ".join(str(tuple(x.shape)) for x in inputs)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
