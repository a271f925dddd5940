"""A whole network in OpenVINO, where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from laconic.errors import EngineError, InputError
from laconic.records import AnyArray, PackedModel
from laconic.runtime.engines.cpu import processor
from laconic.runtime.engines.session import runners_needed
from laconic.runtime.precision import with_precision


def installed() -> bool:
    """Whether OpenVINO can be imported."""
    from importlib.util import find_spec

    return find_spec("openvino") is not None


class OpenVinoNetwork:
    """A graph whose claims were checked, compiled for the CPU in float32.

    OpenVINO computes in bfloat16 by itself on processors that have it; the hint forbids that.
    """

    @runners_needed()
    def __init__(self, model: PackedModel, threads: int | None) -> None:
        self.nbytes = sum(tensor.size * np.dtype(tensor.dtype).itemsize for tensor in model.tensors)
        if not installed():
            raise InputError("OpenVINO is not installed. Cure: pip install openvino, or engine='auto'")
        import openvino

        from laconic.runtime.onnx_model.model import standard_model

        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            core = openvino.Core()
            read = core.read_model(standard_model(with_precision(model, "fp32")).SerializeToString())
            self._compiled = core.compile_model(read, "CPU", options)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO (CPU, float32) does not run this network on {processor()}: {error}. "
                "Cure: engine='onnxruntime'"
            ) from error

    def run(self, arrays: Sequence[AnyArray]) -> list[AnyArray]:
        """The outputs, in the graph's order."""
        try:
            found = self._compiled(list(arrays))
        except RuntimeError as error:
            raise InputError(
                f"the network cannot run on these values: {error}. Cure: values as in training, indices "
                "below the size of their table"
            ) from error
        return [found[k].copy() for k in range(len(self._compiled.outputs))]
