"""Runs a converted graph beside the ONNX model that it was made from, in ONNX Runtime, and compares them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from laconic.errors import LaconicError, LimitError
from laconic.records import AnyArray, PackedModel, ValueSpec
from laconic.records.limits import DEFAULT, Limits
from laconic.runtime import Network

TOLERANCE = 1e-4
"""Largest difference over the largest output. Rounding stays far below, a wrong rule far above."""
_ROUNDING = 1e-6
_MOST = 2**26  # entries of all inputs together
_FREE = ((2, 16), (3, 24), (1, 64))
"""Free sizes: of first axes, and of others; the original may refuse some of them."""
_TABLE = 2
"""Integers of an input are below this: a table that they look up has at least so many rows."""


def disagreement(model: PackedModel, original: bytes) -> str | None:
    """Why the graph does not stand for the ONNX model.

    Args:
        model: The graph of our own.
        original: A ``ModelProto`` with the same weights.

    Returns:
        A difference, or an error of either, in words; None where they agree on random inputs.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = None
    try:
        network = Network.from_packed(model, 1, replace(Limits.trusted(), call_memory=DEFAULT.call_memory))
    except LaconicError as error:
        return f"the converted graph does not run ({_first_line(error)})"
    compared = 0
    for sizes in _FREE:
        shapes = [_shape(spec, sizes) for spec in network.inputs]
        if sum(math.prod(shape) for shape in shapes) > _MOST:
            return f"inputs of the shape {', '.join(map(str, shapes))} are too large to be tried"
        inputs = [_random(spec, shape) for spec, shape in zip(network.inputs, shapes, strict=True)]
        got, failed = _called(network, inputs)
        if isinstance(failed, LimitError):
            return f"the converted graph does not run on {_shapes(inputs)} ({_first_line(failed)})"
        try:
            # Loading computes what is constant, without a limit: after our own call, which has one.
            session = session or onnxruntime.InferenceSession(
                original, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - ONNX Runtime raises a family of its own
            return f"ONNX Runtime does not load it ({_first_line(error)})"
        try:
            wanted = session.run(None, dict(zip((s.name for s in network.inputs), inputs, strict=True)))
        except Exception:  # noqa: BLE001 - these sizes are not for this model
            continue
        if failed is not None:
            return f"the converted graph does not run on {_shapes(inputs)} ({_first_line(failed)})"
        problem = _difference(got, wanted)
        if problem:
            return f"the converted graph gives {problem}, for inputs {_shapes(inputs)}"
        compared += 1
    return None if compared else "ONNX Runtime runs it on none of the sizes that were tried"


def _called(network: Network, inputs: list[AnyArray]) -> tuple[list[AnyArray], Exception | None]:
    """The outputs, or what kept the network from running."""
    try:
        return network.run(tuple(inputs)), None
    except Exception as error:  # noqa: BLE001 - it is reported
        return [], error


def _shape(spec: ValueSpec, sizes: tuple[int, int]) -> tuple[int, ...]:
    """The input's shape with one free size for first axes, and one for others."""
    return tuple((sizes[0] if k == 0 else sizes[1]) if n is None else n for k, n in enumerate(spec.shape))


def _random(spec: ValueSpec, shape: tuple[int, ...]) -> AnyArray:
    generator = np.random.default_rng(sum(shape))
    if np.dtype(spec.dtype).kind == "f":
        return generator.standard_normal(shape).astype(spec.dtype)
    return generator.integers(0, _TABLE, shape).astype(spec.dtype)


def _difference(got: list[AnyArray], wanted: list[AnyArray]) -> str | None:
    for a, b in zip(got, wanted, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"an output of shape {a.shape} and type {a.dtype}, not {b.shape} and {b.dtype}"
        x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
        usual = np.isfinite(x) & np.isfinite(y)
        if not np.array_equal(x[~usual], y[~usual], equal_nan=True):
            return "NaN or infinite outputs elsewhere"
        worst = float(np.abs(x[usual] - y[usual]).max(initial=0.0))
        largest = float(np.abs(y[usual]).max(initial=0.0))
        if worst > max(TOLERANCE * largest, _ROUNDING):
            return f"other numbers (largest difference {worst:.3g}, largest output {largest:.3g})"
    return None


def _shapes(inputs: list[AnyArray]) -> str:
    return ", ".join(str(x.shape) for x in inputs)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
