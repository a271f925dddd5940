"""Builds the steps that run a model: ONNX sessions, and our kernels for the linear layers given to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from laconic.errors import EngineError
from laconic.records import AnyArray, PackedModel, Record, record
from laconic.runtime.engines.cache import cache_file
from laconic.runtime.engines.choice import Chooser, LayerChoice
from laconic.runtime.engines.few_bits import PackedImplementation
from laconic.runtime.engines.layers import LinearLayer, find_layers, with_packed
from laconic.runtime.engines.own import is_own, own_matrix
from laconic.runtime.engines.plan import Cutter, KernelStep, SessionStep, Step
from laconic.runtime.engines.session import open_session, run_session, runners_needed, wrong_values
from laconic.runtime.engines.workers import Workers
from laconic.runtime.graph.sizes import Claims
from laconic.runtime.onnx_model.model import build
from laconic.runtime.onnx_model.protos import OnnxGraph
from laconic.runtime.origin import Options
from laconic.runtime.precision import with_precision

if TYPE_CHECKING:
    from laconic.runtime.engines.arithmetic import Arithmetic
    from laconic.runtime.kernels import KernelMatrix


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
    """The steps of a model in the arithmetic that it was given in."""
    if model.graph is not None and model.graph.ranges:
        from laconic.runtime.engines.float_choice import float_layers

        graph = build(model)
        return replace(_whole(graph, float_layers(model, options.batch), options), precision="int8")
    layers = [] if options.engine == "onnxruntime" else find_layers(model, claimed.shapes)
    return _chosen(model, layers, options)


def _whole(graph: OnnxGraph, choices: Sequence[LayerChoice], options: Options) -> Assembly:
    """The graph in one session: as ONNX Runtime rewrites it or, where that fails, as it stands."""
    inputs, outputs = _names_of_ends(graph)
    notes: tuple[str, ...] = ()
    try:
        session = open_session(graph, options.threads)
    except EngineError as error:
        session = open_session(graph, options.threads, rewritten=False)
        notes = (f"runs as it stands, slower: {error}",)
    nbytes = sum(array.nbytes for array in graph.initialisers.values())
    steps = (SessionStep(session, inputs, outputs),)
    return Assembly(steps, inputs, outputs, tuple(choices), nbytes, graph.initialisers, notes=notes)


def _chosen(model: PackedModel, layers: Sequence[LinearLayer], options: Options) -> Assembly:
    """The graph with the chosen implementation of each layer; in one session where there are none."""
    workers = options.threads or _cores()
    pool = Workers(workers - 1) if workers > 1 else None
    chooser = Chooser(
        options.batch, options.threads, options.engine == "fastest", cache_file(), workers, pool
    )
    choices = chooser.forced(layers) if options.engine == "sparse" else chooser.choose(layers)
    changed = [
        (layer, choice.implementation)
        for layer, choice in zip(layers, choices, strict=True)
        if choice.implementation != "dense"
    ]
    graph = build(model, [layer.part for layer, _ in changed])
    if not changed:
        return _whole(graph, choices, options)
    packed: dict[int, tuple[LinearLayer, PackedImplementation]] = {}
    own: dict[int, tuple[LinearLayer, KernelMatrix]] = {}
    matrices: dict[tuple[str, str], KernelMatrix] = {}  # layers that share a weight share its matrix
    for part, (layer, implementation) in enumerate(changed):
        if not is_own(implementation):
            packed[part] = layer, implementation
            continue
        key = layer.name, implementation
        if key not in matrices:
            matrices[key] = own_matrix(layer.tensor, implementation, workers, pool)
        own[part] = layer, matrices[key]
    graph = with_packed(graph, packed)
    steps = tuple(Cutter(graph, options.threads, own).steps())
    return _assembly_of(graph, steps, choices)


def _assembly_of(
    graph: OnnxGraph,
    steps: tuple[Step, ...],
    choices: Sequence[LayerChoice],
) -> Assembly:
    """The assembly of these steps; initialisers that no step reads are dropped."""
    used = {name for step in steps if isinstance(step, SessionStep) for name in step.weights}
    kept = {name: array for name, array in graph.initialisers.items() if name in used}
    kernels = [step for step in steps if isinstance(step, KernelStep)]
    arrays = [*kept.values(), *(step.bias for step in kernels if step.bias is not None)]
    matrices = {id(step.matrix): step.matrix for step in kernels}
    nbytes = sum(array.nbytes for array in arrays) + sum(matrix.nbytes for matrix in matrices.values())
    return Assembly(steps, *_names_of_ends(graph), tuple(choices), nbytes, kept)


def _names_of_ends(graph: OnnxGraph) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a graph's inputs and outputs."""
    return tuple(value.name for value in graph.inputs), tuple(value.name for value in graph.outputs)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
