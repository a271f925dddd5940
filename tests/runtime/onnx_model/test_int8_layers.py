"""What the nodes of int8 layers hold, known before a node is written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from laconic.pack.graph.ops import make_node
from laconic.records import ActivationRange, Graph, IntTensor, RawTensor, UniformGrid, ValueSpec
from laconic.runtime.int8.filling import Channels, filled_channels, integer_pads
from laconic.runtime.int8.schedule import schedule_of
from laconic.runtime.onnx_model.int8_layers import LayerForm, layer_forms

HALF = ActivationRange(0, 0.5, 0)


def form_of(shape: tuple[int | None, ...], channels: Mapping[int, Channels]) -> LayerForm:
    """A linear layer of weights [[1, 0], [0, -2]] and bias [1, 2] on inputs of scale 0.5."""
    weight = IntTensor("w", np.int32([[1, 0], [0, -2]]), UniformGrid(1.0))
    bias = RawTensor("b", np.float32([1, 2]))
    ranges = (HALF, ActivationRange(1, 0.25, 0))
    graph = Graph((ValueSpec("float32", shape),), (make_node("linear", (0, -1, -2)),), (1,), ranges)
    return layer_forms(schedule_of(graph), (weight, bias), channels, {0, 1})[1]


def test_a_linear_layer_on_a_matrix_is_one_node_with_its_bias_in_integers() -> None:
    form = form_of((None, 2), {})
    assert (form.kind, form.weight.tolist(), form.attrs) == ("Gemm", [[1, 0], [0, -1]], {"transB": 1})
    assert form.scales is not None and form.units is not None
    assert (form.scales.tolist(), form.units.tolist()) == ([1.0, 2.0], [0.5, 1.0])
    assert (form.bias.tolist(), form.bias.dtype) == ([2, 2], np.int32)


def test_elsewhere_it_is_a_product_and_a_sum_in_float32() -> None:
    form = form_of((None, 7, 2), {})
    assert (form.kind, form.weight.tolist(), form.units) == ("MatMul", [[1, 0], [0, -1]], None)
    assert (form.bias.tolist(), form.bias.dtype) == ([1.0, 2.0], np.float32)


def test_columns_of_zeros_stand_behind_those_of_padded_channels() -> None:
    assert form_of((None, 2), {0: Channels(1, 3)}).weight.tolist() == [
        [1, 0, 0, 0, 0, 0],
        [0, -1, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"pads": (1, 2, 3, 4)}, {1: [0, 0, 3, 1, 0, 0, 4, 2]}),
        ({"pads": (0, 0, 0, 0, 0, 2)}, {1: [0, 0, 0, 0, 0, 2, 0, 0]}),
        ({"pads": (1, 1), "mode": "reflect"}, {}),
        ({"pads": (1, 1), "value": 1.0}, {}),
    ],
)
def test_zero_padding_of_an_integer_value_stays_in_integers(
    attributes: Mapping[str, object], wanted: Mapping[int, list[int]]
) -> None:
    nodes = (make_node("pad", (0,), **attributes), make_node("relu", (1,)))  # type: ignore[arg-type]
    graph = Graph((ValueSpec("float32", (None, 3, 8, 8)),), nodes, (2,), (HALF,))
    assert integer_pads(graph, schedule_of(graph), {}, {0, 1}) == wanted
    assert integer_pads(graph, schedule_of(graph), {}, {0}) == {}, "nothing reads the padded value"


def test_inputs_are_padded_to_the_channels_of_their_readers() -> None:
    weight = RawTensor("w", np.ones((16, 3, 1, 1), np.float32))
    ranges = (HALF, ActivationRange(1, 0.5, 0))
    graph = Graph((ValueSpec("float32", (None, 3, 8, 8)),), (make_node("conv", (0, -1)),), (1,), ranges)
    schedule = schedule_of(graph)
    channels = filled_channels(graph, schedule, (weight,))
    assert integer_pads(graph, schedule, channels, {0, 1}) == {0: (0, 0, 0, 0, 0, 1, 0, 0)}
