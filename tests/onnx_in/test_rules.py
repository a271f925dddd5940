"""Each operator with a rule gives what ONNX Runtime gives, on fixed and on free sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, numpy_helper

from laconic.onnx_in import pack_onnx
from laconic.onnx_in.rules import RULES
from laconic.runtime import export_onnx, load
from tests.helpers.onnx_files import model, node, run, weight, write

Case = tuple[list[NodeProto], dict[str, Any]]


def _ints(*values: int) -> Any:
    return np.array(values, np.int64)


def _scalar(value: int) -> Any:
    return np.array(value, np.int64)


def _unary(kind: str, **attrs: Any) -> Case:
    return [node(kind, "m", **attrs)], {}


def _const(name: str, value: Any) -> NodeProto:
    return node("Constant", "", name, value=numpy_helper.from_array(np.asarray(value), name))


VECTORS: dict[str, Case] = {
    **{
        k: _unary(k)
        for k in ("Relu", "Sigmoid", "Tanh", "Softsign", "Softplus", "Selu", "HardSwish", "Floor")
    },
    **{k: _unary(k) for k in ("Exp", "Abs", "Neg", "Erf", "Sin", "Cos", "Atan")},
    **{k: _unary(k) for k in ("Elu", "LeakyRelu", "HardSigmoid", "Softmax", "LogSoftmax")},
    "hard sigmoid of a sixth": _unary("HardSigmoid", alpha=1 / 6, beta=0.5),
    **{k: _unary(k) for k in ("Identity", "Dropout", "Ceil", "Round", "Sign")},
    "elu": _unary("Elu", alpha=0.7),
    "leaky": _unary("LeakyRelu", alpha=0.3),
    "softmax of an axis": _unary("Softmax", axis=1),
    "roots": (
        [node("Abs", "m", "a"), node("Sqrt", "a", "b"), node("Reciprocal", "b c", "y")][:2]
        + [
            node("Add", "b one", "d"),
            node("Log", "d", "e"),
            node("Add", "e one", "f"),
            node("Reciprocal", "f", "y"),
        ],
        {"one": np.float32(1)},
    ),
    "sums and products": (
        [node("Add", "m v", "a"), node("Sub", "v a", "b"), node("Mul", "b m", "c"), node("Div", "c v", "y")],
        {"v": 2 + weight(12)},
    ),
    "scalars": (
        [node("Sub", "s m", "a"), node("Div", "a s", "b"), node("Mul", "s b", "c"), node("Pow", "c t", "y")],
        {"s": np.float32(3), "t": np.float32(2)},
    ),
    "comparisons": (
        [
            node("Greater", "m z", "a"),
            node("Less", "m o", "b"),
            node("And", "a b", "c"),
            node("Not", "c", "d"),
            node("LessOrEqual", "m z", "e"),
            node("Or", "d e", "f"),
            node("GreaterOrEqual", "m o", "g"),
            node("Equal", "m z", "h"),
            node("Or", "g h", "i"),
            node("Or", "f i", "j"),
            node("Where", "j m v", "y"),
        ],
        {"z": np.float32(0), "o": np.float32(1), "v": weight(12)},
    ),
    "least and largest": (
        [node("Min", "m v", "a"), node("Max", "a w2", "y")],
        {"v": weight(12), "w2": weight(12)},
    ),
    "clip": ([node("Clip", "m lo hi")], {"lo": np.float32(-0.5), "hi": np.float32(0.5)}),
    "clip from below": ([node("Clip", "m lo")], {"lo": np.float32(-0.5)}),
    "cast": ([node("Cast", "m", "a", to=7), node("Cast", "a", "y", to=1)], {}),
    **{
        k: ([node(k, "m", axes=[-1], keepdims=0)], {})
        for k in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp")
    },
    "ReduceSum": ([node("ReduceSum", "m axes", keepdims=1)], {"axes": _ints(1)}),
    "largest": ([node("ArgMax", "m", "a", axis=-1, keepdims=0), node("Cast", "a", "y", to=1)], {}),
    "smallest": ([node("ArgMin", "m", "a", axis=1), node("Cast", "a", "y", to=1)], {}),
    "layer norm": (
        [node("LayerNormalization", "m g b", axis=-1, epsilon=1e-3)],
        {"g": weight(12), "b": weight(12)},
    ),
    "transpose": ([node("Transpose", "m", "a", perm=[0, 2, 1]), node("MatMul", "m a")], {}),
    "flatten": ([node("Flatten", "m")], {}),
    "flatten two": ([node("Flatten", "m", axis=2)], {}),
    "flatten none": ([node("Flatten", "m", axis=0)], {}),
    "squeeze": ([node("Unsqueeze", "m d", "a"), node("Squeeze", "a d")], {"d": _ints(0, 2)}),
    "concat": ([node("Concat", "m m", axis=-1)], {}),
    "select": ([node("Gather", "m k", axis=1)], {"k": _scalar(2)}),
    "take": ([node("Gather", "m k", axis=2)], {"k": _ints(5, 1, 1)}),
    "slice": (
        [node("Slice", "m s e a t")],
        {"s": _ints(1, 0), "e": _ints(2**31 - 1, -1), "a": _ints(2, 1), "t": _ints(2, 1)},
    ),
    "split": (
        [node("Split", "m sizes", "a b", axis=-1), node("Concat", "b a", axis=-1)],
        {"sizes": _ints(4, 8)},
    ),
    "pad": ([node("Pad", "m p f")], {"p": _ints(0, 1, 0, 0, 0, 2), "f": np.float32(0.5)}),
    "cumsum": ([node("CumSum", "m a")], {"a": _scalar(-1)}),
    "gather elements": (
        [node("GatherElements", "v i", "a", axis=1), node("Add", "m a")],
        {"v": weight(4, 12), "i": np.zeros((4, 12), np.int64)},
    ),
    "a reshape by the batch": (
        [
            node("Shape", "x", "s"),
            node("Gather", "s k", "n"),
            node("Unsqueeze", "n d", "u"),
            node("Concat", "u rest", "t", axis=0),
            node("Reshape", "m t"),
        ],
        {"k": _scalar(0), "d": _ints(0), "rest": _ints(-1, 6)},
    ),
    "arithmetic on sizes": (
        [
            node("Shape", "x", "s"),
            node("Slice", "s a b", "n"),
            node("Mul", "n two", "p"),
            node("Div", "p two", "q"),
            node("Concat", "q rest", "t", axis=0),
            node("Reshape", "m t"),
        ],
        {"a": _ints(0), "b": _ints(1), "two": _ints(2), "rest": _ints(48)},
    ),
    "an expansion as PyTorch writes it": (
        [
            node("Shape", "x", "s"),
            node("Gather", "s k", "n"),
            node("Unsqueeze", "n d", "u"),
            node("Concat", "u rest", "t", axis=0),
            node("Shape", "t", "l"),
            node("ConstantOfShape", "l", "ones", value=numpy_helper.from_array(_ints(1))),
            node("Mul", "ones minus", "neg"),
            node("Equal", "t neg", "eq"),
            node("Where", "eq ones t", "z"),
            node("Expand", "v z", "e"),
            node("Add", "m e"),
        ],
        {"k": _scalar(0), "d": _ints(0), "rest": _ints(-1, -1), "minus": _scalar(-1), "v": weight(1, 4, 12)},
    ),
    "positions": (
        [
            node("Shape", "x", "s"),
            node("Gather", "s k", "n"),
            node("Range", "k n one", "r"),
            node("Cast", "r", "f", to=1),
            node("Reshape", "f t", "g"),
            node("Add", "m g"),
        ],
        {"k": _scalar(0), "one": _scalar(1), "t": _ints(-1, 1, 1)},
    ),
    "a constant": ([_const("c", weight(12)), node("Add", "m c")], {}),
    "a filled constant": (
        [
            node("ConstantOfShape", "sh", "c", value=numpy_helper.from_array(np.float32([2]))),
            node("Mul", "m c"),
        ],
        {"sh": _ints(12)},
    ),
    "a fixed range": (
        [node("Range", "z n o", "r"), node("Cast", "r", "f", to=1), node("Add", "m f")],
        {"z": _scalar(0), "n": _scalar(12), "o": _scalar(1)},
    ),
    "gemm": ([node("Flatten", "m", "a"), node("Gemm", "a g c")], {"g": weight(48, 5), "c": weight(5)}),
    "gemm of a sum": (
        [node("Flatten", "m", "a"), node("Gemm", "a g c", transB=1)],
        {"g": weight(5, 48), "c": weight(1, 5)},
    ),
    "slope": ([node("PRelu", "m p")], {"p": weight(4, 1)}),
}
"""After the product ``m`` (n, 4, 12) of ``x`` (n, 4, 8) and a weight."""

IMAGES: dict[str, Case] = {
    "convolution": (
        [node("Conv", "m c b", strides=[2, 1], pads=[1, 0, 1, 2], dilations=[1, 2], group=2)],
        {"c": weight(6, 2, 3, 3), "b": weight(6)},
    ),
    "transposed convolution": (
        [node("ConvTranspose", "m c b", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])],
        {"c": weight(4, 6, 3, 3), "b": weight(6)},
    ),
    "largest of windows": (
        [node("MaxPool", "m", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0])],
        {},
    ),
    "means of windows": (
        [node("AveragePool", "m", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])],
        {},
    ),
    "means with padding": (
        [node("AveragePool", "m", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)],
        {},
    ),
    "global": (
        [node("GlobalAveragePool", "m", "a"), node("GlobalMaxPool", "m", "b"), node("Add", "a b")],
        {},
    ),
    "batch norm": (
        [node("BatchNormalization", "m g b e v", epsilon=1e-3)],
        {"g": weight(4), "b": weight(4), "e": weight(4), "v": 1 + weight(4) ** 2},
    ),
    "instance norm": ([node("InstanceNormalization", "m g b")], {"g": weight(4), "b": weight(4)}),
    "pixel shuffle": ([node("DepthToSpace", "m", blocksize=2, mode="CRD")], {}),
    "slope of channels": ([node("PRelu", "m p")], {"p": weight(4, 1, 1)}),
}
"""After the convolution ``m`` (n, 4, 8, 8) of ``x`` (n, 4, 8, 8)."""


def _check(tmp_path: Path, nodes: list[NodeProto], arrays: dict[str, Any], x: Any, free: Any) -> None:
    for shape in (x.shape, free):
        path = write(tmp_path / "a.onnx", model(nodes, arrays, {"x": shape}))
        found = pack_onnx(path, tmp_path / "a.lac", step=0.01)
        assert found.runs, found.notes
        pack_onnx(path, tmp_path / "k.lac", step=0.01, keep_graph=True)
        export_onnx(tmp_path / "k.lac", tmp_path / "k.onnx")
        (wanted,) = run(str(tmp_path / "k.onnx"), x)
        np.testing.assert_allclose(load(tmp_path / "a.lac")(x), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(tmp_path: Path, name: str) -> None:
    nodes, arrays = VECTORS[name]
    x = np.random.default_rng(2).standard_normal((3, 4, 8)).astype(np.float32)
    _check(tmp_path, [node("MatMul", "x w", "m"), *nodes], {"w": weight(8, 12), **arrays}, x, ("n", 4, 8))


@pytest.mark.parametrize("name", IMAGES)
def test_images(tmp_path: Path, name: str) -> None:
    nodes, arrays = IMAGES[name]
    x = np.random.default_rng(2).standard_normal((3, 4, 8, 8)).astype(np.float32)
    first = node("Conv", "x w", "m", pads=[1, 1, 1, 1])
    _check(tmp_path, [first, *nodes], {"w": weight(4, 4, 3, 3), **arrays}, x, ("n", 4, 8, 8))


def test_tokens(tmp_path: Path) -> None:
    nodes = [node("Gather", "table x", "m"), node("MatMul", "m w", "y")]
    made = model(
        nodes, {"table": weight(20, 8), "w": weight(8, 8)}, {"x": ("n", "t")}, kinds={"x": TensorProto.INT64}
    )
    path = write(tmp_path / "a.onnx", made)
    assert pack_onnx(path, tmp_path / "a.lac", step=1e-3).runs
    ids = np.arange(12).reshape(3, 4)
    np.testing.assert_allclose(load(tmp_path / "a.lac")(ids), run(path, ids)[0], atol=0.02)


def test_a_weight_that_two_products_read_from_both_sides(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "a"), node("Gemm", "a w", "y", transB=1)]
    x = np.random.default_rng(2).standard_normal((3, 8)).astype(np.float32)
    _check(tmp_path, nodes, {"w": weight(8, 12)}, x, ("n", 8))


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([node("Gemm", "f g", alpha=0.5)], "alpha and beta"),
        ([node("Flatten", "m", "a"), node("Softmax", "a b")], "ONNX Runtime does not load it"),
        ([node("DepthToSpace", "m", blocksize=2)], "mode DCR"),
        ([node("Conv", "m c", auto_pad="SAME_UPPER")], "auto_pad SAME_UPPER"),
        ([node("MaxPool", "m", "y i", kernel_shape=[2, 2])], "indices"),
        ([node("LRN", "m", size=3)], "operator LRN (node 'y') has no rule"),
    ],
)
def test_forms_without_a_rule_are_told(tmp_path: Path, nodes: list[NodeProto], told: str) -> None:
    every = [node("Conv", "x w", "m", pads=[1, 1, 1, 1]), node("Flatten", "m", "f"), *nodes]
    arrays = {"w": weight(4, 4, 3, 3), "g": weight(256, 5), "c": weight(4, 4, 3, 3)}
    found = pack_onnx(
        write(tmp_path / "a.onnx", model(every, arrays, {"x": (2, 4, 8, 8)})), tmp_path / "a.lac", bits=4
    )
    assert not found.runs and told in found.notes[0], found.notes


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_recurrences(tmp_path: Path, kind: str, both: bool, bias: bool) -> None:
    gates, ways = (4 if kind == "LSTM" else 3), 1 + both
    attrs = {} if kind == "LSTM" else {"linear_before_reset": 1}
    arrays = {"w": weight(ways, gates * 6, 8), "r": weight(ways, gates * 6, 6)}
    if bias:
        arrays["b"] = weight(ways, 2 * gates * 6)
    direction = "bidirectional" if both else "forward"
    layer = node(kind, "x w r b" if bias else "x w r", "a h", hidden_size=6, direction=direction, **attrs)
    nodes = [layer, node("ReduceSum", "h axes", "s", keepdims=1), node("Add", "a s")]
    x = np.random.default_rng(2).standard_normal((5, 3, 8)).astype(np.float32)
    _check(tmp_path, nodes, {**arrays, "axes": _ints(0)}, x, ("t", "n", 8))


def test_recurrences_without_a_rule(tmp_path: Path) -> None:
    arrays = {"w": weight(1, 18, 8), "r": weight(1, 18, 6)}
    for attrs, told in (
        ({}, "resets before"),
        ({"direction": "reverse"}, "backwards"),
        ({"clip": 1.0}, "clip"),
    ):
        made = model([node("GRU", "x w r", hidden_size=6, **attrs)], arrays, {"x": (5, 3, 8)})
        found = pack_onnx(write(tmp_path / "a.onnx", made), tmp_path / "a.lac", bits=4)
        assert not found.runs and told in found.notes[0]


def test_newer_forms(tmp_path: Path) -> None:
    """Version 20: Gelu and Mish are operators, axes of reductions are inputs."""
    nodes = [
        node("MatMul", "x w", "m"),
        node("Gelu", "m", "a"),
        node("Gelu", "a", "b", approximate="tanh"),
        node("Mish", "b", "c"),
        node("ReduceMean", "c axes", "y", keepdims=0),
    ]
    made = model(nodes, {"w": weight(8, 12), "axes": np.array([-1])}, {"x": ("n", 8)}, opset=20)
    assert pack_onnx(write(tmp_path / "a.onnx", made), tmp_path / "a.lac", bits=6).notes == ()


def test_every_rule_is_tried() -> None:
    cases = [*VECTORS.values(), *IMAGES.values()]
    tried = {each.op_type for nodes, _ in cases for each in nodes}
    elsewhere = {"MatMul", "LSTM", "GRU", "Gelu", "Mish", "Mod"}  # above; Mod as Div, on sizes
    assert set(RULES) - tried - elsewhere == set()
