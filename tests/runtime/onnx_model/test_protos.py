"""The bytes of an ONNX model, held against the package ``onnx``."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from laconic.errors import CorruptFileError
from laconic.runtime.engines.session import open_session, run_session
from laconic.runtime.onnx_model.protos import (
    BESIDE_BYTES,
    IR_VERSION,
    MICROSOFT,
    ONNX_TYPES,
    OPSET,
    OnnxAttr,
    OnnxGraph,
    OnnxNode,
    OnnxValue,
    model_bytes,
)

F32 = np.float32
ATTRS: dict[str, OnnxAttr] = {
    "axis": -1,
    "least": -(2**63),
    "most": 2**63 - 1,
    "zero": 0,
    "epsilon": 1e-5,
    "infinite": float("-inf"),
    "mode": "cubic \u00e9",
    "nothing": "",
    "perm": (1, 0, 300, -7),
    "pads": range(3),
    "activations": ["Relu", "Tanh"],
    "flag": True,
}
ARRAYS = {
    f"t/{kind}{shape}": np.arange(int(np.prod(shape))).reshape(shape).astype(kind)
    for kind in ONNX_TYPES
    for shape in ((), (3,), (2, 0), (2, 1, 3))
}
INPUTS = (
    OnnxValue("x", "float32", ("batch", 3, None, 1 << 40)),
    OnnxValue("n", "int64", ()),
    OnnxValue("any", "bool"),
)


def test_the_bytes_say_what_onnx_would_write() -> None:
    nodes = [
        OnnxNode("Strange", ("x", "", "a name of \u4e16"), ("y", "z"), ATTRS),
        OnnxNode("MatMulNBits", ("x",), ("w",), {"bits": 4}, MICROSOFT),
    ]
    graph = OnnxGraph(nodes, INPUTS, (OnnxValue("y", "float32"),), ARRAYS)
    plain = {name: list(v) if isinstance(v, (tuple, range)) else v for name, v in ATTRS.items()}
    expected = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Strange", ["x", "", "a name of \u4e16"], ["y", "z"], **plain),
                helper.make_node("MatMulNBits", ["x"], ["w"], domain=MICROSOFT, bits=4),
            ],
            "laconic",
            [helper.make_tensor_value_info(v.name, ONNX_TYPES[str(v.dtype)], v.shape) for v in INPUTS],
            [helper.make_tensor_value_info("y", 1, None)],
            [numpy_helper.from_array(array, name) for name, array in ARRAYS.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=IR_VERSION,
        producer_name="laconic",
    )
    found = onnx.ModelProto.FromString(model_bytes(graph, inline=True))
    for model in (found, expected):
        for node in model.graph.node:
            by_name = sorted(node.attribute, key=lambda attribute: attribute.name)
            kept = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in by_name]
            del node.attribute[:]
            node.attribute.extend(kept)
    assert found == expected


def test_large_arrays_travel_beside_the_model_and_are_not_copied() -> None:
    weight = np.arange(BESIDE_BYTES // 4, dtype=F32)
    add = OnnxNode("Add", ("x", "w"), ("y",), {})
    graph = OnnxGraph([add], (OnnxValue("x", "float32", (None,)),), (OnnxValue("y"),), {"w": weight})
    assert len(model_bytes(graph)) < 200 < BESIDE_BYTES < len(model_bytes(graph, inline=True))
    session = open_session(graph, 1)
    assert [(value.type, value.shape) for value in session.get_outputs()] == [("tensor(float)", [1024])]
    assert np.array_equal(run_session(session, {"x": weight})[0], 2 * weight)
    plain = onnxruntime.InferenceSession(model_bytes(graph, inline=True), providers=["CPUExecutionProvider"])
    assert np.array_equal(plain.run(None, {"x": weight})[0], 2 * weight)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**63, "does not fit 64 bits"),
        ((0, -(2**63) - 1), "does not fit 64 bits"),
        ((), "perm is an empty list"),
        ((1.5,), "float"),
        (None, "NoneType"),
        (1e39, "too large"),
        ("\ud800", "surrogates"),
    ],
)
def test_an_attribute_that_onnx_cannot_hold_is_a_wrong_file(value: OnnxAttr, reason: str) -> None:
    node = OnnxNode("Transpose", ("x",), ("y",), {"perm": value})
    with pytest.raises(CorruptFileError, match=f"a node of kind Transpose cannot be built: .*{reason}"):
        model_bytes(OnnxGraph([node], INPUTS[:1], (OnnxValue("y"),), {}))


def test_a_type_that_onnx_cannot_hold_is_a_wrong_file() -> None:
    with pytest.raises(CorruptFileError, match="tensor 'w' has type uint16"):
        model_bytes(OnnxGraph([], (), (), {"w": np.zeros(3, np.uint16)}))
