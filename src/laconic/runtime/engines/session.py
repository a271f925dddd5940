"""An ONNX Runtime session on the CPU, and its refusals as errors of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.errors import CorruptFileError, InputError
from laconic.records import AnyArray
from laconic.runtime.cpu import int8_saturates
from laconic.runtime.onnx_build import BESIDE_BYTES

if TYPE_CHECKING:
    import onnx
    import onnxruntime


def open_session(
    model: bytes, weights: Mapping[str, AnyArray], threads: int | None
) -> onnxruntime.InferenceSession:
    """An ONNX Runtime CPU session that shares the weights' memory and whose threads sleep when idle."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if int8_saturates():  # slower, but the numbers are right
        options.add_session_config_entry("session.x64quantprecision", "1")
    beside = {name: np.ascontiguousarray(a) for name, a in weights.items() if a.nbytes >= BESIDE_BYTES}
    values = [ort.OrtValue.ortvalue_from_numpy(a) for a in beside.values()]
    options.add_external_initializers(list(beside), values)
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a family of its own for a graph it refuses
        raise CorruptFileError(f"the graph contradicts its tensors: {error}") from error


def beside(name: str, array: AnyArray) -> onnx.TensorProto:
    """An initialiser for a model whose session is handed ``array`` (small ones travel in the model)."""
    from onnx import TensorProto, helper, numpy_helper

    if array.nbytes < BESIDE_BYTES:
        return numpy_helper.from_array(array, name)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    proto = TensorProto(name=name, data_type=kind, dims=array.shape)
    proto.data_location = TensorProto.EXTERNAL
    proto.external_data.add(key="location", value="memory")
    return proto


def run_session(
    session: onnxruntime.InferenceSession, feed: dict[str, AnyArray], outputs: Sequence[str] | None = None
) -> list[Any]:
    """The outputs (all, or those named) for these inputs."""
    try:
        return list(session.run(outputs, feed))
    except Exception as error:  # e.g. an embedding index out of range: only the values are left to blame
        raise wrong_values(error) from error


def wrong_values(error: Exception) -> InputError:
    """What a session's refusal of well-shaped inputs means."""
    return InputError(f"the network cannot run on these values: {error}")
