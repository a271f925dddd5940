"""Writes ``tests/runtime/emulation/tflite_vectors.npz``: integers that TensorFlow Lite's kernels compute.

Not part of the library. Run it from the repository in a separate environment:

    pip install ai-edge-litert==2.3.0
    pip install --no-deps tflite-micro==0.dev20261023182759
    python studies/tflite_vectors.py

Each case is one operator with random weights and encodings. Its flatbuffer is made here and run by TensorFlow
Lite for Microcontrollers (its reference kernels, portable C++): these integers are stored. LiteRT, the later
name of TensorFlow Lite, runs it too (``OpResolverType.BUILTIN_REF``: its reference kernels, no XNNPACK, no
delegate); ``litert`` is the number of its integers that differ. Arrays are stored in the layout of TensorFlow
Lite (NHWC); ``tests/runtime/emulation/test_tflite_vectors.py`` transposes them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tflite_micro.python.tflite_micro import runtime as micro

RNG = np.random.default_rng(2026)
OUT = Path(__file__).parents[1] / "tests" / "runtime" / "emulation" / "tflite_vectors.npz"
TYPES = {
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "float32": schema.TensorType.FLOAT32,
}
VERSIONS = {
    getattr(schema.BuiltinOperator, name): number
    for name, number in {
        "CONV_2D": 5, "DEPTHWISE_CONV_2D": 5, "FULLY_CONNECTED": 5, "TRANSPOSE_CONV": 3, "AVERAGE_POOL_2D": 3,
        "MAX_POOL_2D": 3, "MEAN": 3, "ADD": 3, "CONCATENATION": 3, "QUANTIZE": 3,
    }.items()
}  # fmt: skip
ACTIVATIONS = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}


@dataclass
class Model:
    """A flatbuffer under construction: tensors, their data, operators in order."""

    tensors: list[Any] = field(default_factory=list)
    buffers: list[bytes] = field(default_factory=lambda: [b""])
    codes: list[int] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str,
        scales: Sequence[float] = (),
        zeros: Sequence[int] = (),
        axis: int = 0,
        data: np.ndarray | None = None,
    ) -> int:
        made = schema.TensorT()
        made.shape, made.type = list(shape), TYPES[dtype]
        made.name = f"t{len(self.tensors)}"
        if scales:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = list(scales)
            made.quantization.zeroPoint = list(zeros) or [0] * len(scales)
            made.quantization.quantizedDimension = axis
        if data is not None:
            made.buffer = len(self.buffers)
            self.buffers.append(np.ascontiguousarray(data).tobytes())
        self.tensors.append(made)
        return len(self.tensors) - 1

    def operator(self, name: str, inputs: list[int], output: int, options: str | None, **values: Any) -> None:
        made = schema.OperatorT()
        code = getattr(schema.BuiltinOperator, name)
        if code not in self.codes:
            self.codes.append(code)
        made.opcodeIndex, made.inputs, made.outputs = self.codes.index(code), inputs, [output]
        if options is not None:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            made.builtinOptions = getattr(schema, options + "T")()
            for key, value in values.items():
                if not hasattr(made.builtinOptions, key):
                    raise KeyError(key)
                setattr(made.builtinOptions, key, value)
        self.operators.append(made)

    def data(self, inputs: list[int], outputs: list[int]) -> bytes:
        graph = schema.SubGraphT()
        graph.tensors, graph.inputs, graph.outputs, graph.operators = (
            self.tensors,
            inputs,
            outputs,
            self.operators,
        )
        model = schema.ModelT()
        model.version, model.subgraphs = 3, [graph]
        for code in self.codes:
            made = schema.OperatorCodeT()
            made.builtinCode, made.deprecatedBuiltinCode, made.version = code, min(code, 127), VERSIONS[code]
            model.operatorCodes = [*(model.operatorCodes or []), made]
        model.buffers = []
        for held in self.buffers:
            made = schema.BufferT()
            made.data = list(held) or None
            model.buffers.append(made)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def run(model: Model, inputs: list[int], output: int, arrays: Sequence[np.ndarray]) -> dict[str, Any]:
    """The output of the microcontrollers' kernels, and how many of LiteRT's integers differ from it."""
    data = model.data(inputs, [output])
    device = micro.Interpreter.from_bytes(data, arena_size=2**20)
    for k, array in enumerate(arrays):
        device.set_input(array, k)
    device.invoke()
    y = device.get_output(0)
    net = Interpreter(
        model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
    )
    net.allocate_tensors()
    for where, array in zip(net.get_input_details(), arrays, strict=True):
        net.set_tensor(where["index"], array)
    net.invoke()
    other = net.get_tensor(net.get_output_details()[0]["index"])
    return {"y": y, "litert": int((other != y).sum())}


def scale(low: float, high: float) -> float:
    return float(np.float32(np.exp(RNG.uniform(np.log(low), np.log(high)))))


def activation(bits: int, low: float = 0.01, high: float = 0.1) -> tuple[float, int]:
    """Scale and zero point of an activation; 16-bit ones have none."""
    if bits == 16:
        return float(np.float32(scale(low, high) / 200)), 0
    return scale(low, high), int(RNG.integers(-128, 128))


def integers(bits: int, *shape: int) -> np.ndarray:
    return RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape).astype(f"int{bits}")


@dataclass
class Vectors:
    """Cases with their arrays, by name."""

    cases: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, kind: str, said: dict[str, Any], litert: int, **arrays: np.ndarray) -> None:
        name = f"{len(self.cases):02d}"
        self.cases.append({"kind": kind, **said, "litert": litert})
        self.arrays.update({f"{name}.{key}": array for key, array in arrays.items()})


def layer(found: Vectors, kind: str, bits: int, **said: Any) -> None:
    """One layer with int8 weights by row (or one scale for all), a bias, and a fused activation."""
    x_shape, w_shape, axis = said.pop("x"), said.pop("w"), {"depthwise": 3}.get(kind, 0)
    rows = w_shape[axis]
    per_row = said.get("per_row", True)
    w_scales = [scale(0.002, 0.02) for _ in range(rows if per_row else 1)]
    x, weight = integers(bits, *x_shape), RNG.integers(-127, 128, w_shape).astype(np.int8)
    (x_scale, x_zero) = activation(bits)
    fan_in = weight.size // rows
    out = float(np.float32(x_scale * np.mean(w_scales) * 127 * np.sqrt(fan_in) * (1 if bits == 16 else 0.9)))
    out_scale, out_zero = (out, 0) if bits == 16 else (out, int(RNG.integers(-100, 100)))
    bias = RNG.integers(-9000, 9000, rows).astype("int64" if bits == 16 else "int32")
    model, kind_of = Model(), f"int{bits}"
    given = model.tensor(x_shape, kind_of, [x_scale], [x_zero])
    held = model.tensor(w_shape, "int8", w_scales, axis=axis, data=weight)
    shift = model.tensor((rows,), bias.dtype.name, [x_scale * s for s in w_scales], data=bias)
    window = said.get("stride", 1), said.get("dilation", 1)
    y_shape = said.pop("y")
    made = model.tensor(y_shape, kind_of, [out_scale], [out_zero])
    fused = ACTIVATIONS[said.get("activation", "none")]
    same = schema.Padding.SAME if said.get("same") else schema.Padding.VALID
    common = {"fusedActivationFunction": fused}
    if kind == "linear":
        model.operator("FULLY_CONNECTED", [given, held, shift], made, "FullyConnectedOptions", **common)
    elif kind == "transposed":
        sizes = model.tensor((4,), "int32", data=np.int32(y_shape))
        model.operator(
            "TRANSPOSE_CONV", [sizes, held, given, shift], made, "TransposeConvOptions",
            padding=same, strideW=window[0], strideH=window[0], **common,
        )  # fmt: skip
    else:
        extra = {"depthMultiplier": w_shape[3] // x_shape[3]} if kind == "depthwise" else {}
        name, options = {
            "conv": ("CONV_2D", "Conv2DOptions"),
            "depthwise": ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"),
        }[kind]
        model.operator(
            name, [given, held, shift], made, options, padding=same, strideW=window[0], strideH=window[0],
            dilationWFactor=window[1], dilationHFactor=window[1], **common, **extra,
        )  # fmt: skip
    got = run(model, [given], made, [x])
    scales = {"in": [x_scale, x_zero], "out": [out_scale, out_zero], "weight": w_scales}
    found.add(kind, {"bits": bits, **said, **scales}, x=x, w=weight, b=bias, **got)


def pool(found: Vectors, kind: str, bits: int, **said: Any) -> None:
    """Average or maximum of windows."""
    x_shape, y_shape = said.pop("x"), said.pop("y")
    x, (x_scale, x_zero) = integers(bits, *x_shape), activation(bits)
    model = Model()
    given, made = (model.tensor(s, f"int{bits}", [x_scale], [x_zero]) for s in (x_shape, y_shape))
    same = schema.Padding.SAME if said.get("same") else schema.Padding.VALID
    model.operator(
        {"average": "AVERAGE_POOL_2D", "maximum": "MAX_POOL_2D"}[kind], [given], made, "Pool2DOptions",
        padding=same, strideW=said["stride"], strideH=said["stride"],
        filterWidth=said["window"], filterHeight=said["window"],
    )  # fmt: skip
    got = run(model, [given], made, [x])
    found.add(kind, {"bits": bits, **said, "in": [x_scale, x_zero], "out": [x_scale, x_zero]}, x=x, **got)


def mean(found: Vectors, bits: int, x_shape: Sequence[int]) -> None:
    """The mean over height and width, in the input's own encoding."""
    x, (x_scale, x_zero) = integers(bits, *x_shape), activation(bits)
    model = Model()
    given = model.tensor(x_shape, f"int{bits}", [x_scale], [x_zero])
    axes = model.tensor((2,), "int32", data=np.int32([1, 2]))
    made = model.tensor((x_shape[0], x_shape[3]), f"int{bits}", [x_scale], [x_zero])
    model.operator("MEAN", [given, axes], made, "ReducerOptions", keepDims=False)
    got = run(model, [given], made, [x])
    found.add("mean", {"bits": bits, "in": [x_scale, x_zero], "out": [x_scale, x_zero]}, x=x, **got)


def add(found: Vectors, bits: int, fused: str) -> None:
    """A sum of two activations with different encodings."""
    shape = (1, 16, 16, 4)
    a, b = integers(bits, *shape), integers(bits, *shape)
    one, two, out = activation(bits), activation(bits), activation(bits, 0.1, 0.2)
    model = Model()
    left, right, made = (model.tensor(shape, f"int{bits}", [s], [z]) for s, z in (one, two, out))
    model.operator(
        "ADD", [left, right], made, "AddOptions",
        fusedActivationFunction=ACTIVATIONS[fused], potScaleInt16=False,
    )  # fmt: skip
    got = run(model, [left, right], made, [a, b])
    said = {"bits": bits, "activation": fused, "in": list(one), "other": list(two), "out": list(out)}
    found.add("add", said, x=a, other=b, **got)


def concatenation(found: Vectors, bits: int) -> None:
    """Two activations brought to one encoding (QUANTIZE), then put together."""
    shape = (1, 12, 12, 3)
    a, b = integers(bits, *shape), integers(bits, *shape)
    one, two, out = activation(bits), activation(bits), activation(bits)
    model = Model()
    left, right = (model.tensor(shape, f"int{bits}", [s], [z]) for s, z in (one, two))
    brought = [model.tensor(shape, f"int{bits}", [out[0]], [out[1]]) for _ in range(2)]
    for source, target in zip((left, right), brought, strict=True):
        model.operator("QUANTIZE", [source], target, "QuantizeOptions")
    made = model.tensor((1, 12, 12, 6), f"int{bits}", [out[0]], [out[1]])
    model.operator("CONCATENATION", brought, made, "ConcatenationOptions", axis=3)
    got = run(model, [left, right], made, [a, b])
    said = {"bits": bits, "in": list(one), "other": list(two), "out": list(out)}
    found.add("cat", said, x=a, other=b, **got)


def quantise(found: Vectors, bits: int) -> None:
    """Real numbers to integers, ties included."""
    encoding = activation(bits)
    x = RNG.normal(0, encoding[0] * 2 ** (bits - 2), 600).astype(np.float32)
    x[:200] = np.float32((np.arange(200) - 100 + 0.5) * encoding[0])
    model = Model()
    given = model.tensor((600,), "float32")
    made = model.tensor((600,), f"int{bits}", [encoding[0]], [encoding[1]])
    model.operator("QUANTIZE", [given], made, "QuantizeOptions")
    got = run(model, [given], made, [x])
    found.add("quantise", {"bits": bits, "in": list(encoding), "out": list(encoding)}, x=x, **got)


def everything() -> Vectors:
    found = Vectors()
    for bits in (8, 16):
        layer(found, "conv", bits, x=(2, 9, 9, 3), w=(8, 3, 3, 3), y=(2, 7, 7, 8))
        layer(
            found,
            "conv",
            bits,
            x=(2, 9, 9, 3),
            w=(8, 3, 3, 3),
            y=(2, 5, 5, 8),
            stride=2,
            same=True,
            activation="relu",
        )
        layer(
            found,
            "conv",
            bits,
            x=(1, 10, 8, 4),
            w=(6, 3, 3, 4),
            y=(1, 6, 4, 6),
            dilation=2,
            activation="relu6",
        )
        layer(found, "conv", bits, x=(1, 8, 8, 16), w=(12, 1, 1, 16), y=(1, 8, 8, 12), per_row=False)
        layer(
            found,
            "depthwise",
            bits,
            x=(2, 9, 9, 6),
            w=(1, 3, 3, 6),
            y=(2, 9, 9, 6),
            same=True,
            activation="relu6",
        )
        layer(found, "depthwise", bits, x=(1, 9, 9, 4), w=(1, 3, 3, 8), y=(1, 4, 4, 8), stride=2)
        layer(found, "linear", bits, x=(20, 40), w=(16, 40), y=(20, 16), per_row=False)
        layer(found, "linear", bits, x=(20, 40), w=(16, 40), y=(20, 16), activation="relu")
        layer(
            found, "transposed", bits, x=(1, 5, 5, 3), w=(4, 3, 3, 3), y=(1, 10, 10, 4), stride=2, same=True
        )
        pool(found, "average", bits, x=(1, 9, 9, 5), y=(1, 5, 5, 5), window=3, stride=2, same=True)
        pool(found, "average", bits, x=(2, 8, 8, 5), y=(2, 4, 4, 5), window=2, stride=2)
        pool(found, "maximum", bits, x=(1, 9, 9, 5), y=(1, 5, 5, 5), window=3, stride=2, same=True)
        mean(found, bits, (8, 7, 7, 20))
        mean(found, bits, (8, 4, 4, 20))
        add(found, bits, "none")
        add(found, bits, "relu")
        concatenation(found, bits)
        quantise(found, bits)
    return found


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    vectors = everything()
    made_with = {name: version(name) for name in ("tflite-micro", "ai-edge-litert")}
    said = json.dumps({"made with": made_with, "cases": vectors.cases})
    np.savez_compressed(OUT, about=np.array(said), **vectors.arrays)
    print(OUT, OUT.stat().st_size, "bytes,", len(vectors.cases), "cases")
