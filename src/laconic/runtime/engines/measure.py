"""Times each implementation of one linear layer alone, within a bounded time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np

from laconic.records import AnyArray, FloatArray, Tensor
from laconic.runtime.engines.few_bits import PackedImplementation, packed_nodes
from laconic.runtime.engines.session import open_session, run_session
from laconic.runtime.onnx_model.protos import OnnxGraph, OnnxNode, OnnxValue

SECONDS_EACH = 0.03
"""Timed calls of one implementation stop after this long (but not before three of them)."""

MOST_CALLS = 15


def fastest_calls(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The shortest of a few calls of each, in seconds; they take turns, so that other load affects all.

    The shortest is kept, since other load only makes calls longer.
    """
    for call in calls.values():
        call()  # memory is touched, kernels are set up
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(MOST_CALLS):
        for name, call in calls.items():
            if len(times[name]) >= 3 and sum(times[name]) > SECONDS_EACH:
                continue
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: min(found) for name, found in times.items()}


def waves(shape: tuple[int, ...]) -> FloatArray:
    """Numbers between -1 and 1 to measure with, sin(0), sin(1)...; numpy.random takes 15 ms to import."""
    return np.sin(np.arange(math.prod(shape), dtype=np.float32)).reshape(shape)


def layer_call(
    tensor: Tensor, implementation: PackedImplementation | None, x: FloatArray, threads: int | None
) -> tuple[Callable[[], object], int]:
    """A call of one layer alone in ONNX Runtime (None: dense float32), and the bytes of its weights."""
    if implementation is None:
        nodes = [OnnxNode("MatMul", ("x", "w"), ("y",), {})]
        weights: dict[str, AnyArray] = {"w": np.ascontiguousarray(tensor.values().T, dtype=np.float32)}
    else:
        nodes, weights = packed_nodes(tensor, "x", "y", implementation, "w")
    given = (OnnxValue("x", "float32", (None, x.shape[-1])),)
    session = open_session(OnnxGraph(nodes, given, (OnnxValue("y", "float32"),), weights), threads)
    return lambda: run_session(session, {"x": x}), sum(array.nbytes for array in weights.values())


def cut_seconds() -> float:
    """Seconds that one more session costs a network: a call of a session with one ReLU of one entry."""
    given, made = (OnnxValue(name, "float32", (None,)) for name in ("x", "y"))
    session = open_session(OnnxGraph([OnnxNode("Relu", ("x",), ("y",), {})], (given,), (made,), {}), 1)
    x = np.zeros(1, np.float32)
    return fastest_calls({"cut": lambda: run_session(session, {"x": x})})["cut"]
