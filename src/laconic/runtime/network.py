"""A decoded network that runs on NumPy arrays, without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.errors import CorruptFileError, InputError
from laconic.pack.limits import DEFAULT, Limits
from laconic.records import AnyArray, PackedModel, ValueSpec
from laconic.runtime.cpu import int8_saturates
from laconic.runtime.onnx_build import BESIDE_BYTES, build
from laconic.runtime.precision import Precision, with_precision
from laconic.runtime.sizes import check_sizes

if TYPE_CHECKING:
    import onnxruntime


class Network:
    """A network ready to run: ``network(x) -> y`` on NumPy arrays.

    ``inputs`` are the expected types and shapes (None marks a free dimension), ``outputs`` the number
    of arrays that a call returns, ``nbytes`` the memory of the decoded weights.
    """

    def __init__(self, model: PackedModel, threads: int | None = None, limits: Limits = DEFAULT) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1 (or None for one per core), got {threads}")
        proto, self._weights = build(model, inline=False)
        check_sizes(proto, limits)
        self._session = _open_session(proto.SerializeToString(), self._weights, threads)
        self._names = [value.name for value in proto.graph.input]
        self.inputs: tuple[ValueSpec, ...] = model.graph.inputs if model.graph else ()
        self.outputs = len(proto.graph.output)
        self.nbytes = sum(array.nbytes for array in self._weights.values())

    @classmethod
    def from_packed(cls, model: PackedModel, threads: int | None = None, limits: Limits = DEFAULT) -> Network:
        """A network from records that were already read (see :func:`load` for a file)."""
        return cls(model, threads, limits)

    def __call__(self, *arrays: AnyArray) -> AnyArray | tuple[AnyArray, ...]:
        """Run the network; one array, or a tuple when the network has several outputs.

        Raises ``InputError`` naming the input, what was expected and what came.
        """
        self.check_inputs(*arrays)
        feed = {name: np.ascontiguousarray(a) for name, a in zip(self._names, arrays, strict=True)}
        results = _run(self._session, feed)
        return results[0] if self.outputs == 1 else tuple(results)

    def check_inputs(self, *arrays: AnyArray) -> None:
        """Refuse arrays that the network does not take, as a call would (``InputError``)."""
        if len(arrays) != len(self.inputs):
            raise InputError(f"the network takes {len(self.inputs)} inputs, got {len(arrays)}")
        self._check(arrays)

    def _check(self, arrays: tuple[AnyArray, ...]) -> None:
        """Type, rank and fixed sizes of each input; one size for all free dimensions together."""
        free: int | None = None
        for k, (spec, array) in enumerate(zip(self.inputs, arrays, strict=True)):
            if not isinstance(array, np.ndarray):
                raise InputError(
                    f"input {k} must be a NumPy array, got {type(array).__name__}. Cure: numpy.asarray"
                )
            if str(array.dtype) != spec.dtype:
                raise InputError(
                    f"input {k} must be {spec.dtype}, got {array.dtype}. Cure: x.astype('{spec.dtype}')"
                )
            sizes = [size for size, dim in zip(array.shape, spec.shape, strict=False) if dim is None]
            free = sizes[0] if sizes and free is None else free
            wanted = tuple(free if dim is None else dim for dim in spec.shape)
            if array.shape != wanted:
                raise InputError(
                    f"input {k} must have shape {_shape_text(spec.shape)}, got {_shape_text(array.shape)}. "
                    f"Cure: {_cure(spec.shape, array.shape)}"
                )


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if d is None else str(d) for d in shape) + ")"


def _cure(expected: tuple[int | None, ...], got: tuple[int, ...]) -> str:
    if len(got) == len(expected) - 1 and expected[:1] == (None,):
        return "add the batch dimension: x[None]"
    if expected.count(None) > 0 and len(got) == len(expected):
        return "give arrays of the sizes the network was captured with, and one size for all free dimensions"
    return "reshape the array, or capture the network again with an example of this shape"


def _open_session(
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


def _run(session: onnxruntime.InferenceSession, feed: dict[str, AnyArray]) -> list[Any]:
    try:
        return list(session.run(None, feed))
    except Exception as error:  # e.g. an embedding index out of range: only the values are left to blame
        raise InputError(f"the network cannot run on these values: {error}") from error


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    threads: int | None = None,
    limits: Limits = DEFAULT,
    precision: Precision = "auto",
) -> Network:
    """Read a .lac file (or its bytes) and make it ready to run.

    ``threads`` bounds the cores one call uses; None lets ONNX Runtime take them all. ``limits`` bounds
    what a file may claim. ``precision``: "auto" runs a calibrated file in int8 and any other in float32,
    "fp32" ignores the activation ranges, "int8" insists on them.

    Raises ``laconic.errors.FileFormatError`` for a wrong file, ``WeightsOnlyError`` for a file
    without a graph, ``InputError`` for int8 without calibration, ``OSError`` when there is no file.
    """
    from laconic import pack

    if isinstance(source, bytes):
        model = pack.decode(source, limits=limits)
    else:
        model = pack.read(source, limits=limits)
    return Network(with_precision(model, precision), threads, limits)
