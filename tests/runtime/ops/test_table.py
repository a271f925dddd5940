"""The table of operations: a row for each of the format's, every column filled, every kind known to cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from laconic.cost.counts import BESIDE
from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import OPS, OpSpec, make_node
from laconic.records import Graph, Node, PackedModel, ValueSpec
from laconic.runtime.graph.shapes import follow
from laconic.runtime.graph.types import value_types
from laconic.runtime.onnx_model.model import to_onnx
from laconic.runtime.ops import row
from laconic.runtime.ops.row import Op, plain
from laconic.runtime.ops.table import TABLE, int8_of, row_of

X = Graph((ValueSpec("float32", (2, 3)),), (), ())


def _samples(spec: OpSpec) -> Iterator[Node]:
    """A node with defaults, and one for each choice of each attribute: columns may look at attributes."""
    refs = (0,) * spec.least
    yield make_node(spec.name, refs)
    for attribute in spec.attrs:
        for choice in attribute.choices[1:]:
            yield make_node(spec.name, refs, **{attribute.name: choice})


def test_both_tables_have_the_same_operations() -> None:
    assert set(TABLE) == {spec.name for spec in OPS}


@pytest.mark.parametrize("spec", OPS, ids=lambda spec: spec.name)
def test_every_column_of_every_row_says_something(spec: OpSpec) -> None:
    """A form, a shape rule, result types, a rank rule; int8, folding, channels and cost from their lists."""
    entry = TABLE[spec.name]
    assert callable(entry.form) and callable(entry.shape) and callable(entry.rank)
    assert entry.folds in get_args(row.Folds) and entry.channels in get_args(row.Channels)
    assert entry.cost in get_args(row.Cost)
    assert entry.takes.first in get_args(row.First)
    for node in _samples(spec):
        assert int8_of(node) in get_args(row.Int8)
        given = ["int64" if spec.name in ("floor_divide", "remainder") else "float32"] * max(2, spec.least)
        assert len(entry.result(node, given)) == spec.n_outputs


def test_no_column_has_a_default() -> None:
    """So a column that is added later is a question to every row."""
    assert Op._field_defaults == {}


def test_cost_counts_every_kind() -> None:
    assert set(get_args(row.Cost)) | {"conversion"} == set(BESIDE)


def test_an_unknown_operation_is_refused_by_name() -> None:
    with pytest.raises(CorruptFileError, match="'mystery', which this runtime does not know"):
        row_of("mystery")


def test_a_pointwise_operation_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a row of the format and this one, shapes, types, int8 and the ONNX model know the operation."""
    softcap = OpSpec(120, "softcap", "x", 1, 1)

    def form(b: Any, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        return (b.op("Tanh", x[0]),)

    monkeypatch.setitem(TABLE, "softcap", plain(form, TABLE["relu"].shape, row.Takes("reals"), "pointwise"))
    graph = Graph(X.inputs, (Node("softcap", (0,), {}, softcap.n_outputs),), (1,))
    assert follow(graph, [], [(2, 3)]) == [(2, 3), (2, 3)]
    assert value_types(graph, []) == ["float32", "float32"]
    assert int8_of(graph.nodes[0]) == "float"
    kinds = [node.op_type for node in to_onnx(PackedModel((), graph)).graph.node]
    assert kinds == ["Tanh", "Identity"]
    assert TABLE["softcap"].cost in BESIDE
