"""Timing of the ways in which one linear layer can run, each by itself, in a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from laconic.records import AnyArray, FloatArray, Tensor
from laconic.runtime.engines.few_bits import Way, packed_nodes
from laconic.runtime.engines.session import beside, open_session, run_session

SECONDS_A_WAY = 0.03
"""Timed calls of one way stop after this long (but not before three of them)."""

MOST_CALLS = 15


def fastest_calls(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The shortest of a few calls of each, in seconds; they take turns, so that other load falls on all.

    The shortest, since what else runs on a machine only ever adds.
    """
    for call in calls.values():
        call()  # memory is touched, kernels are set up
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(MOST_CALLS):
        for name, call in calls.items():
            if len(times[name]) >= 3 and sum(times[name]) > SECONDS_A_WAY:
                continue
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: min(found) for name, found in times.items()}


def layer_call(
    tensor: Tensor, way: Way | None, x: FloatArray, threads: int | None
) -> tuple[Callable[[], object], int]:
    """A call of one layer alone in ONNX Runtime, dense float32 when ``way`` is None; bytes of its weights."""
    from onnx import helper

    from laconic.runtime.onnx_build import IR_VERSION, OPSET

    if way is None:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
        weights: dict[str, AnyArray] = {"w": np.ascontiguousarray(tensor.values().T, dtype=np.float32)}
    else:
        nodes, weights = packed_nodes(tensor, "x", "y", way, "w")
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", 1, [None, x.shape[-1]])],
        [helper.make_tensor_value_info("y", 1, None)],
        [beside(name, array) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
    session = open_session(model, weights, threads)
    return lambda: run_session(session, {"x": x}), sum(array.nbytes for array in weights.values())


def cut_seconds() -> float:
    """What one more session costs a network: a call of a session that does nothing."""
    from onnx import helper

    from laconic.runtime.onnx_build import IR_VERSION, OPSET

    value = [helper.make_tensor_value_info(name, 1, [None]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "cut", value[:1], value[1:])
    imports = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
    session = open_session(model, {}, 1)
    x = np.zeros(1, np.float32)
    return fastest_calls({"cut": lambda: run_session(session, {"x": x})})["cut"]
