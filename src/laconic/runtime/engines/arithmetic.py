"""int8 or float32: which of the two runs a calibrated network faster on this machine, measured and cached."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from laconic.errors import EngineError, InputError
from laconic.records import AnyArray, Graph, PackedModel, Tensor, ValueSpec
from laconic.runtime.engines import cache
from laconic.runtime.engines.choice import SMALL
from laconic.runtime.engines.cpu import int8_saturates
from laconic.runtime.engines.measure import waves
from laconic.runtime.engines.work import Work, work_of

if TYPE_CHECKING:
    from laconic.runtime.engines.assembly import Assembly
    from laconic.runtime.origin import Options

Arithmetic = Literal["int8", "fp32"]

MOST_WORK = Work(products=2**32, entries=2**25, largest=2**22)
"""Bounds of a call that is measured at load: 0.2 s on one core of 2013, 16 MB a value."""

SECONDS = 0.06
"""Rounds of measured calls end after this long, but not before the first."""

MOST_ROUNDS = 15


def faster_of(
    models: Mapping[Arithmetic, PackedModel], options: Options, assembled: Callable[[PackedModel], Assembly]
) -> Assembly:
    """A calibrated model in int8, or in float32 where that is measured to be faster for ``options.batch``.

    What was measured before on this machine, for a network of this structure, is not measured again. A
    network whose call would take too long is not measured: it runs in int8 where the processor has
    instructions for it. Where one of the two is refused by the engine, the other runs, and a note says why.
    """
    model = models["int8"]
    file = cache.cache_file()
    key = f"{cache.machine()} | {_structure(model)}, batch {options.batch}, threads {options.threads}"
    key += f", {options.engine}, saturating {int8_saturates()}"
    times: Mapping[str, float] | None = cache.read_choices(file).get(key)
    made: dict[str, Assembly] = {}
    if times is None or set(times) != set(models):
        work = work_of(models["fp32"], options.batch)
        if work is None or not work.within(MOST_WORK):
            return _unmeasured(models, assembled)
        made, refused = _both(models, assembled)
        if refused:
            return _noted(next(iter(made.values())), refused)
        found = _measured(made, example_inputs(model.graph or Graph((), (), ()), options.batch))
        if found is None:
            return _noted(made["int8"], "int8: unmeasured, since the network does not run on example values")
        cache.keep_choices(file, {key: found})
        times = found
    precision: Arithmetic = "int8" if times["int8"] <= times["fp32"] else "fp32"
    text = ", ".join(f"{name} {1e6 * seconds:.0f}" for name, seconds in sorted(times.items()))
    return _noted(made.get(precision) or assembled(models[precision]), f"{precision}: measured, us: {text}")


def example_inputs(graph: Graph, batch: int) -> list[AnyArray]:
    """A sine wave for float32 inputs, zeros for others (indices, masks); free sizes are ``batch``."""
    return [
        waves(_sizes(spec, batch)) if spec.dtype == "float32" else np.zeros(_sizes(spec, batch), spec.dtype)
        for spec in graph.inputs
    ]


def _both(
    models: Mapping[Arithmetic, PackedModel], assembled: Callable[[PackedModel], Assembly]
) -> tuple[dict[str, Assembly], str]:
    """Both networks, or the one that the engine runs and its error for the other."""
    made: dict[str, Assembly] = {}
    refusals: dict[str, EngineError] = {}
    for precision, model in models.items():
        try:
            made[precision] = assembled(model)
        except EngineError as error:
            refusals[precision] = error
    if not made:
        raise refusals["fp32"]
    return made, "; ".join(f"{precision} was refused: {error}" for precision, error in refusals.items())


def _sizes(spec: ValueSpec, batch: int) -> tuple[int, ...]:
    return tuple(batch if size is None else size for size in spec.shape)


def _unmeasured(
    models: Mapping[Arithmetic, PackedModel], assembled: Callable[[PackedModel], Assembly]
) -> Assembly:
    precision: Arithmetic
    precision, why = (
        ("fp32", "has no int8 instructions") if int8_saturates() else ("int8", "has int8 instructions")
    )
    return _noted(
        assembled(models[precision]),
        f"{precision}: unmeasured, a call is too long for it; the processor {why}",
    )


def _noted(assembly: Assembly, note: str) -> Assembly:
    return replace(assembly, notes=(note, *assembly.notes))


def _measured(made: Mapping[str, Assembly], inputs: list[AnyArray]) -> dict[str, float] | None:
    """The shortest call of each in seconds, in turns; None where a call fails on such inputs.

    The first round, in which memory is touched, counts only where it alone took the time.
    """
    times: dict[str, list[float]] = {precision: [] for precision in made}
    first = time.perf_counter()
    for number in range(MOST_ROUNDS):
        for precision, assembly in made.items():
            start = time.perf_counter()
            try:
                assembly.run(inputs)
            except InputError:
                return None
            times[precision].append(time.perf_counter() - start)
        if number and time.perf_counter() - first > SECONDS or time.perf_counter() - first > 4 * SECONDS:
            break
    return {precision: min(found[1:] or found) for precision, found in times.items()}


def _structure(model: PackedModel) -> str:
    """A digest of all that a call's time depends on: operations, shapes, ranges, zeros of large matrices."""
    graph = model.graph or Graph((), (), ())
    text = repr(
        (
            [(spec.dtype, spec.shape) for spec in graph.inputs],
            [(node.op, node.inputs, sorted(node.attrs.items())) for node in graph.nodes],
            graph.outputs,
            [entry.value for entry in graph.ranges],
            [_form(tensor) for tensor in model.tensors],
        )
    )
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _form(tensor: Tensor) -> tuple[object, ...]:
    zeros = None
    if len(tensor.shape) == 2 and tensor.size >= SMALL:
        zeros = 100 - 100 * tensor.nonzeros() // tensor.size
    return tensor.layout, tensor.shape, zeros
