"""Checks, before a file is written, that a calibrated network runs in int8 here, with right results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from laconic.errors import InputError, LaconicError
from laconic.export.verify import as_read
from laconic.records import ActivationRange, AnyArray, Graph, PackedModel
from laconic.records.limits import Limits
from laconic.runtime import Network, emulate
from laconic.runtime.engines.float_choice import float_layers, float_products
from laconic.runtime.int8.schedule import schedule_of

SHARE, STEPS = 0.1, 4.0
"""Largest difference from the emulation: a share of the largest output, and steps of the output's range.

Rounding differences over many layers stay below; products that a processor saturates give 15 to 60 steps.
"""


_PRODUCTS = "(as in attention) stay in float32: int8 is for products with weights"


def checked_ranges(
    model: PackedModel, ranges: tuple[ActivationRange, ...], example: tuple[torch.Tensor, ...]
) -> tuple[PackedModel, str | None]:
    """The model with its activation ranges; or without them, and a note on the problem of int8 here.

    The example's first two rows run in int8, and in the integer emulation, which is the reference.
    """
    graph = model.graph
    if graph is None:
        return model, None
    ready = replace(model, graph=replace(graph, ranges=ranges))
    given = zip(example[: len(graph.inputs)], graph.inputs, strict=True)
    inputs = [_first_rows(x, spec.shape) for x, spec in given]
    problem = int8_problem(as_read(ready), inputs)
    if problem is None:
        return ready, None
    return model, (
        f"int8 was left out: {problem}. So the file holds no activation ranges and runs in float32. "
        "Cure: calibrate on batches that are like the data, or save with another version of onnxruntime"
    )


def stays_float(model: PackedModel) -> tuple[str, ...]:
    """Notes on the matrices whose products a calibrated network computes in float32, with the reason."""
    if model.graph is None or not model.graph.ranges:
        return ()
    by_reason: dict[str, list[str]] = {}
    schedule = schedule_of(model.graph)
    for layer in float_layers(model, schedule, 1):
        by_reason.setdefault(layer.reason.removeprefix("float32: "), []).append(layer.name)
    notes = [
        f"int8: {len(names)} of the network's matrices stay in float32, {', '.join(map(repr, names[:4]))}"
        f"{', ..' if len(names) > 4 else ''}: {reason}"
        for reason, names in by_reason.items()
    ]
    products = float_products(model)
    if products:
        notes.append(f"int8: {products} products of two computed values {_PRODUCTS}")
    return tuple(notes)


def int8_problem(model: PackedModel, inputs: Sequence[AnyArray]) -> str | None:
    """Description of a wrong int8 result on this machine; None if int8 is right.

    Engines do not clip float32 outputs to their ranges as devices do; they are clipped here before comparing.
    """
    graph = model.graph or Graph((), (), ())
    ranges = {entry.value: entry for entry in graph.ranges}
    try:
        got = Network.from_packed(model, torch.get_num_threads()).run(tuple(inputs))
    except LaconicError as error:
        return f"the calibrated network does not run in int8 on this machine ({error})"
    try:
        wanted = emulate(model, limits=Limits.trusted()).run(tuple(inputs))
    except InputError:
        return None  # the accumulators of a device would overflow: there is no reference
    for ref, a, b in zip(graph.outputs, got, wanted, strict=True):
        if not np.issubdtype(a.dtype, np.floating):
            continue
        entry = ranges.get(ref, graph.ranges[-1])
        a, b = (np.clip(y, *entry.bounds) if ref in ranges else y for y in (a, b))
        worst = float(np.abs(a - b).max(initial=0.0))
        largest = float(np.abs(b).max(initial=0.0))
        if not worst <= SHARE * largest + STEPS * entry.scale:
            return (
                "the calibrated network computes other numbers in int8 on this machine than integer "
                f"arithmetic does (largest difference {worst:.3g}, largest output {largest:.3g})"
            )
    return None


def _first_rows(x: torch.Tensor, shape: tuple[int | None, ...]) -> AnyArray:
    """Two rows where the first axis is free; else all."""
    rows = x[:2] if shape[:1] == (None,) else x
    return np.ascontiguousarray(rows.detach().cpu().numpy())
