"""An ONNX Runtime session on the CPU; its errors, and a missing package, as Laconic's errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.errors import CorruptFileError, EngineError, InputError
from laconic.records import AnyArray
from laconic.runtime.engines.cpu import int8_saturates, processor
from laconic.runtime.onnx_model.protos import BESIDE_BYTES, OnnxGraph, model_bytes

if TYPE_CHECKING:
    import onnxruntime


RUNNERS = ("onnx", "onnxruntime")


@contextmanager
def runners_needed() -> Iterator[None]:
    """Raise an error that says what to install when ONNX or ONNX Runtime is missing.

    Raises ``EngineError``, which names the package and what goes without it.

    >>> from laconic.errors import EngineError
    >>> try:
    ...     with runners_needed():
    ...         raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
    ... except EngineError as error:
    ...     print(str(error).partition(":")[0])
    running a network takes the package onnxruntime, which is not installed
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in RUNNERS:
            raise
        raise EngineError(
            f"running a network takes the package {package}, which is not installed: there may be none for "
            "this platform (musl Linux, Macs with Intel's processors). Cure: pip install it where it has a "
            "wheel; laconic.pack.read gives a file's tensors without"
        ) from error


_INT8 = ("DequantizeLinear", "MatMulInteger")
"""Nodes that int8 weights go through."""


def open_session(
    graph: OnnxGraph, threads: int | None, *, rewritten: bool = True
) -> onnxruntime.InferenceSession:
    """An ONNX Runtime CPU session that shares the weights' memory and whose threads sleep when idle.

    Without ``rewritten`` the graph runs as it stands: ONNX Runtime's passes over it are left out.

    Raises ``EngineError`` where those passes fail on a graph that runs without them, or where a kernel or
    memory is missing; ``CorruptFileError`` for a graph that is refused as it stands.
    """
    exact = any(node.kind in _INT8 for node in graph.nodes) and int8_saturates()
    model, weights = model_bytes(graph), graph.initialisers
    try:
        return _session(model, weights, threads, exact, rewritten)
    except ModuleNotFoundError:  # runners_needed says what to install
        raise
    except Exception as error:  # ONNX Runtime has its own exception classes
        runs_plain = rewritten and _runs_as_it_stands(model, weights, threads, exact)
        if not runs_plain and not any(word in str(error) for word in _UNSUPPORTED):
            raise CorruptFileError(f"the graph contradicts its tensors: {error}") from error
        option = ("as it stands", "rewritten")[rewritten] + (", session.x64quantprecision" if exact else "")
        raise EngineError(
            f"ONNX Runtime (graph {option}) does not run this network on {processor()}: {error}. "
            "Cure: precision='fp32', or engine='openvino'"
        ) from error


_UNSUPPORTED = ("NOT_IMPLEMENTED", "ailed to allocate", "bad allocation", "bad_alloc")
"""Texts of errors that are not about the graph: no kernel for a type, no memory."""


def _runs_as_it_stands(
    model: bytes, weights: Mapping[str, AnyArray], threads: int | None, exact: bool
) -> bool:
    try:
        _session(model, weights, threads, exact, rewritten=False)
    except Exception:  # noqa: BLE001 - as above: the graph itself is refused
        return False
    return True


def _session(
    model: bytes, weights: Mapping[str, AnyArray], threads: int | None, exact: bool, rewritten: bool
) -> onnxruntime.InferenceSession:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if exact:  # int8 weights become uint8, which takes longer; else sums would saturate at 16 bits
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not rewritten:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    beside = {name: np.ascontiguousarray(a) for name, a in weights.items() if a.nbytes >= BESIDE_BYTES}
    values = [ort.OrtValue.ortvalue_from_numpy(a) for a in beside.values()]
    options.add_external_initializers(list(beside), values)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(
    session: onnxruntime.InferenceSession, feed: dict[str, AnyArray], outputs: Sequence[str] | None = None
) -> list[Any]:
    """The outputs (all, or those named) for these inputs."""
    try:
        return list(session.run(outputs, feed))
    except Exception as error:  # the values are wrong: an embedding index out of range, say
        raise wrong_values(error) from error


def wrong_values(error: Exception) -> InputError:
    """The error for inputs of the right types and shapes that a session does not take."""
    return InputError(
        f"the network cannot run on these values: {error}. Cure: values as in training, indices below the "
        "size of their table"
    )


def numpy_type(text: str) -> str:
    """The NumPy type that ONNX Runtime calls ``tensor(float)``, ``tensor(int64)``...

    >>> numpy_type("tensor(float)"), numpy_type("tensor(bool)")
    ('float32', 'bool')
    """
    name = text.removeprefix("tensor(").removesuffix(")")
    return "float32" if name == "float" else name
