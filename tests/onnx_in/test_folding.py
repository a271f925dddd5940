"""Weights that a graph computes from constants are found, and the graph computes what it did."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from laconic import pack
from laconic.onnx_in import pack_onnx
from laconic.onnx_in.arrays import Folder
from laconic.onnx_in.folding import folded
from laconic.runtime import export_onnx
from tests.helpers.onnx_files import model, node, run, weight, write

_RNG = np.random.default_rng(3)
_X = _RNG.standard_normal((4, 16)).astype(np.float32)
_INT8 = _RNG.integers(-128, 128, (16, 24)).astype(np.int8)
_ROW = np.linspace(0.01, 0.03, 24).astype(np.float32)


def _constant(name: str, array: Any) -> onnx.NodeProto:
    return node("Constant", "", name, value=numpy_helper.from_array(np.asarray(array), name))


def _shape(*sizes: int) -> Any:
    return np.array(sizes, np.int64)


CHAINS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "constant": ([_constant("w", weight(16, 24))], {}),
    "identity of a constant": ([_constant("c", weight(16, 24)), node("Identity", "c", "w")], {}),
    "scaled": ([node("Mul", "v s", "w")], {"v": weight(16, 24), "s": np.float32(0.5)}),
    "weight norm": (
        [node("ReduceL2", "v", "n", axes=[0]), node("Div", "v n", "u"), node("Mul", "u g", "w")],
        {"v": weight(16, 24), "g": weight(1, 24)},
    ),
    "shape, cast and transposition": (
        [
            _constant("to", _shape(24, -1)),
            node("Reshape", "v to", "r"),
            node("Cast", "r", "f", to=TensorProto.FLOAT),
            node("Transpose", "f", "t", perm=[1, 0]),
            node("Add", "t b", "w"),
        ],
        {"v": weight(384).astype(np.float16), "b": weight(24)},
    ),
    "integers with one scale": (
        [node("DequantizeLinear", "q s z", "w")],
        {"q": _INT8, "s": np.float32(0.02), "z": np.int8(3)},
    ),
    "integers with a scale by column": (
        [node("DequantizeLinear", "q s", "w", axis=1)],
        {"q": _INT8, "s": _ROW},
    ),
    "a cast of integers": (
        [node("Cast", "q", "f", to=TensorProto.FLOAT), node("Mul", "f s", "w")],
        {"q": _INT8, "s": _ROW},
    ),
    "cut and put together": (
        [
            node("Slice", "v from to one", "a"),
            node("Slice", "v to end one", "b"),
            node("Concat", "b a", "w", axis=1),
        ],
        {"v": weight(16, 24), "from": _shape(0), "to": _shape(10), "end": _shape(24), "one": _shape(1)},
    ),
    "picked": (
        [node("Gather", "v i", "p", axis=0), node("Squeeze", "p axis", "w")],
        {"v": weight(3, 16, 24), "i": _shape(1), "axis": _shape(0)},
    ),
}


def _net(kind: str) -> onnx.ModelProto:
    nodes, arrays = CHAINS[kind]
    last = [node("MatMul", "x w", "h"), node("Relu", "h", "y")]
    return model([*nodes, *last], arrays, {"x": ("n", 16)})


def _plain(path: str) -> Any:
    """Outputs in ONNX Runtime as the graph says: optimised, it rounds activations before integer weights."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": _X})[0]


@pytest.mark.parametrize("kind", CHAINS)
def test_a_computed_weight_becomes_an_initialiser(kind: str, tmp_path: Path) -> None:
    """ONNX Runtime computes the same from the folded model, and reads one initialiser."""
    path = write(tmp_path / "a.onnx", _net(kind))
    done = folded(Path(path).read_bytes(), Folder(None))
    (tmp_path / "b.onnx").write_bytes(done)
    back = onnx.load_from_string(done)
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(back))
    assert [n.op_type for n in back.graph.node] == ["MatMul", "Relu"]
    (one,) = back.graph.initializer
    assert one.name == "w" and list(one.dims) == [16, 24]
    np.testing.assert_allclose(_plain(str(tmp_path / "b.onnx")), _plain(path), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keep_graph", [True, False])
@pytest.mark.parametrize("kind", ["weight norm", "integers with a scale by column", "cut and put together"])
def test_a_computed_weight_is_compressed(kind: str, keep_graph: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", _net(kind))
    found = pack_onnx(path, tmp_path / "a.lac", bits=8, keep_graph=keep_graph)
    assert (found.weights, found.tensors, found.runs) == (384, 1, not keep_graph)
    assert found.original == Path(path).stat().st_size
    assert not any("inside the graph" in note for note in found.notes)
    assert {t.name for t in pack.read(tmp_path / "a.lac").tensors if t.size == 384} == {"w"}
    export_onnx(tmp_path / "a.lac", tmp_path / "b.onnx")
    wanted = _plain(path)
    assert np.abs(run(str(tmp_path / "b.onnx"), _X)[0] - wanted).max() < 0.03 * np.abs(wanted).max()


def test_what_something_else_reads_stays() -> None:
    """A scale that an activation is multiplied by, too; a constant of a graph within a node."""
    inner = helper.make_graph(
        [node("Identity", "u", "i")], "inner", [], [helper.make_tensor_value_info("i", 1, None)]
    )
    other = helper.make_graph(
        [node("Identity", "h", "j")], "other", [], [helper.make_tensor_value_info("j", 1, None)]
    )
    nodes = [
        node("Mul", "v s", "u"),
        node("Neg", "u", "w"),
        node("MatMul", "x w", "h"),
        node("If", "yes", "k", then_branch=inner, else_branch=other),
        node("Mul", "h s", "y"),
    ]
    arrays = {"v": weight(16, 24), "s": np.float32(0.5), "yes": np.bool_(True)}
    made = model(nodes, arrays, {"x": ("n", 16)}, ("y", "k"))
    back = onnx.load_from_string(folded(made.SerializeToString(), Folder(None)))
    assert [n.op_type for n in back.graph.node] == ["Mul", "MatMul", "If", "Mul"]
    assert sorted(t.name for t in back.graph.initializer) == ["s", "v", "w", "yes"]


def test_what_is_kept_is_not_folded() -> None:
    data = _net("scaled").SerializeToString()
    assert folded(data, Folder(None), ["v"]) == data == folded(data, Folder(None), ["nothing", "v*"])
    assert folded(data, Folder(None), ["w"]) != data


@pytest.mark.parametrize("kind", ["Mul", "Transpose", "Identity"])
def test_a_model_without_computed_weights_keeps_its_bytes(kind: str) -> None:
    """Activations times a constant; an initialiser that is moved, which is a weight as it is."""
    first = {"Mul": node("Mul", "x s", "w"), "Transpose": node("Transpose", "v", "w")}
    nodes = [first.get(kind, node("Identity", "v", "w")), node("MatMul", "w v", "y")]
    data = model(nodes, {"v": weight(16, 16), "s": np.float32(2)}, {"x": (16, 16)}).SerializeToString()
    assert folded(data, Folder(None)) == data


def test_constants_that_double_again_and_again_are_left_alone() -> None:
    nodes = [node("Concat", f"c{k} c{k}", f"c{k + 1}", axis=0) for k in range(40)]
    nodes += [node("Gather", "c40 i", "g", axis=0), node("MatMul", "x g", "y")]
    data = model(nodes, {"c0": weight(64, 64), "i": np.arange(16)}, {"x": ("n", 16)}).SerializeToString()
    tracemalloc.start()
    assert folded(data, Folder(None)) == data
    assert tracemalloc.get_traced_memory()[1] < 2**29
    tracemalloc.stop()


def test_a_long_chain_needs_no_recursion() -> None:
    nodes = [node("Neg", f"c{k}", f"c{k + 1}") for k in range(2000)]
    nodes.append(node("MatMul", "x c2000", "y"))
    data = model(nodes, {"c0": weight(16, 24)}, {"x": ("n", 16)}).SerializeToString()
    back = onnx.load_from_string(folded(data, Folder(None)))
    assert len(back.graph.node) == 1


def test_a_circle_is_no_constant() -> None:
    nodes = [node("Neg", "b", "a"), node("Neg", "a", "b"), node("MatMul", "x a", "y")]
    data = model(nodes, {"v": weight(8, 8)}, {"x": ("n", 8)}).SerializeToString()
    assert folded(data, Folder(None)) == data


def _axes_of_none(noop: int) -> onnx.NodeProto:
    return node("ReduceL2", "v none", "n", noop_with_empty_axes=noop)


UNFOLDED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "a norm over no axis": (
        [_axes_of_none(1), node("Add", "v n", "w")],
        {"v": weight(16, 24), "none": np.zeros(0, np.int64)},
    ),
    "a type of the result": (
        [
            node("DequantizeLinear", "q s", "h", output_dtype=TensorProto.FLOAT16),
            node("Cast", "h", "w", to=1),
        ],
        {"q": _INT8, "s": np.float32(0.02)},
    ),
    "a shape that is none": ([node("Reshape", "v to", "w")], {"v": weight(384), "to": _shape(16, -2)}),
    "old broadcasting": (
        [node("Mul", "v s", "w", broadcast=1, axis=0)],
        {"v": weight(16, 24), "s": weight(1, 24)},
    ),
    "an axis out of range": (
        [node("Unsqueeze", "v far", "u"), node("Add", "u u", "w")],
        {"v": weight(16, 24), "far": _shape(-(2**63))},
    ),
    "more scales than columns": (
        [node("DequantizeLinear", "q s", "w", axis=1)],
        {"q": np.zeros((600, 1), np.int8), "s": np.ones(600, np.float32)},
    ),
}


def _bytes(nodes: list[onnx.NodeProto], stored: dict[str, Any]) -> bytes:
    return model([*nodes, node("MatMul", "x w", "y")], stored, {"x": ("n", 16)}).SerializeToString()


@pytest.mark.parametrize("name", UNFOLDED)
def test_what_the_rules_do_not_say_is_left_to_the_graph(name: str) -> None:
    data = _bytes(*UNFOLDED[name])
    assert folded(data, Folder(None)) == data


def _weight(nodes: list[onnx.NodeProto], stored: dict[str, Any]) -> Any:
    """The one initialiser that is left after folding."""
    (w,) = onnx.load_from_string(folded(_bytes(nodes, stored), Folder(None))).graph.initializer
    return numpy_helper.to_array(w)


def test_a_norm_over_all_axes_is_one_over_all() -> None:
    stored = {"v": weight(16, 24), "none": np.zeros(0, np.int64)}
    w = _weight([_axes_of_none(0), node("Div", "v n", "w")], stored)
    assert np.allclose(w, stored["v"] / np.linalg.norm(stored["v"]), rtol=1e-5)


def test_what_a_caller_may_replace_is_no_constant() -> None:
    """An initialiser that is an input, too, is a default."""
    made = onnx.load_from_string(
        _bytes([node("Mul", "v s", "w")], {"v": weight(16, 24), "s": np.float32(0.5)})
    )
    made.graph.input.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, []))
    data = made.SerializeToString()
    assert folded(data, Folder(None)) == data


def test_blocks_longer_than_the_axis_take_no_more_than_it() -> None:
    stored = {"q": _INT8, "s": weight(1, 24)}
    w = _weight([node("DequantizeLinear", "q s", "w", axis=0, block_size=2**40)], stored)
    assert np.allclose(w, _INT8 * stored["s"], rtol=1e-6)
