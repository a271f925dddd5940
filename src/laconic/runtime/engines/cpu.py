"""The processor: its name, and what ONNX Runtime does to int8 products on it."""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import cache

import numpy as np


def processor() -> str:
    """The processor's model, as the system reports it."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def int8_saturates() -> bool:
    """Whether sums of two uint8 x int8 products saturate at 16 bits, as on x86 processors without VNNI.

    ONNX Runtime multiplies there by ``vpmaddubsw``: 2 x 255 x 127 becomes 32,767. It is asked for such a
    product, since what an operating system says of a processor need not be what programs find (emulators,
    virtual machines). That takes half a millisecond, once in a process that runs int8.
    """
    import onnxruntime as ort

    from laconic.runtime.onnx_model.protos import OnnxGraph, OnnxNode, OnnxValue, model_bytes

    graph = OnnxGraph(
        [OnnxNode("MatMulInteger", ("x", "w"), ("y",), {})],
        (OnnxValue("x", "uint8", (1, 4)),),
        (OnnxValue("y", "int32", (1, 1)),),
        {"w": np.full((4, 1), 127, np.int8)},
    )
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = ort.InferenceSession(model_bytes(graph), options, providers=["CPUExecutionProvider"])
    product = session.run(None, {"x": np.full((1, 4), 255, np.uint8)})[0]
    return int(product[0, 0]) != 4 * 255 * 127
