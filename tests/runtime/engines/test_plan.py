"""Where a network is cut, each part is told the types and sizes of what comes in."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.pack.graph.ops import make_node
from laconic.records import AnyArray, Graph, IntTensor, Node, PackedModel, RawTensor, UniformGrid, ValueSpec
from laconic.records.limits import DEFAULT
from laconic.runtime import Network
from laconic.runtime.engines.layers import LinearLayer, find_layers
from laconic.runtime.engines.plan import SessionStep
from laconic.runtime.graph.sizes import claims_of

F32 = np.float32


def sparse(name: str, rows: int, columns: int) -> IntTensor:
    rng = np.random.default_rng(rows)
    drawn = rng.integers(-3, 4, (rows, columns)) * (rng.random((rows, columns)) < 0.2)
    return IntTensor(name, drawn.astype(np.int32), UniformGrid(0.25))


def parts(model: PackedModel, x: AnyArray) -> list[SessionStep]:
    """The sessions of a cut network, which gives what the whole one gives."""
    cut, whole = (Network.from_packed(model, 1, engine=engine) for engine in ("sparse", "onnxruntime"))
    assert [layer.implementation for layer in cut.layers] == ["sparse"] * len(cut.layers)
    np.testing.assert_allclose(np.asarray(cut(x)), np.asarray(whole(x)), rtol=1e-5, atol=1e-6)
    assert cut._assembly is not None
    return [step for step in cut._assembly.steps if isinstance(step, SessionStep)]


def test_values_of_any_type_cross_a_cut() -> None:
    """A bool and an int64 are made before the sparse layer, and read behind it."""
    nodes = (
        make_node("gt", (0,), scalar=0.0),  # 1: bool (n, 8)
        make_node("argmax", (0,), axis=1, keepdim=True),  # 2: int64 (n, 1)
        make_node("linear", (0, -1)),  # 3
        make_node("argmax", (3,), axis=1, keepdim=True),  # 4
        make_node("maximum", (2, 4)),  # 5: int64 of both sides
        make_node("where", (1, 3, 0)),  # 6
        make_node("cast", (5,), to="float32"),  # 7
        make_node("add", (6, 7)),  # 8
    )
    graph = Graph((ValueSpec("float32", (None, 8)),), nodes, (8,))
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(F32)
    before, behind = parts(PackedModel((sparse("w", 8, 8),), graph), x)
    told = {value.name: (value.type, value.shape) for value in behind.session.get_inputs()}
    assert sorted(kind for kind, _ in told.values()) == [
        "tensor(bool)",
        "tensor(float)",
        "tensor(float)",
        "tensor(int64)",
    ]
    assert {shape[1] for _, shape in told.values()} == {1, 8}
    assert len(before.outputs) == 2


def test_sizes_flow_through_views_and_layers() -> None:
    nodes = (
        make_node("flatten", (0,), axis=1),
        make_node("linear", (1, -1)),
        make_node("sigmoid", (2,)),
    )
    graph = Graph((ValueSpec("float32", (None, 2, 3)),), nodes, (3,))
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(F32)
    (last,) = parts(PackedModel((sparse("w", 5, 6),), graph), x)
    assert [value.shape[1] for value in last.session.get_inputs()] == [5]


@pytest.mark.parametrize(
    ("shape", "axes", "rows"),
    [((None, 8), (), 1), ((None, 7, 8), (), 7), ((None, 7, None, 8), ("batch", "time"), 7), ((4, 8), (), 4)],
)
def test_rows_that_one_sample_gives_a_layer(
    shape: tuple[int | None, ...], axes: tuple[str, ...], rows: int
) -> None:
    graph = Graph((ValueSpec("float32", shape, "x", axes),), (Node("linear", (0, -1)),), (1,))
    assert [layer.rows for layer in layers_of(PackedModel((sparse("w", 3, 8),), graph))] == [rows]


def test_a_batch_that_must_be_large_counts_once() -> None:
    """Sizes fit from 64 on: four samples make one row of the layer."""
    nodes = (make_node("reshape", (0,), shape=(-1, 32)), Node("linear", (1, -1)))
    graph = Graph((ValueSpec("float32", (None, 8)),), nodes, (2,))
    model = PackedModel((sparse("w", 3, 32),), graph)
    assert claims_of(model, DEFAULT).shapes[0] == (64, 8)
    assert [layer.rows for layer in layers_of(model)] == [1]


def layers_of(model: PackedModel) -> list[LinearLayer]:
    return find_layers(model, claims_of(model, DEFAULT).shapes)


def test_a_layer_takes_in_what_nobody_else_reads() -> None:
    """Bias and ReLU, of the operation or behind it; not where the value between has another reader."""
    w, b = sparse("w", 8, 8), RawTensor("b", np.arange(8, dtype=F32))
    wide = RawTensor("wide", np.ones((1, 8), F32))

    def found(outputs: tuple[int, ...], *nodes: Node) -> list[tuple[tuple[int, ...], bool, bool, int | None]]:
        graph = Graph((ValueSpec("float32", (None, 8)),), nodes, outputs)
        model = PackedModel((w, b, wide), graph)
        cut, whole = (Network.from_packed(model, 1, engine=engine) for engine in ("sparse", "onnxruntime"))
        x = np.random.default_rng(0).normal(size=(3, 8)).astype(F32)
        for got, right in zip(cut.run((x,)), whole.run((x,)), strict=True):
            np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-6)
        layers = layers_of(model)
        assert [layer.implementation for layer in cut.layers] == ["sparse"] * len(layers)
        return [(one.part.values, one.bias is not None, one.relu, one.part.plus) for one in layers]

    linear, relu = make_node("linear", (0, -1, -2)), make_node("relu", (1,))
    assert found((2,), linear, relu) == [((1, 2), True, True, None)]
    assert found((1, 2), linear, relu) == [((1,), True, False, None)]
    assert found((3,), linear, relu, make_node("add", (1, 2))) == [((1,), True, False, None)]
    product = make_node("linear", (0, -1))
    assert found((3,), product, make_node("add", (-2, 1)), make_node("relu", (2,))) == [
        ((1, 2, 3), True, True, None)
    ]
    assert found((3,), product, make_node("add", (1, -3)), make_node("relu", (2,))) == [
        ((1,), False, False, None)
    ]
    other = make_node("linear", (0, -1, -3))  # a bias that is no vector is added by ONNX Runtime
    assert found((2,), other, relu) == [((1,), False, False, -3)]
    assert found((1,), make_node("linear", (0, -1, 0))) == [((1,), False, False, 0)]


def test_a_product_with_a_transposed_stored_matrix_is_a_layer() -> None:
    """As of tied embeddings; a product of two computed values is none."""
    nodes = (
        make_node("permute", (-1,), perm=(1, 0)),
        make_node("matmul", (0, 1)),
        make_node("permute", (0,), perm=(1, 0)),
        make_node("matmul", (3, 2)),
    )
    model = PackedModel((sparse("w", 5, 8),), Graph((ValueSpec("float32", (5, 8)),), nodes, (4,)))
    assert [(layer.name, layer.part.values) for layer in layers_of(model)] == [("w", (2,))]
    *_, behind = parts(model, np.random.default_rng(0).normal(size=(5, 8)).astype(F32))
    assert len(behind.inputs) == 2
