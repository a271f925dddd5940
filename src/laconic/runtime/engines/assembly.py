"""From a model to steps: the graph as ONNX, a way for each large linear layer, and the cuts between them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from laconic.errors import EngineError, InputError
from laconic.pack.wire.limits import Limits
from laconic.records import AnyArray, PackedModel, Tensor
from laconic.runtime.engines.cache import cache_file
from laconic.runtime.engines.choice import Chooser, LayerChoice
from laconic.runtime.engines.few_bits import Way, replace_layers
from laconic.runtime.engines.layers import LinearLayer, find_layers
from laconic.runtime.engines.own import OwnWay, is_own, own_matrix
from laconic.runtime.engines.plan import Cutter, KernelStep, SessionStep, Step
from laconic.runtime.engines.session import open_session, run_session, wrong_values
from laconic.runtime.engines.workers import Workers
from laconic.runtime.onnx_model.model import Built, build
from laconic.runtime.onnx_model.protos import OnnxGraph

if TYPE_CHECKING:
    from laconic.runtime.kernels import KernelMatrix

Engine = Literal["auto", "fastest", "onnxruntime", "sparse", "openvino"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


@dataclass(frozen=True, eq=False)
class Options:
    """``engine`` as :func:`laconic.runtime.load` explains it, ``batch`` the usual samples of a call.

    With ``faster`` a network that can run in int8 runs in float32 where that was measured to be faster.
    """

    engine: Engine = "auto"
    threads: int | None = None
    batch: int = 1
    faster: bool = False

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InputError(f"engine must be one of {', '.join(ENGINES)}, got {self.engine!r}")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads must be at least 1 (or None for one per core), got {self.threads}")
        if self.batch < 1:
            raise InputError(f"batch must be at least 1, got {self.batch}")


class Assembly(NamedTuple):
    """What a network runs: its steps, the names of its inputs and outputs, and how each layer was chosen.

    ``notes`` say what else was chosen: the arithmetic, and what an engine refused.
    """

    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[LayerChoice, ...]
    nbytes: int
    weights: Mapping[str, AnyArray]
    """Kept for as long as the sessions that share their memory."""
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
            except Exception as error:  # only the values are left to blame
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


def assemble(model: PackedModel, options: Options, limits: Limits) -> Assembly:
    """The steps of a model under these options.

    Raises ``CorruptFileError`` or ``LimitError`` for a graph that contradicts itself or claims too much,
    ``EngineError`` for one that the engine does not run.
    """
    int8 = model.graph is not None and bool(model.graph.ranges)
    if int8 and options.faster:
        from laconic.runtime.engines.arithmetic import faster_of

        given = replace(options, faster=False)
        return faster_of(model, options, lambda one: assemble(one, given, limits))
    built = build(model, limits=limits)
    if int8:
        from laconic.runtime.engines.float_choice import float_layers

        return _whole(built.graph, float_layers(model, options.batch), options)._replace(precision="int8")
    if options.engine != "onnxruntime":
        layers = find_layers(built.graph, model.tensors)
        if layers:
            return _chosen(built, layers, model, options)
    return _whole(built.graph, (), options)


def _whole(graph: OnnxGraph, choices: Sequence[LayerChoice], options: Options) -> Assembly:
    """The graph in one session: as ONNX Runtime rewrites it or, where that fails, as it stands."""
    inputs, outputs = _doors(graph)
    notes: tuple[str, ...] = ()
    try:
        session = open_session(graph, options.threads)
    except EngineError as error:
        session = open_session(graph, options.threads, rewritten=False)
        notes = (f"runs as it stands, slower: {error}",)
    nbytes = sum(array.nbytes for array in graph.initialisers.values())
    steps = (SessionStep(session, inputs, outputs),)
    return Assembly(steps, inputs, outputs, tuple(choices), nbytes, graph.initialisers, notes=notes)


def _chosen(built: Built, layers: Sequence[LinearLayer], model: PackedModel, options: Options) -> Assembly:
    graph = built.graph
    workers = options.threads or _cores()
    pool = Workers(workers - 1) if workers > 1 else None
    chooser = Chooser(
        options.batch, options.threads, options.engine == "fastest", cache_file(), workers, pool
    )
    sized = [(layer, built.rows_of(layer.x)) for layer in layers]
    choices = chooser.forced(sized) if options.engine == "sparse" else chooser.choose(sized)
    if all(choice.way == "dense" for choice in choices):
        return _whole(graph, choices, options)
    packed: dict[int, tuple[Tensor, Way]] = {
        layer.matmul: (layer.tensor, choice.way)
        for layer, choice in zip(layers, choices, strict=True)
        if choice.way != "dense" and not is_own(choice.way)
    }
    if packed:
        graph = replace_layers(graph, packed)
    own: dict[str, OwnWay] = {choice.name: choice.way for choice in choices if is_own(choice.way)}
    own_values = {layer.x for layer in layers if layer.name in own}
    placed = find_layers(graph, model.tensors) if packed else layers
    left = [layer for layer in placed if layer.name in own and layer.x in own_values]
    matrices = {
        layer.name: own_matrix(layer.tensor, own[layer.name], workers, pool)
        for layer in {layer.name: layer for layer in left}.values()
    }
    steps = tuple(Cutter(graph, options.threads).steps(left, matrices))
    return _gather(graph, steps, matrices, choices)


def _gather(
    graph: OnnxGraph,
    steps: tuple[Step, ...],
    matrices: Mapping[str, KernelMatrix],
    choices: Sequence[LayerChoice],
) -> Assembly:
    """Only what some step reads is kept; the dense form of a layer in our own kernels goes."""
    used = {name for step in steps if isinstance(step, SessionStep) for name in step.weights}
    kept = {name: array for name, array in graph.initialisers.items() if name in used}
    biases = sum(step.bias.nbytes for step in steps if isinstance(step, KernelStep) and step.bias is not None)
    nbytes = sum(a.nbytes for a in kept.values()) + sum(m.nbytes for m in matrices.values()) + biases
    return Assembly(steps, *_doors(graph), tuple(choices), nbytes, kept)


def _doors(graph: OnnxGraph) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a graph's inputs and outputs."""
    return tuple(value.name for value in graph.inputs), tuple(value.name for value in graph.outputs)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
