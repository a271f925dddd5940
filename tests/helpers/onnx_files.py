"""Small ONNX models, built with the package onnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

RNG = np.random.default_rng(0)


def weight(*shape: int) -> Any:
    """Normal float32 numbers."""
    return (RNG.standard_normal(shape) / 4).astype(np.float32)


def model(
    nodes: Sequence[NodeProto],
    arrays: Mapping[str, Any],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str] = ("y",),
    *,
    kinds: Mapping[str, int] | None = None,
    opset: int = 17,
) -> ModelProto:
    """A model: nodes, initialisers, float32 inputs (or of ``kinds``) and float32 outputs of unknown shape."""
    types = kinds or {}
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), None) for n in outputs],
        [
            numpy_helper.from_array(np.asarray(a), n) if isinstance(a, np.ndarray | np.generic) else a
            for n, a in arrays.items()
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return made


def node(kind: str, inputs: str, outputs: str = "y", **attrs: Any) -> NodeProto:
    """A node whose names stand in one text, "-" for an absent one."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), **attrs)


def network() -> ModelProto:
    """A convolution, a normalisation, pooling, and two products."""
    nodes = [
        node("Conv", "x conv.w conv.b", "a", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", "a bn.w bn.b bn.m bn.v", "b"),
        node("Relu", "b", "c"),
        node("MaxPool", "c", "d", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "d", "e"),
        node("Gemm", "e fc.w fc.b", "f", transB=1),
        node("MatMul", "f out.w", "g"),
        node("Add", "g out.b", "y"),
    ]
    arrays = {
        "conv.w": weight(8, 3, 3, 3),
        "conv.b": weight(8),
        "bn.w": 1 + weight(8),
        "bn.b": weight(8),
        "bn.m": weight(8),
        "bn.v": 1 + weight(8) ** 2,
        "fc.w": weight(16, 32),
        "fc.b": weight(16),
        "out.w": weight(16, 10),
        "out.b": weight(10),
    }
    return model(nodes, arrays, {"x": ("n", 3, 8, 8)})


def write(path: Path, made: ModelProto) -> str:
    """The model as a file; its path."""
    path.write_bytes(made.SerializeToString())
    return str(path)


def run(made: ModelProto | bytes | str, *inputs: Any) -> list[Any]:
    """The outputs of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    given = made.SerializeToString() if isinstance(made, ModelProto) else made
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))
