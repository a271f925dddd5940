"""Builds the steps that run a model: ONNX sessions, and our kernels for the linear layers given to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from laconic.errors import EngineError
from laconic.records import AnyArray, PackedModel, Record, record
from laconic.runtime.engines.cache import cache_file
from laconic.runtime.engines.choice import Chooser, LayerChoice
from laconic.runtime.engines.layers import find_layers, with_packed
from laconic.runtime.engines.own import is_own, own_layers
from laconic.runtime.engines.plan import Cutter, KernelStep, SessionStep, Step, whole
from laconic.runtime.engines.session import run_session, runners_needed, wrong_values
from laconic.runtime.engines.workers import Workers
from laconic.runtime.graph.sizes import Claims
from laconic.runtime.onnx_model.model import build
from laconic.runtime.onnx_model.protos import OnnxGraph
from laconic.runtime.origin import Options
from laconic.runtime.precision import with_precision

if TYPE_CHECKING:
    from laconic.runtime.engines.arithmetic import Arithmetic
    from laconic.runtime.engines.openvino import OpenVinoNetwork


@record
class Assembly(Record):
    """The steps of a network, and how they were chosen.

    Attributes:
        steps: What is run, in order.
        inputs: The names of the inputs' values.
        outputs: The names of the outputs' values.
        layers: How each linear layer runs.
        nbytes: Bytes of the weights in the form that is multiplied.
        weights: The arrays that the sessions share, kept for as long as they are.
        precision: The arithmetic.
        notes: Which arithmetic runs and why, and what an engine refused.
    """

    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[LayerChoice, ...]
    nbytes: int
    weights: Mapping[str, AnyArray]
    precision: Literal["int8", "fp32"] = "fp32"
    notes: tuple[str, ...] = ()

    @property
    def quick(self) -> Callable[[AnyArray], AnyArray] | None:
        """The network as one function of one array, where it is one session with one input and output.

        A small network runs in 20 microseconds, of which :meth:`run` would take a fifth.
        """
        only = self.steps[0] if len(self.steps) == 1 else None
        if not isinstance(only, SessionStep) or len(self.inputs) != 1:
            return None
        run, outputs, name = only.session.run, list(self.outputs), self.inputs[0]

        def call(x: AnyArray) -> AnyArray:
            try:
                found: AnyArray = run(outputs, {name: x})[0]
                return found
            except Exception as error:  # types and shapes were checked: the values are wrong
                raise wrong_values(error) from error

        return call

    def run(self, arrays: Sequence[AnyArray]) -> list[AnyArray]:
        """The outputs for these inputs, in the graph's order."""
        values: dict[str, AnyArray] = dict(zip(self.inputs, arrays, strict=True))
        only = self.steps[0]
        if len(self.steps) == 1 and isinstance(only, SessionStep):
            found = run_session(only.session, values, self.outputs)
        else:
            for step in self.steps:
                step.run(values)
            found = [values[name] for name in self.outputs]
        # a value that is an input under another name must not share the caller's memory
        return [y.copy() if any(np.may_share_memory(y, x) for x in arrays) else y for y in found]


def engine_of(
    model: PackedModel, options: Options, claimed: Claims
) -> tuple[OpenVinoNetwork | None, Assembly | None, tuple[str, ...]]:
    """The network in OpenVINO or in steps, and notes.

    OpenVINO is also tried where ONNX Runtime refuses and the engine was left open.

    Raises ``EngineError`` when none is left, or one was asked for by name.
    """
    int8 = not options.faster and model.graph is not None and bool(model.graph.ranges)
    notes: tuple[str, ...] = (_AS_ASKED,) if int8 else ()
    if options.engine != "openvino":
        try:
            assembly = assemble(model, options, claimed)
        except EngineError as error:
            from laconic.runtime.engines.openvino import installed

            if options.engine not in ("auto", "fastest") or not installed():
                raise
            notes = (f"OpenVINO runs it: {error}",)
        else:
            left = ", ".join(layer.name for layer in assembly.layers) or "no layer"
            notes = (f"{_AS_ASKED}; in float32: {left}",) if int8 else ()
            return None, assembly, (*assembly.notes, *notes)
    from laconic.runtime.engines.openvino import OpenVinoNetwork

    return OpenVinoNetwork(model, options.threads), None, notes


_AS_ASKED = "int8: as asked for, not measured against float32"
"""The note on a network in int8 where nothing was measured."""


@runners_needed()
def assemble(model: PackedModel, options: Options, claimed: Claims) -> Assembly:
    """The steps of a model under these options; ``claimed`` is what its graph claims.

    Raises ``CorruptFileError`` for a graph that contradicts its tensors, ``EngineError`` for one that the
    engine does not run.
    """
    int8 = model.graph is not None and bool(model.graph.ranges)
    if int8 and options.faster:
        from laconic.runtime.engines.arithmetic import faster_of

        models: dict[Arithmetic, PackedModel] = {"int8": model, "fp32": with_precision(model, "fp32")}
        return faster_of(models, options, lambda one: _assembled(one, options, claimed))
    return _assembled(model, options, claimed)


def _assembled(model: PackedModel, options: Options, claimed: Claims) -> Assembly:
    """The steps of a model in the arithmetic that it was given in; one session where no layer is replaced."""
    if model.graph is not None and model.graph.ranges:
        from laconic.runtime.engines.float_choice import float_layers
        from laconic.runtime.int8.schedule import schedule_of

        schedule = schedule_of(model.graph)
        choices = float_layers(model, schedule, options.batch)
        graph = build(model, schedule=schedule)
        steps, notes = whole(graph, options.threads)
        return _assembly_of(graph, steps, choices, notes, "int8")
    layers = [] if options.engine == "onnxruntime" else find_layers(model, claimed.shapes)
    workers = options.threads or _cores()
    pool = Workers(workers - 1) if workers > 1 else None
    chooser = Chooser(
        options.batch, options.threads, options.engine == "fastest", cache_file(), workers, pool
    )
    choices = chooser.forced(layers) if options.engine == "sparse" else chooser.choose(layers)
    replaced = [
        (layer, choice.implementation)
        for layer, choice in zip(layers, choices, strict=True)
        if choice.implementation != "dense"
    ]
    graph = build(model, [layer.part for layer, _ in replaced])
    if replaced:
        parts = dict(enumerate(replaced))
        own = own_layers({k: (layer, one) for k, (layer, one) in parts.items() if is_own(one)}, workers, pool)
        graph = with_packed(graph, {k: (layer, one) for k, (layer, one) in parts.items() if not is_own(one)})
        steps, notes = Cutter(graph, options.threads, own).steps(), ()
    else:
        steps, notes = whole(graph, options.threads)
    return _assembly_of(graph, steps, choices, notes, "fp32")


def _assembly_of(
    graph: OnnxGraph,
    steps: Sequence[Step],
    choices: Sequence[LayerChoice],
    notes: tuple[str, ...],
    precision: Literal["int8", "fp32"],
) -> Assembly:
    """The assembly of these steps; initialisers that no step reads are dropped."""
    used = {name for step in steps if isinstance(step, SessionStep) for name in step.weights}
    kept = {name: array for name, array in graph.initialisers.items() if name in used}
    kernels = [step for step in steps if isinstance(step, KernelStep)]
    arrays = [*kept.values(), *(step.bias for step in kernels if step.bias is not None)]
    matrices = {id(step.matrix): step.matrix for step in kernels}
    nbytes = sum(array.nbytes for array in arrays) + sum(matrix.nbytes for matrix in matrices.values())
    inputs, outputs = (tuple([value.name for value in values]) for values in (graph.inputs, graph.outputs))
    return Assembly(tuple(steps), inputs, outputs, tuple(choices), nbytes, kept, precision, notes)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
