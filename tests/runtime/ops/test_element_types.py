"""Element types: what is refused no engine runs; what was made by hand is named before an engine sees it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from laconic.errors import CorruptFileError, LaconicError
from laconic.pack import encode
from laconic.pack.graph.ops import make_node as node
from laconic.records import Graph, Node, PackedModel, ValueSpec
from laconic.runtime import load
from laconic.runtime.ops import results
from laconic.runtime.ops.table import row_of

TYPES = ("float32", "int64", "int32", "bool", "uint8")
S, V, M, W = (), (4,), (2, 4), (4, 4)
# Every operation with a rule, with shapes that fit.
NODES: tuple[tuple[Node, tuple[tuple[int, ...], ...]], ...] = (
    *((node(op, (0,)), (M,)) for op in (
        "relu", "sigmoid", "tanh", "silu", "hardsigmoid", "mish", "exp", "sqrt", "erf", "floor", "round",
        "selu", "hardswish", "softsign", "log", "sin", "cos", "reciprocal", "ceil", "elu", "leaky_relu",
        "log_softmax", "atan", "neg", "abs", "sign", "gelu", "softplus", "softmax", "sum", "mean", "prod",
        "cumsum", "logical_not",
    )),
    *((node(op, (0, 1)), (M, M)) for op in (
        "add", "sub", "mul", "div", "minimum", "maximum", "eq", "ne", "lt", "ge", "logical_and", "logical_or",
    )),
    *((node(op, (0,), scalar=2.0), (M,)) for op in ("add", "mul", "lt")),
    (node("argmax", (0,), axis=0), (M,)),
    (node("topk", (0,), axis=0), (M,)),
    (node("take", (0, 1)), (M, V)),
    (node("gather", (0, 1)), (M, M)),
    (node("embedding", (0, 1)), (V, M)),
    (node("scatter", (0, 1, 2)), (M, M, M)),
    (node("where", (0, 1, 2)), (M, M, M)),
    (node("concat", (0, 1)), (M, M)),
    (node("stack", (0, 1)), (M, M)),
    (node("matmul", (0, 1)), (M, W)),
    (node("einsum", (0, 1), equation="ab,bc->ac"), (M, W)),
    (node("linear", (0, 1, 2)), (M, W, V)),
    (node("layer_norm", (0, 1, 2)), (M, V, V)),
    (node("prelu", (0, 1), rank=2), (M, V)),
)  # fmt: skip


def file_of(made: Node, shapes: tuple[tuple[int, ...], ...], kinds: tuple[str, ...]) -> bytes:
    inputs = tuple(ValueSpec(kind, shape) for kind, shape in zip(kinds, shapes, strict=True))
    return encode(PackedModel((), Graph(inputs, (made,), (len(inputs),))))


@pytest.mark.parametrize(("made", "shapes"), NODES, ids=lambda x: x.op if isinstance(x, Node) else "")
def test_what_is_refused_no_engine_runs(
    made: Node, shapes: tuple[tuple[int, ...], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []
    for kinds in product(TYPES, repeat=len(shapes)):
        if len(set(kinds)) > 2:
            continue
        try:
            results.check_element_types(made, row_of(made.op).takes, kinds)
        except CorruptFileError as error:
            refused.append(kinds)
            assert "it must hold" in str(error)
    assert refused
    monkeypatch.setattr(results, "check_element_types", lambda node, takes, kinds: None)
    for kinds in refused:
        with pytest.raises(LaconicError):
            load(file_of(made, shapes, kinds), threads=1)


@pytest.mark.parametrize(
    ("made", "shapes", "kinds", "text"),
    [
        (
            node("take", (0, 1)),
            (M, V),
            ("float32", "float32"),
            "'take'.*input 1 holds float32, .* int64 or int32",
        ),
        (node("embedding", (0, 1)), (V, M), ("bool", "float32"), "'embedding'.*input 0 holds bool"),
        (node("where", (0, 1, 2)), (M, M, M), ("float32",) * 3, "'where'.*input 0 holds float32, .* bool"),
        (
            node("add", (0, 1)),
            (M, M),
            ("float32", "int64"),
            "input 1 holds int64, .* float32 as input 0 does",
        ),
        (node("linear", (0, 1)), (M, W), ("int64", "float32"), "input 1 holds float32, .* int64 as input 0"),
        (node("logical_not", (0,)), (M,), ("float32",), "input 0 holds float32, it must hold bool"),
        (node("sigmoid", (0,)), (M,), ("int64",), "input 0 holds int64, it must hold float32 or float16"),
    ],
)
def test_a_wrong_type_is_named(
    made: Node, shapes: tuple[tuple[int, ...], ...], kinds: tuple[str, ...], text: str
) -> None:
    with pytest.raises(CorruptFileError, match=text):
        load(file_of(made, shapes, kinds), threads=1)


def test_right_types_run() -> None:
    made = node("take", (0, 1))
    for index in ("int64", "int32"):
        net = load(file_of(made, (M, V), ("float32", index)), threads=1)
        x = np.arange(8, dtype=np.float32).reshape(2, 4)
        y = net(x, np.array([1, 0, 1, 1], index))
        np.testing.assert_array_equal(np.asarray(y), x[[1, 0, 1, 1]])
