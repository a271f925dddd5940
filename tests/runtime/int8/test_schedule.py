"""What each step of a calibrated graph is in integer arithmetic, and which ranges reach which values."""

from __future__ import annotations

import pytest

from laconic.pack.graph.ops import make_node
from laconic.records import ActivationRange, Graph, Node, ValueSpec
from laconic.runtime.int8.schedule import schedule_of, to_calibrate

IMAGE = (ValueSpec("float32", (None, 3, 8, 8)),)


def graph_of(*nodes: Node, ranged: tuple[int, ...]) -> Graph:
    """Nodes one after the other on images; these values have a range."""
    ranges = tuple(ActivationRange(value, 0.125, 0) for value in ranged)
    return Graph(IMAGE, nodes, (len(nodes),), ranges)


def test_layers_take_in_their_activation_and_moves_keep_the_range() -> None:
    nodes = (make_node("conv", (0, -1)), make_node("relu", (1,)), make_node("max_pool", (2,)))
    found = schedule_of(graph_of(*nodes, ranged=(0, 2)))
    assert [(step.node.op, step.outputs) for step in found.steps] == [("conv", (2,)), ("max_pool", (3,))]
    assert found.kinds == ("layer", "move")
    assert found.ranges[3] == found.ranges[2]
    assert found.own == {0, 2}
    assert found.kind_at == {2: "layer", 3: "move"}


def test_a_value_with_a_range_of_its_own_is_not_folded_away() -> None:
    nodes = (make_node("conv", (0, -1)), make_node("relu", (1,)))
    found = schedule_of(graph_of(*nodes, ranged=(0, 1)))
    assert [step.outputs for step in found.steps] == [(1,), (2,)]
    assert found.kinds == ("layer", "move")


@pytest.mark.parametrize(
    ("node", "ranged", "kind"),
    [
        (make_node("avg_pool", (0,)), (0,), "average"),
        (make_node("avg_pool", (0,), ceil=True), (0,), "float"),
        (make_node("max_pool", (0,)), (0, 1), "float"),
        (make_node("pad", (0,)), (0,), "move"),
        (make_node("pad", (0,), value=1.0), (0,), "float"),
        (make_node("resize", (0,), mode="linear"), (0,), "float"),
        (make_node("add", (0, 0)), (0, 1), "join"),
        (make_node("add", (0, 0)), (0,), "float"),
        (make_node("add", (0, -1)), (0, 1), "float"),
        (make_node("conv", (0, -1)), (0,), "float"),
        (make_node("conv", (0, 0)), (0, 1), "float"),
        (make_node("gelu", (0,)), (0,), "float"),
        (make_node("relu", (0,)), (), "float"),
    ],
    ids=str,
)
def test_what_a_step_is(node: Node, ranged: tuple[int, ...], kind: str) -> None:
    assert schedule_of(graph_of(node, ranged=ranged)).kinds == (kind,)


def test_ranges_are_wanted_where_layers_read_and_write() -> None:
    nodes = (make_node("max_pool", (0,)), make_node("conv", (1, -1)), make_node("gelu", (2,)))
    assert to_calibrate(graph_of(*nodes, ranged=())) == (0, 2)
